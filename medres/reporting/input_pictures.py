"""Pictures of what a network reads: every channel, the middle of a volume in three planes, slices side by side."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from medres.planning.plan import Plan

Pixels = npt.NDArray[np.float32]

#: Longest edge in pixels of one image, one plane of a volume, one slice.
_EDGES = {2.0: 200, 3.0: 150, 2.5: 104}
#: Slices that are shown of a scan.
MOST_SLICES = 8
_GAP = 3
_TAILS = (0.5, 99.5)
#: How bright a slice is shown that the network is not.
_LEFT_OUT = 0.25

#: Which axis of the body is upright in a picture: feet to head before front to back before left to right.
_UPRIGHT = {"S": 0, "I": 0, "A": 1, "P": 1, "L": 2, "R": 2}
_PLANES = {0: "axial", 1: "coronal", 2: "sagittal"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How the scans of a plan are shown: the same grey levels for a scan and for all its random changes.

    Args:
        plan: How scans are prepared.
        levels: What is black and what is white, one pair a channel.
        rows: Index and name of each channel that is shown, from top to bottom.
    """

    plan: Plan
    levels: tuple[tuple[float, float], ...]
    rows: tuple[tuple[int, str], ...]

    def picture(self, scan: Pixels, *, kept: npt.NDArray[np.bool_] | None = None) -> bytes:
        """Return a PNG: one row a channel, one column a plane or slice.

        Args:
            scan: ``(C, *spatial)`` as the network reads it; in 2.5D ``(C, D, H, W)`` without neighbours.
            kept: In 2.5D ``(D,)``, the slices that the network is shown; others are darkened.
        """
        rows = [np.hstack([*self._cells(scan[channel], self.levels[channel], kept)]) for channel, _ in self.rows]
        width = max(row.shape[1] for row in rows)
        page = np.vstack([_with_margin(row, below=_GAP, right=width - row.shape[1]) for row in rows])
        file = io.BytesIO()
        Image.fromarray(page[:-_GAP, :-_GAP]).save(file, format="PNG", optimize=True)
        return file.getvalue()

    @property
    def columns(self) -> str:
        """What the columns are, in words; empty for images."""
        if self.plan.spatial_dims == 2:
            return ""
        if self.plan.slicewise:
            return f"{plane_name(self.plan, 0)} slices, evenly over the scan"
        return ", ".join(plane_name(self.plan, axis) for axis in range(3))

    def _cells(
        self, channel: Pixels, levels: tuple[float, float], kept: npt.NDArray[np.bool_] | None
    ) -> Iterator[npt.NDArray[np.uint8]]:
        for plane, axis, there in self._planes(channel, kept):
            grey = _grey(plane, levels) * (1.0 if there else _LEFT_OUT)
            held = _held(grey, self._axes(axis), self._pitch(axis))
            drawn = _resized(*held, edge=_EDGES[self.plan.dims])
            # cells of one row are as high as the highest
            yield _with_margin(drawn, below=_EDGES[self.plan.dims] - drawn.shape[0], right=_GAP)

    def _planes(self, channel: Pixels, kept: npt.NDArray[np.bool_] | None) -> Iterator[tuple[Pixels, int, bool]]:
        if self.plan.spatial_dims == 2:
            yield channel, -1, True
        elif self.plan.slicewise:
            for place in shown_slices(channel.shape[0]):
                yield channel[place], 0, kept is None or bool(kept[place])
        else:
            yield from ((channel.take(channel.shape[axis] // 2, axis=axis), axis, True) for axis in range(3))

    def _axes(self, across: int) -> str:
        """Return the letters of the rows and columns of a plane, or nothing where they are not known."""
        code = self.plan.orientation or ""
        return code[:across] + code[across + 1 :]

    def _pitch(self, across: int) -> tuple[float, float]:
        spacing = self.plan.spacing_mm or (1.0,) * self.plan.spatial_dims
        kept = spacing[-2:] if across < 0 or self.plan.slicewise else spacing[:across] + spacing[across + 1 :]
        return kept[0], kept[1]


def shown_as(plan: Plan, scan: Pixels) -> Shown:
    """Return how a scan is shown that was prepared by a plan and not changed.

    Windows and images are black at 0 and white at 1 of their scale; z-scores between the 0.5th and the 99.5th
    percentile of the scan. Channels that repeat the first one are shown once.

    Args:
        plan: The plan.
        scan: ``(C, *spatial)`` as the network reads it; in 2.5D without neighbours.
    """
    levels = tuple(_levels(plan, channel, values) for channel, values in enumerate(scan))
    greys = [_grey(values, bounds) for values, bounds in zip(scan, levels, strict=True)]
    repeated = all(np.allclose(grey, greys[0], atol=0.5) for grey in greys)
    names = channel_names(plan)
    rows = ((0, names[0] if len(names) == 1 else ""),) if repeated else tuple(enumerate(names))
    return Shown(plan=plan, levels=levels, rows=rows)


def channel_names(plan: Plan) -> tuple[str, ...]:
    """Return what the channels of a scan are called, neighbours left out.

    Example:
        >>> plan = Plan(spatial_dims=2, modality="CT", shape=(8, 8), in_channels=2, batch_size=1, augmentation={},
        ...             intensity={"scheme": "hu_windows", "windows_hu": ("lung", (0.0, 80.0))})
        >>> channel_names(plan)
        ('lung', '0 to 80 HU')
    """
    windows = [
        name if isinstance(name, str) else f"{name[0]:g} to {name[1]:g} HU" for name in plan.intensity.windows_hu
    ]
    sequences = plan.reading.sequences
    if windows:
        return tuple(f"{name} {window}".strip() for name in sequences or ("",) for window in windows)
    return sequences or tuple(f"channel {n + 1}" for n in range(plan.slice_channels))


def plane_name(plan: Plan, across: int) -> str:
    """Return what a plane is called: as radiologists do where the axes are known."""
    if plan.orientation is None:
        return f"across {'DHW'[across]}"
    return _PLANES[_UPRIGHT[plan.orientation[across]]]


def shown_slices(count: int) -> list[int]:
    """Return which of ``count`` slices are shown, evenly.

    Example:
        >>> shown_slices(3), shown_slices(16)
        ([0, 1, 2], [0, 2, 4, 6, 9, 11, 13, 15])
    """
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, MOST_SLICES)).round())]


