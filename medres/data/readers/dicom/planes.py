"""Planes: frames with the file that holds them, sorted into volumes by where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.frames import Frame
from medres.data.readers.dicom.headers import Header
from medres.errors import UnreadableScanError

Floats = npt.NDArray[np.float64]

# Positions are written with 3 to 16 digits: below 1 % of a pixel they are one place.
_SAME_PLACE_PIXELS = 0.01
# Cosines that are off unit length or the right angle by more are no directions.
_COSINE_ERROR = 0.02
# Frames of one enhanced file that differ by more lie in different stacks; as for files of one series.
_SAME_COSINES = 0.01


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One image and the file it is in."""

    header: Header
    frame: Frame


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Directions of a stack in LPS, each of length 1, and the size of a pixel.

    Args:
        row: Along which the column index grows.
        column: Along which the row index grows.
        normal: ``row x column``.
        pixel_mm: Distance between rows, then between columns.
    """

    row: Floats
    column: Floats
    normal: Floats
    pixel_mm: tuple[float, float]


def planes_of(headers: Iterable[Header]) -> list[Plane]:
    """Return all frames of files, in the order of instance number and path."""
    ordered = sorted(headers, key=lambda one: (one.instance_number or 0, str(one.path)))
    return [Plane(header=header, frame=frame) for header in ordered for frame in header.frames]


def axes_of(planes: Sequence[Plane]) -> Axes:
    """Return the directions of planes that share them.

    Raises:
        UnreadableScanError: A plane has no place, or directions or pixel sizes that cannot be.
    """
    orientations = [plane.frame.orientation for plane in planes if plane.frame.orientation is not None]
    if len(orientations) < len(planes) or any(plane.frame.position is None for plane in planes):
        raise _damaged("has slices whose header does not say where they lie (Image Position, Image Orientation)")
    spacing = planes[0].frame.spacing_mm
    if spacing is None:
        raise _damaged("has slices whose header does not say how large a pixel is (Pixel Spacing)")
    cosines = np.mean(orientations, axis=0)
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > _COSINE_ERROR or abs(row @ column) > _COSINE_ERROR:
        raise _damaged("has an Image Orientation that is not two directions at right angles")
    row = row / lengths[0]
    column = column - (column @ row) * row
    column /= np.linalg.norm(column)
    return Axes(row=row, column=column, normal=np.cross(row, column), pixel_mm=spacing)


def offsets_mm(planes: Sequence[Plane], axes: Axes) -> Floats:
    """Return where planes lie relative to the first: along row, column and normal, ``(N, 3)`` in mm."""
    positions = np.array([plane.frame.position for plane in planes], dtype=np.float64)
    offsets: Floats = (positions - positions[0]) @ np.stack([axes.row, axes.column, axes.normal], axis=1)
    return offsets


def split_stacks(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Split planes by orientation, in the order in which they come."""
    stacks: list[list[Plane]] = []
    for plane in planes:
        stack = next((stack for stack in stacks if _parallel(stack[0].frame, plane.frame)), None)
        if stack is None:
            stacks.append([plane])
        else:
            stack.append(plane)
    return stacks


def split_places(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Group planes that lie at one place, in ascending order along the normal.

    Raises:
        UnreadableScanError: Planes lie side by side, or have no place.
    """
    axes = axes_of(planes)
    offsets = offsets_mm(planes, axes)
    tolerance = _SAME_PLACE_PIXELS * min(axes.pixel_mm)
    order = np.argsort(offsets[:, 2], kind="stable")
    starts = np.flatnonzero(np.diff(offsets[order, 2], prepend=-np.inf) > tolerance)
    groups = np.split(order, starts[1:])
    if any(np.ptp(offsets[group, :2], axis=0).max() > min(axes.pixel_mm) for group in groups):
        raise UnreadableScanError(
            "has slices that lie side by side in one plane", fix="Name one of its series.", code="slices-contradict"
        )
    return [[planes[int(index)] for index in group] for group in groups]


def split_volumes(
    places: Sequence[Sequence[Plane]], *, pixels_of: Callable[[Plane], bytes]
) -> tuple[list[list[Plane]], int]:
    """Divide places into volumes.

    Args:
        places: Planes by place, in order along the normal.
        pixels_of: A digest of a plane's values; asked for only where planes share a place.

    Returns:
        The volumes, each a plane from every place, and how many pixel-identical copies were left out.

    Raises:
        UnreadableScanError: Some places hold more images than others, and they differ.
    """
    counts = {len(place) for place in places}
    if counts == {1}:
        return [[place[0] for place in places]], 0
    if len(counts) == 1 and any(_differ(place, pixels_of) for place in places):
        return _in_order(places), 0
    unique = [_without_copies(place, pixels_of) for place in places]
    num_copies = sum(map(len, places)) - sum(map(len, unique))
    if len({len(place) for place in unique}) > 1:
        raise _contradiction(unique)
    return _in_order(unique), num_copies


def _differ(place: Sequence[Plane], pixels_of: Callable[[Plane], bytes]) -> bool:
    return len(_without_copies(place, pixels_of)) == len(place)


def _without_copies(place: Sequence[Plane], pixels_of: Callable[[Plane], bytes]) -> list[Plane]:
    if len(place) == 1:
        return list(place)
    return list({pixels_of(plane): plane for plane in reversed(place)}.values())[::-1]


def _in_order(places: Sequence[Sequence[Plane]]) -> list[list[Plane]]:
    """Sort each place by what tells the volumes apart: the tags that take the same values at every place."""
    names = _telling(places)
    ordered = [sorted(place, key=lambda plane: _sort_key(plane, names)) for place in places]
    return [[place[index] for place in ordered] for index in range(len(places[0]))]


def _telling(places: Sequence[Sequence[Plane]]) -> list[str]:
    names = [name for name in places[0][0].frame.order if all(name in p.frame.order for place in places for p in place)]
    return [name for name in names if len({_values(place, name) for place in places}) == 1]


def _values(place: Sequence[Plane], name: str) -> tuple[str, ...]:
    return tuple(sorted(str(plane.frame.order[name]) for plane in place))


def _sort_key(plane: Plane, names: Sequence[str]) -> tuple[object, ...]:
    told = tuple(plane.frame.order[name] for name in names)
    return (*told, plane.header.instance_number or 0, str(plane.header.path), plane.frame.number)


def _parallel(one: Frame, other: Frame) -> bool:
    if one.orientation is None or other.orientation is None:
        return one.orientation is other.orientation
    return all(abs(a - b) <= _SAME_COSINES for a, b in zip(one.orientation, other.orientation, strict=True))


def _contradiction(places: Sequence[Sequence[Plane]]) -> UnreadableScanError:
    num_shared = sum(len(place) > 1 for place in places)
    return UnreadableScanError(
        f"has slices that differ at the same place, at {num_shared} of its {len(places)} places",
        fix="Two acquisitions are mixed: separate their files, or choose another series with --series.",
        code="slices-contradict",
    )


def _damaged(problem: str) -> UnreadableScanError:
    return UnreadableScanError(problem, fix="Export the series again from its source.", code="header-damaged")
