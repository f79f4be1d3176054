"""What was drawn at random for one scan, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medres.planning.plan import Plan
from medres.preprocessing.draws import Draws


def drawn_words(plan: Plan, draws: Draws, row: int) -> list[str]:
    """Return one phrase a change that the plan allows, in the order in which they are made.

    Args:
        plan: The plan; changes that it switches off are not mentioned.
        draws: Of a batch.
        row: Which sample of it.

    Example:
        >>> from medres.preprocessing.draws import draw
        >>> still = dict.fromkeys(("rotation_degrees", "scale", "translation", "brightness", "contrast"), 0)
        >>> plan = Plan(spatial_dims=2, modality="MR", shape=(8, 8), in_channels=1, batch_size=1,
        ...             intensity={"scheme": "robust_zscore"}, augmentation={**still, "noise": 0.1, "blur": 1})
        >>> drawn_words(plan, draw(plan.augmentation, [3], spatial_dims=2), 0)
        ['blur 0.83 voxels', 'noise 0.03 sd']
    """
    return [*_geometry(plan, draws, row), *_intensity(plan, draws, row)]


def _geometry(plan: Plan, draws: Draws, row: int) -> Iterator[str]:
    most, axes = plan.augmentation, "HW" if plan.dims < 3 else "DHW"
    if most.flip_axes:
        mirrored = [name for name, flipped in zip(axes, draws.flips[row], strict=True) if flipped]
        yield f"mirrored along {' and '.join(mirrored)}" if mirrored else "not mirrored"
    if most.rotation_degrees:
        degrees = np.rad2deg(draws.radians[row])
        about = "" if len(degrees) == 1 else " about D, H, W"
        yield f"turned {', '.join(f'{angle:+.1f}°' for angle in degrees)}{about}"
    if most.scale:
        yield f"zoom {draws.zooms[row]:.2f}"
    if most.translation:
        moved = (f"{shift:+.1%} along {name}" for name, shift in zip(axes, draws.shifts[row], strict=True))
        yield f"shifted {', '.join(moved)}"
    if most.crop:
        yield f"window of {draws.windows[row]:.0%} of each side"


def _intensity(plan: Plan, draws: Draws, row: int) -> Iterator[str]:
    most = plan.augmentation
    if most.blur:
        yield f"blur {draws.blur[row]:.2f} voxels"
    if most.bias_field:
        yield f"bias field up to {np.expm1(draws.shading[row]):.0%}"
    if most.gamma:
        yield f"gamma {draws.gammas[row]:.2f}"
    if most.contrast:
        yield f"contrast × {draws.gains[row]:.2f}"
    if most.brightness:
        yield f"brightness {draws.brightness[row]:+.2f} sd"
    if most.noise:
        yield f"noise {draws.noise[row]:.2f} sd"
