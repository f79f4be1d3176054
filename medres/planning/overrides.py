"""`PlanOverrides`: what the user wishes to decide. None means: let the planner choose."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic

from medres.planning.plan import (
    MAX_BATCH_SIZE,
    MAX_DISK_BYTES,
    BlurVoxels,
    CutAway,
    Degrees,
    Deviations,
    Exponent,
    LogGain,
    Neighbours,
    Relative,
    Shift,
    Side,
    SpacingMm,
    VoxelValue,
    Windows,
    is_orientation,
    require_voxels,
)  # fmt: skip
from medres.runs.documents import Document, WholeNumber

_SpacingMm = Annotated[SpacingMm, pydantic.Field(gt=0)]
_Side = Annotated[Side, pydantic.Field(ge=1)]


def _parse_orientation(value: Any) -> Any:
    if value is None or value == "none" or (isinstance(value, str) and is_orientation(value)):
        return value
    raise ValueError("must be `none` or name three different axes, such as SPL (towards superior, posterior, left)")


def _parse_spacing(value: Any) -> Any:
    return () if value == "none" else value


def _parse_switch(value: Any) -> Any:
    if isinstance(value, bool):
        return {"enabled": value}
    if value is None or isinstance(value, (dict, AugmentationWishes)):
        return value
    raise ValueError("must be false, or magnitudes such as {noise: 0, blur: 1}")


class AugmentationWishes(Document):
    """Wishes for the random changes: ``--set planning.augmentation.<key>=<value>``.

    Args:
        enabled: False switches all off; ``planning.augmentation=false`` says the same.
        rotation_degrees: This and the others are fields of `medres.planning.plan.Augmentation`; None lets the planner
            choose.

    Example:
        >>> wishes = PlanOverrides.from_mapping({"augmentation": {"noise": 0, "blur": 1}}).augmentation
        >>> wishes.magnitudes()
        {'noise': 0.0, 'blur': 1.0}
    """

    enabled: bool = True
    rotation_degrees: Degrees | None = None
    scale: Relative | None = None
    translation: Shift | None = None
    brightness: Deviations | None = None
    contrast: Relative | None = None
    noise: Deviations | None = None
    crop: CutAway | None = None
    blur: BlurVoxels | None = None
    gamma: Exponent | None = None
    bias_field: LogGain | None = None
    slice_dropout: Relative | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not self.enabled and self.magnitudes():
            raise ValueError(f"enabled is false, but {', '.join(self.magnitudes())} is set")
        return self

    def magnitudes(self) -> dict[str, float]:
        """Return what was wished for, by name."""
        return {name: value for name, value in self if name != "enabled" and value is not None}


class PlanOverrides(Document):
    """Wishes for the plan: ``--set planning.<key>=<value>``, or the section ``planning`` of a configuration.

    Args:
        modality: What the scans are, where the guess is wrong.
        orientation: Code of D, H, W such as ``SPL``; ``none`` takes volumes as they lie in their files.
        spacing_mm: (d, h, w) in mm, in 2.5D (h, w); ``none`` (kept as an empty list) scales each scan by its own size.
        shape: Spatial shape of the network's input, (D, H, W) or (H, W).
        neighbours: Slices that a 2.5D network sees as channels: 1, or an odd number up to 15: 3 for the slice between
            those beside it.
        stem_stride: Stride along D, H, W of a 3D network's first convolution and of the pooling after it, each 1 or 2.
        crop: ``foreground`` or ``none``.
        windows: CT windows, by name or as [low, high] in HU; each becomes one channel.
        scheme: Intensity scheme.
        scale_range: [low, high] that the scheme ``scaled`` maps to [0, 1].
        augmentation: Magnitudes of random changes; False switches all of them off. See `AugmentationWishes`.
        flip_axes: Axes that may be mirrored, 0 = D (or H in 2D); [] for none.
        batch_size: Samples a step.
        precision: Arithmetic of training; ``fp16`` needs a GPU.
        activation_bytes: Disk for the activations of a frozen part.

    Example:
        >>> PlanOverrides.from_mapping({"windows": ["lung", [0, 80]], "batch_size": 8}).windows
        ('lung', (0.0, 80.0))
    """

    modality: Literal["CT", "MR", "other"] | None = None
    orientation: Annotated[str | None, pydantic.BeforeValidator(_parse_orientation)] = None
    spacing_mm: Annotated[
        tuple[Annotated[SpacingMm, pydantic.Field(gt=0)], ...] | None, pydantic.BeforeValidator(_parse_spacing)
    ] = None
    shape: (
        Annotated[tuple[Annotated[Side, pydantic.Field(ge=1)], ...], pydantic.AfterValidator(require_voxels)] | None
    ) = None
    neighbours: Neighbours | None = None
    stem_stride: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] | None = None
    crop: Literal["foreground", "none"] | None = None
    windows: Windows | None = None
    scheme: Literal["hu_windows", "robust_zscore", "scaled"] | None = None
    scale_range: tuple[VoxelValue, VoxelValue] | None = None
    augmentation: Annotated[AugmentationWishes | None, pydantic.BeforeValidator(_parse_switch)] = None
    flip_axes: tuple[Annotated[WholeNumber, pydantic.Field(ge=0, le=2)], ...] | None = None
    batch_size: WholeNumber | None = pydantic.Field(default=None, ge=1, le=MAX_BATCH_SIZE)
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    activation_bytes: WholeNumber | None = pydantic.Field(default=None, ge=0, le=MAX_DISK_BYTES)
