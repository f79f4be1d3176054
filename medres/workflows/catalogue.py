"""`archs` and `phantoms`: what there is to try."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from medres.data.phantoms import write_phantoms
from medres.errors import UsageError
from medres.runs.atomic import require_writable


def archs(*, spatial_dims: int = 2) -> list[str]:
    """Return the names of the backbones for images (2) or volumes (3)."""
    from medres.models.factory import list_archs

    return list_archs(spatial_dims=spatial_dims)


def phantoms(
    folder: Path, *, modality: str = "CT", spatial_dims: int = 3, num_scans: int = 60, num_classes: int = 2,
    size: int = 48, signal: float = 1.0, seed: int = 0,
) -> str:  # fmt: skip
    """Write synthetic labelled scans and return the sentence that says so.

    Raises:
        UsageError: The modality is unknown or the folder is in use.
    """
    if modality not in ("CT", "MR"):
        raise UsageError(f"modality {modality!r} is unknown.", fix="Use CT or MR.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", fix="Give a new folder; nothing was overwritten.")
    require_writable(folder)
    write_phantoms(
        folder, modality=cast("Literal['CT', 'MR']", modality), spatial_dims=cast("Literal[2, 3]", spatial_dims),
        num_scans=num_scans, num_classes=num_classes, size=size, signal=signal, seed=seed,
    )  # fmt: skip
    return f"Wrote {num_scans} synthetic {modality} scans of {num_classes} classes to {folder}."
