"""`PlanOverrides`: what the user wishes to decide. None means: let the planner choose."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from medres.planning.plan import Windows, is_orientation
from medres.runs.documents import Document


def _parse_orientation(value: Any) -> Any:
    if value is None or value == "none" or (isinstance(value, str) and is_orientation(value)):
        return value
    raise ValueError("must be `none` or name three different axes, such as SPL (towards superior, posterior, left)")


def _parse_spacing(value: Any) -> Any:
    return () if value == "none" else value


class PlanOverrides(Document):
    """Wishes for the plan: ``--set planning.<key>=<value>``, or the section ``planning`` of a configuration.

    Args:
        modality: What the scans are, where the guess is wrong.
        orientation: Code of D, H, W such as ``SPL``; ``none`` takes volumes as they lie in their files.
        spacing_mm: (d, h, w) in mm, in 2.5D (h, w); ``none`` (kept as an empty list) scales each scan by its own size.
        shape: Spatial shape of the network's input, (D, H, W) or (H, W).
        neighbours: Slices that a 2.5D network sees as channels: 1, or 3 for the slice between those beside it.
        stem_stride: Stride along D, H, W of a 3D network's first convolution and of the pooling after it, each 1 or 2.
        crop: ``foreground`` or ``none``.
        windows: CT windows, by name or as [low, high] in HU; each becomes one channel.
        scheme: Intensity scheme.
        scale_range: [low, high] that the scheme ``scaled`` maps to [0, 1].
        augmentation: False switches all random changes off.
        flip_axes: Axes that may be mirrored, 0 = D (or H in 2D); [] for none.
        batch_size: Samples a step.
        precision: Arithmetic of training.

    Example:
        >>> PlanOverrides.from_mapping({"windows": ["lung", [0, 80]], "batch_size": 8}).windows
        ('lung', (0.0, 80.0))
    """

    modality: Literal["CT", "MR", "other"] | None = None
    orientation: Annotated[str | None, pydantic.BeforeValidator(_parse_orientation)] = None
    spacing_mm: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...] | None, pydantic.BeforeValidator(_parse_spacing)
    ] = None
    shape: tuple[Annotated[int, pydantic.Field(ge=1)], ...] | None = None
    neighbours: Literal[1, 3] | None = None
    stem_stride: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] | None = None
    crop: Literal["foreground", "none"] | None = None
    windows: Windows | None = None
    scheme: Literal["hu_windows", "robust_zscore", "scaled"] | None = None
    scale_range: tuple[float, float] | None = None
    augmentation: bool | None = None
    flip_axes: tuple[Annotated[int, pydantic.Field(ge=0, le=2)], ...] | None = None
    batch_size: int | None = pydantic.Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] | None = None
