"""2D, 2.5D or 3D."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from medres.errors import PlanError
from medres.planning.choice import Choice
from medres.planning.fingerprint import Fingerprint, Grid

Dims = Literal["auto", "2", "2.5", "3"]

_KNOWN = ("auto", "2", "2.5", "3")

#: Slices at least this many times as thick as their pixels are wide are read one by one: a kernel of 3 x 3 x 3 would
#: see three times as far across them as within them, and interpolating them to cubes only makes up what lies between.
SLICEWISE_FROM = 3.0

#: A 3D net of stride 32 needs 64 slices for two positions of its last feature map. Where there are fewer they would
#: have to be interpolated; where there are more, it can work.
_FEW_SLICES = 64


def choose_dims(
    fingerprint: Fingerprint, *, dims: Dims = "auto", backbone_dims: Collection[int] = (2, 3)
) -> Choice[float]:
    """Return 2, 2.5 or 3, and why; needed before the backbone is known.

    Args:
        fingerprint: Of the training scans.
        dims: ``auto``, or what the user asks for.
        backbone_dims: Dimensions that the backbone (and its weights) exist in; decides between 2.5 and 3.

    Raises:
        PlanError: The data mixes images and volumes, or cannot be read in the dimensions asked for.
    """
    images, volumes = fingerprint.num_images, fingerprint.num_volumes
    if images and volumes:
        raise PlanError(
            f"The data mixes {images} images (2D) and {volumes} volumes (3D); one network reads one kind.",
            fix="Split it into two folders or tables and train one run on each.",
        )
    require_possible(str(dims), images=images, volumes=volumes)
    if images or fingerprint.volumes is None:
        return Choice(2, f"All {images} scans are 2D images.")
    if dims == "auto":
        return _by_grid(fingerprint.volumes, backbone_dims)
    reading = "slice by slice (2.5D)" if dims == "2.5" else "in 3D"
    return Choice(float(dims), f"All {volumes} scans are volumes; they are read {reading}, as you asked for.")


def scan_dims(dims: float) -> Literal[2, 3]:
    """Return the spatial dimensions of the scans: volumes in 2.5D and 3D.

    Example:
        >>> scan_dims(2), scan_dims(2.5), scan_dims(3)
        (2, 3, 3)
    """
    return 2 if dims == 2 else 3


def network_dims(dims: float) -> Literal[2, 3]:
    """Return the spatial dimensions of the backbone: in 2.5D it reads images.

    Example:
        >>> network_dims(2), network_dims(2.5), network_dims(3)
        (2, 2, 3)
    """
    return 3 if dims == 3 else 2


def _by_grid(grid: Grid, backbone_dims: Collection[int]) -> Choice[float]:
    all_volumes = f"All {grid.num_scans} scans are volumes"
    if 3 not in backbone_dims:
        return Choice(2.5, f"{all_volumes}; the backbone reads images, so that they are read slice by slice.")
    if 2 not in backbone_dims:
        return Choice(3, f"{all_volumes}, which are read in 3D: so does the backbone.")
    thick, why = _thick_slices(grid)
    return Choice(2.5 if thick else 3, f"{all_volumes}, which are read {'slice by slice' if thick else 'in 3D'}: {why}")


def _thick_slices(grid: Grid) -> tuple[bool, str]:
    """Return whether volumes are stacks of few, thick slices, and what says so."""
    if grid.spacing_mm is None or grid.anisotropy is None or grid.num_with_spacing < grid.num_scans:
        return False, "not all of them say how thick their slices are."
    ratio = f"the median volume has slices {grid.anisotropy.median:.2g} times as thick as its pixels are wide"
    rule = f"from {SLICEWISE_FROM:g} times on, with at most {_FEW_SLICES} slices, they would be read one by one"
    axis = _coarse_axis(grid)
    if grid.anisotropy.median < SLICEWISE_FROM or axis is None:
        return False, f"{ratio} ({rule})."
    count = grid.size[axis].median
    if count > _FEW_SLICES:
        return False, f"{ratio}, but {count:g} of them ({rule})."
    return True, f"{ratio}, and {count:g} of them: too few and too far apart for a third axis ({rule})."


def _coarse_axis(grid: Grid) -> int | None:
    """Return the axis of the fingerprint across the slices of most volumes; None where they do not agree."""
    if not grid.num_with_orientation:
        # D of the plan will be K of the files: thick along another axis, they would be cut across their slices
        steps = [step.median for step in grid.spacing_mm or ()]
        return 0 if steps.index(max(steps)) == 0 else None
    name, count = max(grid.coarse_axes.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    return "DHW".index(name) if 2 * count > grid.num_scans else None


def require_possible(dims: str, *, images: int, volumes: int) -> None:
    """Refuse dimensions that scans do not have.

    Args:
        dims: What the user asks for.
        images: Number of scans that are images.
        volumes: Number of scans that are volumes.

    Raises:
        PlanError: Naming what fits.
    """
    if dims not in _KNOWN:
        raise PlanError(f"dims {dims!r} is unknown.", fix=f"Use one of {', '.join(_KNOWN)}.")
    if volumes and dims == "2":
        raise PlanError(
            f"The {volumes} scans are volumes, which a 2D network cannot read; slices that are shown to it one by "
            "one would each bear the label of the whole volume.",
            fix="Use --dims 2.5, which reads all slices of a volume with a 2D network, or --dims 3.",
        )
    if images and dims in ("2.5", "3"):
        raise PlanError(
            f"The {images} scans are 2D images; there is no third axis.", fix="Use --dims 2, or leave --dims out."
        )
