"""Padding: pixels that fill a slice up to its rectangle, and are no measurement (Pixel Padding Value, PS3.3 C.7.5.1.1.2).

A header may name a value that tissue has as well, or a range that holds most of it; taken by the word, it would flatten
what was measured. So what is named is believed only where it looks like padding: even areas that reach the edge of the
picture. Below air nothing is measured in a CT, and there the header is always believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.planes import Plane

Pixels: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

# Air is -1000 HU, with noise and calibration down to -1024; paddings are -1024 (stored as 0) and below.
_BELOW_AIR_HU = -1000.0

# Padding is one value (or, of a lossy picture, nearly): most of its pixels have a neighbour of the same value. Of
# tissue in noise of 5 levels a twelfth has.
_EVEN_SHARE = 0.5

# It fills a picture up to its edge: of a round field of view the four corners, of a moved one a strip.
_EDGE_SHARE = 0.01

_DOUBT = (
    "padding-doubt: its header names a padding value (or range) that its tissue has as well; the values were left as "
    "they are"
)


def padded_pixels(stored: Pixels, planes: Sequence[Plane]) -> tuple[Mask | None, tuple[str, ...]]:
    """Return which pixels are padding (None where there is none), and a note where the header was not believed.

    A padding of 0 is left: 0 is the lowest value of an unsigned image, the air around it, and no outlier. (In a CT whose
    pixels are signed it is water, and looked at like any other.)

    Args:
        stored: ``(N, rows, columns)`` as stored, or with a last axis of colours, which have no padding.
        planes: Of them.
    """
    if stored.ndim == 4 or all(_says_nothing(plane) for plane in planes):
        return None, ()
    named, surely = np.zeros(stored.shape, dtype=np.bool_), np.zeros(stored.shape, dtype=np.bool_)
    for pixels, plane, by_word, by_value in zip(stored, planes, named, surely, strict=True):
        if not _says_nothing(plane):
            by_value |= _below_air(pixels, plane)
            by_word |= _in_range(pixels, plane) & ~by_value
    doubtful = bool(named.any()) and not _looks_like_padding(stored, named)
    if doubtful:
        named = _exact_value(stored, planes) & ~surely
        named &= _looks_like_padding(stored, named)
    padded = surely | named
    return (padded if padded.any() else None), (_DOUBT,) if doubtful else ()


def _says_nothing(plane: Plane) -> bool:
    header = plane.header
    return header.padding is None or (header.padding == (0, 0) and not (header.signed and header.modality == "CT"))


def _in_range(pixels: Pixels, plane: Plane) -> Mask:
    assert plane.header.padding is not None
    low, high = sorted(plane.header.padding)
    return np.asarray((pixels >= low) & (pixels <= high))


def _exact_value(stored: Pixels, planes: Sequence[Plane]) -> Mask:
    values = [np.nan if plane.header.padding is None or _says_nothing(plane) else plane.header.padding[0]
              for plane in planes]  # fmt: skip
    return np.asarray(stored == np.array(values)[:, None, None])


def _below_air(pixels: Pixels, plane: Plane) -> Mask:
    """Return what of a CT lies at or below its padding and below air: a lossy one rings around its padding."""
    assert plane.header.padding is not None
    frame = plane.frame
    if plane.header.modality != "CT" or frame.table is not None or frame.slope <= 0:
        return np.zeros(pixels.shape, dtype=np.bool_)
    below_air = (_BELOW_AIR_HU - frame.intercept) / frame.slope
    return np.asarray((pixels <= max(plane.header.padding)) & (pixels < below_air))


def _looks_like_padding(stored: Pixels, mask: Mask) -> bool:
    """Return whether pixels are even areas that reach the edges of their slices."""
    num = int(mask.sum())
    if not num:
        return False
    even = int((mask[..., 1:] & (stored[..., 1:] == stored[..., :-1])).sum())
    edges = (mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    at_edge = sum(int(edge.sum()) for edge in edges) / sum(edge.size for edge in edges)
    return even >= _EVEN_SHARE * num and at_edge >= _EDGE_SHARE
