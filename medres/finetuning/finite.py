"""What a frozen network gives is finite; where it is not, the network is the cause, since its input is bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medres.errors import TrainingError


def require_finite(array: npt.NDArray[Any], *, what: str) -> None:
    """Refuse what holds NaN or infinity.

    Voxels cannot be the cause: readers refuse those that are not finite, and each scheme of intensities clips.

    Args:
        array: What a network gave for finished scans.
        what: Its name in the message, in the plural: "features".

    Raises:
        TrainingError: Naming what to look at.
    """
    if np.isfinite(array).all():
        return
    raise TrainingError(
        f"The frozen network gives {what} that are not finite, for voxel values that were finite and scaled.",
        fix="Check the file given by --weights, where there is one, and intensity.mean and std in plan.yaml.",
    )
