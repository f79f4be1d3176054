"""Plans and scans that the tests of this room share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import numpy as np

from medres.data.content import content_hash
from medres.data.image import ScanImage
from medres.planning.plan import Plan

#: All ways in which a grid can lie along the axes of the body.
ORIENTATIONS = tuple(
    "".join(letters)
    for order in permutations(("LR", "PA", "IS"))
    for letters in product(*order)
)  # fmt: skip

INTENSITIES: dict[str, dict[str, Any]] = {
    "hu_windows": {"scheme": "hu_windows", "windows_hu": ("lung", (-160.0, 240.0))},
    "robust_zscore": {"scheme": "robust_zscore", "mean": (0.4,), "std": (0.2,)},
    "scaled": {"scheme": "scaled", "scale_range": (0.0, 255.0), "mean": (0.4,), "std": (0.2,)},
}
_MODALITY = {"hu_windows": "CT", "robust_zscore": "MR", "scaled": "other"}


def make_plan(scheme: str = "scaled", *, spatial_dims: int = 3, **changes: Any) -> Plan:
    """Return a plan that reads scans as they are, but for the changes."""
    values: dict[str, Any] = {
        "spatial_dims": spatial_dims,
        "modality": _MODALITY[scheme],
        "shape": (12, 14, 16)[-spatial_dims:],
        "in_channels": 2 if scheme == "hu_windows" else 1,
        "intensity": INTENSITIES[scheme],
        "augmentation": {},
        "batch_size": 2,
    }
    return Plan.from_mapping(values | changes)


def make_image(voxels: np.ndarray, *, affine: np.ndarray | None = None, **changes: Any) -> ScanImage:
    """Return a scan; its spacing is that of its affine."""
    spacing = None if affine is None else tuple(np.linalg.norm(affine[:3, :3], axis=0))
    values = {"voxels": voxels, "affine": affine, "spacing_mm": spacing, "content_hash": content_hash(voxels)}
    return ScanImage(**(values | changes))


def affine_of(
    orientation: str, spacing: Sequence[float] = (1.0, 1.0, 1.0), *, turn: np.ndarray | None = None
) -> np.ndarray:
    """Return an affine whose axes grow as the code says, about an arbitrary origin, turned by a rotation."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        row = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[letter]
        affine[row, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ affine[:3, :3]
    affine[:3, 3] = (-12.5, 31.0, 8.25)
    return affine


def smooth_scan(shape: Sequence[int], *, low: float = 0.0, high: float = 255.0, seed: int = 0) -> np.ndarray:
    """Return a body with smooth content on an empty background, ``shape``, float32 from low to high."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = sum((grid / 0.8) ** 2 for grid in grids)
    waves = sum(np.sin(grid * rng.uniform(2, 4) + rng.uniform(0, 6)) for grid in grids)
    body = np.clip(1.2 - radius, 0, 1) * (0.6 + 0.1 * waves)
    return (low + (high - low) * body.clip(0, 1)).astype(np.float32)
