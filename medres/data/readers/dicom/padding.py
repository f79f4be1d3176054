"""Padding: pixels that fill a slice up to its rectangle and measure nothing (Pixel Padding Value, PS3.3 C.7.5.1.1.2).

A header may name a value that tissue has as well, or a range that holds most of it; taken by the word, it would flatten
what was measured. So what is named is believed only where it looks like padding: even areas that reach the edge of the
picture. Below air nothing is measured in a CT, and there the header is always believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

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

# Single pixels at the edge that happen to have the value are tissue.
_LEAST_AREA = 10

_DOUBT = (
    "padding-doubt: its header names a padding value (or range) that its tissue has as well; the values were left as "
    "they are"
)


def padded_pixels(stored: Pixels, planes: Sequence[Plane]) -> tuple[Mask | None, tuple[str, ...]]:
    """Return which pixels are padding (None where there is none), and a note where the header was not believed.

    A padding of 0 is left: 0 is the lowest value of an unsigned image, the air around it, and no outlier. (In a CT of
    signed pixels it is water, and looked at like any other.)

    Args:
        stored: ``(N, rows, columns)`` as stored, or with a last axis of colours, which have no padding.
        planes: Of them.
    """
    if stored.ndim == 4 or all(_says_nothing(plane) for plane in planes):
        return None, ()
    padded, doubtful = _each(_below_air, stored, planes), False
    for named in (_each(_exact_value, stored, planes), _each(_in_range, stored, planes)):
        named &= ~padded  # the value first, then the rest of its range: one may be padding and the other tissue
        believed = _padding_among(named, stored)
        doubtful |= bool((named & ~believed).any())
        padded |= believed
    return (padded if padded.any() else None), (_DOUBT,) if doubtful else ()


def _each(rule: Callable[[Pixels, Plane], Mask], stored: Pixels, planes: Sequence[Plane]) -> Mask:
    empty = np.zeros(stored.shape[1:], dtype=np.bool_)
    masks = [
        empty if _says_nothing(plane) else rule(pixels, plane) for pixels, plane in zip(stored, planes, strict=True)
    ]
    return np.stack(masks)


def _says_nothing(plane: Plane) -> bool:
    padding, water = plane.header.padding, plane.header.signed and plane.header.modality == "CT"
    return padding is None or (not any(padding) and not water)


def _in_range(pixels: Pixels, plane: Plane) -> Mask:
    assert plane.header.padding is not None
    low, high = sorted(plane.header.padding)
    return np.asarray((pixels >= low) & (pixels <= high))


def _exact_value(pixels: Pixels, plane: Plane) -> Mask:
    assert plane.header.padding is not None
    return np.asarray(pixels == plane.header.padding[0])


def _below_air(pixels: Pixels, plane: Plane) -> Mask:
    """Return what of a CT lies at or below its padding and below air: a lossy one rings around its padding."""
    assert plane.header.padding is not None
    frame = plane.frame
    if plane.header.modality != "CT" or frame.table is not None or frame.slope <= 0:
        return np.zeros(pixels.shape, dtype=np.bool_)
    below_air = (_BELOW_AIR_HU - frame.intercept) / frame.slope
    return np.asarray((pixels <= max(plane.header.padding)) & (pixels < below_air))


def _padding_among(named: Mask, stored: Pixels) -> Mask:
    """Return which of the pixels that a header names are padding: even areas that reach the edges of their slices.

    A value that lies beyond all others is padding inside the picture too; one that tissue could have is not.
    """
    if not named.any():
        return named
    if _is_beyond(named, stored) and _is_even(named, stored) and _reaches_edge(named):
        return named
    at_edge = np.stack([_edge_areas(mask) for mask in named])
    return at_edge if _is_even(at_edge, stored) and _reaches_edge(at_edge) else np.zeros_like(named)


def _is_beyond(mask: Mask, stored: Pixels) -> bool:
    inside, others = stored[mask], stored[~mask]
    return bool(others.size and (inside.max() < others.min() or inside.min() > others.max()))


def _is_even(mask: Mask, stored: Pixels) -> bool:
    return int((mask[..., 1:] & (stored[..., 1:] == stored[..., :-1])).sum()) >= _EVEN_SHARE * int(mask.sum())


def _reaches_edge(mask: Mask) -> bool:
    edges = (mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    return sum(int(edge.sum()) for edge in edges) >= _EDGE_SHARE * sum(edge.size for edge in edges)


def _edge_areas(mask: Mask) -> Mask:
    """Return the connected areas of a slice that touch its edge."""
    areas, _ = ndimage.label(mask)
    touching = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    large = np.flatnonzero(np.bincount(areas.ravel()) >= _LEAST_AREA)
    return np.asarray(np.isin(areas, np.intersect1d(touching[touching > 0], large)))
