"""Slices of a chosen series that were left out since they do not fit the others: which, why, and what is missing.

One slice of another matrix among 200 is no series of its own that nobody chose: it was meant for the volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.grouping import STACKED, DicomSeries, SliceGeometry
from medres.data.wording import counted

# Slices that lean by less belong to the stack that they lie in: a wrong rounding, or motion. A scout lies across.
_MOST_DEGREES = 10.0
# How far beyond the end of a stack, in distances between its slices, a slice still continues it.
_MOST_STEPS = 1.5
_MOST_NUMBERED, _MOST_PARTS = 5, 3


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What of a series is not in its volume.

    Args:
        what: A sentence without its subject's name: ``slice 12 of the chosen series has 256 x 256 pixels, ...``.
        missing: How many of these slices the volume lacks: they lie in it or continue it, where it has no other.
    """

    what: str
    missing: int

    @property
    def notes(self) -> tuple[str, ...]:
        """The same as notes of a reader."""
        divided = f"series-divided: {self.what}"
        return (divided,) if not self.missing else (divided, f"missing-slices: {self.lack}")

    @property
    def lack(self) -> str:
        """That the volume is incomplete."""
        belong = "belongs to it was" if self.missing == 1 else "belong to it were"
        return (
            f"the volume is incomplete: {counted(self.missing, 'slice')} that {belong} left out, since matrix, pixel "
            "spacing or orientation differ"
        )


def parts_of(chosen: DicomSeries, series: Sequence[DicomSeries]) -> tuple[DicomSeries, ...]:
    """Return the other parts of the chosen series: of the same uid and another geometry, and not called a scout.

    Images without a place (radiographs, captures) are scans of their own, whatever series they are in.
    """
    if chosen.modality not in STACKED and not chosen.geometry.positions:
        return ()
    return tuple(
        one
        for one in series
        if one.key != chosen.key and one.localizer == chosen.localizer and _identity(one) == _identity(chosen)
    )


def left_out_of(chosen: DicomSeries, series: Sequence[DicomSeries]) -> LeftOut | None:
    """Return what of the chosen series was left out, or None where all of it was taken.

    Args:
        chosen: The part that is the scan.
        series: All of the study.
    """
    parts = parts_of(chosen, series)
    if not parts:
        return None
    said = [f"{_numbered(part)} of the chosen series {_difference(part, chosen)}" for part in parts[:_MOST_PARTS]]
    if len(parts) > _MOST_PARTS:
        said.append(f"and {counted(len(parts) - _MOST_PARTS, 'other kind')} of slices")
    number = sum(part.num_images for part in parts)
    were = "was" if number == 1 else "were"
    return LeftOut(
        what=f"{'; '.join(said)}; {were} left out", missing=sum(_num_missing(part, chosen) for part in parts)
    )


def _identity(one: DicomSeries) -> tuple[str, ...]:
    # without a uid the folder tells what belongs together, as in grouping
    return one.patient_key, one.study_uid, one.series_uid or str(one.folder)


def _numbered(part: DicomSeries) -> str:
    numbers = sorted(part.instance_numbers)
    if not numbers:
        return counted(part.num_images, "slice")
    more = f" and {len(numbers) - _MOST_NUMBERED} more" if len(numbers) > _MOST_NUMBERED else ""
    return f"slice{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_MOST_NUMBERED]))}{more}"


def _difference(part: DicomSeries, chosen: DicomSeries) -> str:
    own, others = part.geometry, chosen.geometry
    have = "has" if max(len(part.instance_numbers), 1) == 1 else "have"
    if own.matrix != others.matrix:
        return f"{have} {_matrix(own)} pixels, the other {chosen.num_images} {_matrix(others)}"
    if own.spacing_mm != others.spacing_mm:
        return f"{have} pixels of {_spacing(own)}, the other {chosen.num_images} {_spacing(others)}"
    if own.orientation != others.orientation:
        return f"{have} another orientation than the other {chosen.num_images}"
    if own.samples != others.samples:
        return f"{have} {own.samples} values a pixel, the other {chosen.num_images} {others.samples}"
    if bool(own.positions) != bool(others.positions):
        return f"{have} {'a' if own.positions else 'no'} place, unlike the other {chosen.num_images}"
    return f"{have} another kind of image than the other {chosen.num_images}"


def _matrix(geometry: SliceGeometry) -> str:
    return " x ".join(map(str, geometry.matrix))


def _spacing(geometry: SliceGeometry) -> str:
    spacing = geometry.spacing_mm
    return "an unknown size" if spacing is None else f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"


def _num_missing(part: DicomSeries, chosen: DicomSeries) -> int:
    """Return how many slices of a part lie where the chosen stack has none, but between or next to its slices."""
    normal, own = _normal(chosen.geometry), _normal(part.geometry)
    if chosen.kind not in ("volume", "4d") or part.geometry.samples != chosen.geometry.samples:
        return 0
    if normal is None or own is None or abs(normal @ own) < math.cos(math.radians(_MOST_DEGREES)):
        return 0
    heights = np.unique(np.round(np.array(chosen.geometry.positions) @ normal, 3))
    if len(heights) < 2:
        return 0
    step = float(np.median(np.diff(heights)))
    stack = heights.tolist()
    for height in _from_the_middle(part, normal, stack):
        continues = stack[0] - _MOST_STEPS * step <= height <= stack[-1] + _MOST_STEPS * step
        if continues and min(abs(height - other) for other in stack) > step / 2:
            stack = sorted([*stack, height])
    return len(stack) - len(heights)


def _from_the_middle(part: DicomSeries, normal: npt.NDArray[np.float64], stack: Sequence[float]) -> list[float]:
    """Return where slices lie along a normal, those next to a stack first: one may continue the other."""
    middle = (stack[0] + stack[-1]) / 2
    heights = np.unique(np.round(np.array(part.geometry.positions) @ normal, 3)).tolist()
    return sorted(heights, key=lambda height: abs(height - middle))


def _normal(geometry: SliceGeometry) -> npt.NDArray[np.float64] | None:
    if geometry.orientation is None or not geometry.positions:
        return None
    normal = np.cross(geometry.orientation[:3], geometry.orientation[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0.5 else None
