"""Which channels of a scan the plan stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medres.data.image import ScanImage
from medres.errors import DataError
from medres.planning.plan import Plan

#: ITU-R BT.601, the weights of PIL's "L" mode.
_LUMINANCE = (0.299, 0.587, 0.114)


def stored_channels(plan: Plan) -> int:
    """Return how many channels are stored: of HU one a sequence (windows are made later), else those of a slice.

    Slices beside a slice (2.5D) become channels later, too.
    """
    return max(1, len(plan.reading.sequences)) if plan.intensity.scheme == "hu_windows" else plan.slice_channels


def select_channels(image: ScanImage, plan: Plan) -> npt.NDArray[Any]:
    """Return the voxels with the channels to store, or with one channel that `repeat_channels` repeats.

    True colour becomes luminance (ITU-R BT.601) where the network reads one channel. Sequences are neither repeated nor
    mixed: a scan has exactly those of the plan, in its order.

    Raises:
        DataError: The scan has another number of channels or other sequences, or is in colour where Hounsfield units
        are expected.
    """
    given, wanted = len(image.voxels), stored_channels(plan)
    if plan.reading.sequences or image.channel_names:
        _require_sequences(image, plan.reading.sequences)
        return image.voxels
    if given == wanted or (given == 1 and wanted == 3 and not image.color):
        return image.voxels
    if given == 3 and wanted == 1 and image.color and plan.intensity.scheme != "hu_windows":
        return luminance(image.voxels)
    raise DataError(
        f"The scan has {given} {'colour channels' if image.color else 'channel' + 's' * (given != 1)}, "
        f"the plan reads {wanted} ({plan.intensity.scheme}).",
        fix="Give scans with the channels of the training data, or train a model on scans like this one.",
    )


def _require_sequences(image: ScanImage, wanted: tuple[str, ...]) -> None:
    if image.channel_names == wanted and len(image.voxels) == len(wanted):
        return
    given = ", ".join(image.channel_names) or "one image without a name"
    raise DataError(
        f"The scan has the sequences {given}; the plan reads {', '.join(wanted) or 'scans of one image'}.",
        fix="Give a table with one column of files for each sequence of the plan.",
    )


def repeat_channels(stored: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return ``stored (1 or count, *shape)`` as ``(count, *shape)``: grey for a network that reads colour."""
    return stored if len(stored) == count else np.repeat(stored, count, axis=0)


def luminance(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``(1, *spatial)`` from ``(3, *spatial)`` red, green, blue; floats that hold what the colours' type holds.

    Example:
        >>> luminance(np.array([[[255]], [[0]], [[0]]], dtype=np.uint8)).round().tolist()
        [[[76.0]]]
    """
    dtype = np.result_type(voxels.dtype, np.float32)
    return np.tensordot(np.array(_LUMINANCE, dtype=dtype), voxels.astype(dtype), axes=1)[None]
