"""2D or 3D."""

from __future__ import annotations

from typing import Literal

from medres.errors import PlanError
from medres.planning.choice import Choice
from medres.planning.fingerprint import Fingerprint

Dims = Literal["auto", "2", "2.5", "3"]

#: What can be planned for; 2.5 is understood, and refused with what to do instead.
_KNOWN = ("auto", "2", "3")


def choose_dims(fingerprint: Fingerprint, *, dims: Dims = "auto") -> tuple[int, str]:
    """Return the number of spatial dimensions and why; needed before the backbone is known.

    Args:
        fingerprint: Of the training scans.
        dims: ``auto``, or what the user asks for; ``2.5`` is not available yet.

    Raises:
        PlanError: The data mixes images and volumes, or cannot be read in the dimensions asked for.
    """
    images, volumes = fingerprint.num_images, fingerprint.num_volumes
    if images and volumes:
        raise PlanError(
            f"The data mixes {images} images (2D) and {volumes} volumes (3D); one network reads one kind.",
            fix="Split it into two folders or tables and train one run on each.",
        )
    _require_possible(str(dims), images=images, volumes=volumes)
    if images:
        return Choice(2, f"All {images} scans are 2D images.")
    return Choice(3, f"All {volumes} scans are volumes, which are read in 3D.")


def _require_possible(dims: str, *, images: int, volumes: int) -> None:
    if dims == "2.5":
        raise PlanError(
            "2.5D (volumes read slice by slice) is not available yet; it comes with a later version.",
            fix="Use --dims 3 for volumes." if volumes else "The data is 2D: use --dims 2 or leave --dims out.",
        )
    if dims not in _KNOWN:
        raise PlanError(f"dims {dims!r} is unknown.", fix=f"Use one of {', '.join(_KNOWN)}.")
    if volumes and dims == "2":
        raise PlanError(
            f"The {volumes} scans are volumes, which a 2D network cannot read; slices that are shown to it one by "
            "one would each bear the label of the whole volume.",
            fix="Use --dims 3, or leave --dims out. Reading slices with attention (2.5D) comes with a later version.",
        )
    if images and dims == "3":
        raise PlanError(
            f"The {images} scans are 2D images; there is no third axis.", fix="Use --dims 2, or leave --dims out."
        )
