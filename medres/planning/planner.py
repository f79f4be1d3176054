"""`make_plan`: every choice about a data set, from aggregates alone. Pure: the same values give the same plan."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from medres.data.readers.rules import ReadingRules
from medres.errors import PlanError
from medres.planning.augmentation import choose_augmentation
from medres.planning.axes import DEFAULT_ORIENTATION, scan_axes
from medres.planning.batch import choose_activation_bytes, choose_batch_size, choose_precision
from medres.planning.choice import Choice
from medres.planning.cropping import choose_crop
from medres.planning.dims import Dims, choose_dims, network_dims, scan_dims
from medres.planning.facts import BackboneFacts, MachineFacts
from medres.planning.fingerprint import Fingerprint, Grid
from medres.planning.intensity import choose_intensity, choose_modality
from medres.planning.orientation import choose_orientation
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Plan
from medres.planning.reading import require_reading, settle_reading
from medres.planning.shape import choose_shape, choose_spacing, grid_extent, require_shape, require_spacing
from medres.planning.slices import choose_neighbours, choose_pitch, choose_slices, require_pitch, require_slices
from medres.planning.stem import choose_stem, require_stem

__all__ = ["PlanOverrides", "check_plan", "choose_dims", "make_plan"]


def make_plan(
    fingerprint: Fingerprint, *, backbone: BackboneFacts, machine: MachineFacts, num_training_scans: int,
    dims: Dims = "auto", overrides: PlanOverrides | None = None, reading: ReadingRules = ReadingRules(),  # noqa: B008
    reading_reason: str = "", backbone_dims: Collection[int] | None = None,
) -> Plan:  # fmt: skip
    """Decide how scans are read and trained on.

    Args:
        fingerprint: Of the training scans.
        backbone: What the network asks of its input.
        machine: What the machine can bear.
        num_training_scans: Of the smallest fold.
        dims: ``auto``, or what the user asks for.
        overrides: What the user wishes; it is checked against the data and the backbone.
        reading: By which rules the scans of the fingerprint were read.
        reading_reason: Why these rules (`medres.planning.reading.choose_reading`); empty = they are described.
        backbone_dims: Dimensions that the architecture exists in, which ``auto`` chose from; None: those of `backbone`.

    Returns:
        A plan with one reason for each choice, under the name of its field.

    Raises:
        PlanError: The data cannot be planned for as asked; the message says what to change.
    """
    wishes = overrides or PlanOverrides()
    chosen = choose_dims(fingerprint, dims=dims, backbone_dims=backbone_dims or (backbone.spatial_dims,))
    _require_same_dims(chosen.value, backbone)
    grid, slicewise = _grid(fingerprint), chosen.value == 2.5
    choices: dict[str, Choice[Any]] = {
        "spatial_dims": Choice(scan_dims(chosen.value), chosen.reason), "slicewise": _slicewise(chosen.value)
    }  # fmt: skip
    choices["reading"] = settle_reading(reading, reading_reason, fingerprint)
    choices |= _choose_grid(grid, backbone, machine, wishes, regions=fingerprint.num_regions > 0, dims=chosen.value)
    choices |= _choose_values(fingerprint, backbone, wishes, slicewise=slicewise)
    choices["augmentation"] = choose_augmentation(
        modality=choices["modality"].value, spatial_dims=scan_dims(chosen.value),
        orientation=choices["orientation"].value, spacing_mm=choices["spacing_mm"].value, wishes=wishes,
        slicewise=slicewise,
    )  # fmt: skip
    choices["batch_size"] = choose_batch_size(
        choices["shape"].value, backbone=backbone.with_stem(choices["stem_stride"].value), machine=machine,
        num_training_scans=num_training_scans, wishes=wishes,
    )  # fmt: skip
    choices["precision"] = choose_precision(machine, wishes=wishes)
    choices["activation_bytes"] = choose_activation_bytes(machine, wishes=wishes)
    return _as_plan(choices, fingerprint)


def check_plan(plan: Plan, *, fingerprint: Fingerprint, backbone: BackboneFacts) -> None:
    """Refuse a plan (edited, or from another data set) that this data or this backbone cannot follow.

    Raises:
        PlanError: Naming the field, its value and what fits.
    """
    found = scan_dims(choose_dims(fingerprint).value)
    if plan.spatial_dims != found:
        raise PlanError(
            f"The plan's spatial_dims is {plan.spatial_dims}, the scans have {found}.",
            fix="Use a plan that was made for this kind of data, or leave --plan out.",
        )
    _require_same_dims(plan.dims, backbone)
    require_reading(plan.reading, fingerprint)
    require = require_slices if plan.slicewise else require_shape
    require_stem(plan.stem_stride, backbone=backbone, key="The plan's stem_stride")
    require(plan.shape, backbone=backbone.with_stem(plan.stem_stride), key="The plan's shape")
    _require_known_geometry(plan, _grid(fingerprint))


def _choose_grid(
    grid: Grid, backbone: BackboneFacts, machine: MachineFacts, wishes: PlanOverrides, *, regions: bool, dims: float
) -> dict[str, Choice[Any]]:
    spatial_dims = scan_dims(dims)
    orientation = choose_orientation(grid, spatial_dims=spatial_dims, wishes=wishes)
    crop = choose_crop(grid, wishes=wishes, regions=regions)
    # the fingerprint's axes are those of the default orientation
    order = scan_axes(DEFAULT_ORIENTATION, spatial_dims=spatial_dims, target=orientation.value or DEFAULT_ORIENTATION)
    extent = grid_extent(grid, crop=crop.value, order=order)
    (require_pitch if dims == 2.5 else require_spacing)(wishes.spacing_mm, extent)
    stem = choose_stem(extent, backbone=backbone, machine=machine, wishes=wishes)
    backbone = backbone.with_stem(stem.value)
    chosen: dict[str, Choice[Any]] = {"orientation": orientation, "crop": crop, "stem_stride": stem}
    if dims == 2.5:
        slices = choose_slices(
            grid, extent, crop=crop.value, order=order, backbone=backbone, machine=machine, wishes=wishes
        )
        pitch = choose_pitch(slices.value, extent, wishes=wishes)
        return {**chosen, "shape": slices, "spacing_mm": pitch}
    shape = choose_shape(extent, backbone=backbone, machine=machine, wishes=wishes)
    spacing = choose_spacing(shape.value, extent, wishes=wishes)
    return {**chosen, "shape": shape, "spacing_mm": spacing}


def _choose_values(
    fingerprint: Fingerprint, backbone: BackboneFacts, wishes: PlanOverrides, *, slicewise: bool
) -> dict[str, Choice[Any]]:
    modality = choose_modality(fingerprint, wishes=wishes)
    neighbours = choose_neighbours(wishes, slicewise=slicewise)
    intensity, channels = choose_intensity(
        fingerprint, modality=modality.value, backbone=backbone, wishes=wishes, neighbours=neighbours.value
    )
    return {"modality": modality, "intensity": intensity, "in_channels": channels, "neighbours": neighbours}


def _as_plan(choices: dict[str, Choice[Any]], fingerprint: Fingerprint) -> Plan:
    # in the order of the plan's fields, so that the file reads the same way twice
    names = [name for name in Plan.model_fields if name in choices]
    return Plan(
        **{name: choices[name].value for name in names},
        fingerprint_digest=fingerprint.digest(),
        reasons={name: choices[name].reason for name in names},
    )


def _grid(fingerprint: Fingerprint) -> Grid:
    grid = fingerprint.images or fingerprint.volumes
    if grid is None:
        raise PlanError("The fingerprint holds no scans.", fix="Make it again from the training scans.")
    return grid


def _slicewise(dims: float) -> Choice[bool]:
    if dims == 2:
        return Choice(False, "Images are single slices.")
    if dims == 3:
        return Choice(False, "Volumes are read whole.")
    return Choice(True, "A 2D network reads every slice; gated attention says how much each one counts for the scan.")


def _require_same_dims(dims: float, backbone: BackboneFacts) -> None:
    if backbone.spatial_dims != network_dims(dims):
        raise PlanError(
            f"The backbone {backbone.arch} was built for {backbone.spatial_dims}D, the scans are read in {dims:g}D.",
            fix=f"Use --dims {dims:g}, or leave --dims out.",
        )


def _require_known_geometry(plan: Plan, grid: Grid) -> None:
    if plan.spacing_mm is not None and grid.num_with_spacing < grid.num_scans:
        raise PlanError(
            f"The plan's spacing_mm is {list(plan.spacing_mm)}, but {grid.num_scans - grid.num_with_spacing} of "
            f"{grid.num_scans} scans do not say how large their voxels are.",
            fix="Set spacing_mm: null: each scan is then scaled by its own size.",
        )
    if plan.orientation is not None and grid.num_with_orientation < grid.num_scans:
        raise PlanError(
            f"The plan's orientation is {plan.orientation}, but {grid.num_scans - grid.num_with_orientation} of "
            f"{grid.num_scans} volumes do not say how they lie in the patient; findings.json lists them "
            "(orientation-unknown).",
            fix="Set orientation: null, if all files are known to lie alike.",
        )