def _levels(plan: Plan, channel: int, values: Pixels) -> tuple[float, float]:
    if plan.intensity.scheme == "robust_zscore":
        low, high = (float(bound) for bound in np.percentile(values, _TAILS))
        return (low, high) if low < high else (low - 1, low + 1)
    place = channel * plan.neighbours + plan.neighbours // 2
    mean, std = (bounds[place if len(bounds) > 1 else 0] for bounds in (plan.intensity.mean, plan.intensity.std))
    return -mean / std, (1 - mean) / std


def _grey(values: Pixels, levels: tuple[float, float]) -> Pixels:
    grey: Pixels = ((values - levels[0]) / (levels[1] - levels[0]) * 255).clip(0, 255)
    return grey


def _held(plane: Pixels, axes: str, pitch: tuple[float, float]) -> tuple[Pixels, tuple[float, float]]:
    """Turn a plane as a radiologist holds it: head or front on top, the patient's right on the left."""
    if not axes:
        return plane, pitch
    rows, columns = axes[0], axes[1]
    if _UPRIGHT[rows] > _UPRIGHT[columns]:
        plane, pitch, rows, columns = plane.T, pitch[::-1], columns, rows
    turned = plane[:: -1 if rows in "SA" else 1, :: -1 if columns in "RA" else 1]
    return turned, pitch


def _resized(plane: Pixels, pitch: Sequence[float], *, edge: int) -> npt.NDArray[np.uint8]:
    """Return grey and opacity ``(height, width, 2)``, the longest edge as given."""
    height, width = (size * step for size, step in zip(plane.shape, pitch, strict=True))
    scale = edge / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(np.rint(plane).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    grey = np.asarray(image)
    return np.dstack([grey, np.full_like(grey, 255)])


def _with_margin(drawn: npt.NDArray[np.uint8], *, below: int, right: int) -> npt.NDArray[np.uint8]:
    """Add what is not of the scan: transparent, so that it cannot be taken for air."""
    return np.pad(drawn, ((0, below), (0, right), (0, 0)))
