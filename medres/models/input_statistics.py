"""What pretrained weights expect of their input: mean and standard deviation of pixels in [0, 1], and a size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medres.errors import WeightsError
from medres.runs.plain_data import PlainDataError, read_json, shortened


@dataclass(frozen=True)
class InputStatistics:
    """Normalisation and size of the images that weights were trained on.

    Args:
        mean: Of each channel, or one for all, on pixels scaled to [0, 1].
        std: The same for the standard deviation.
        input_size: Side in pixels, None where it is not known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int | None = None


#: Of torchvision and most of timm.
IMAGENET = InputStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def stated_in_header(metadata: Mapping[str, str], file_name: str) -> InputStatistics | None:
    """Return what a safetensors header states (``mean``, ``std``, ``input_size``), None where it does not.

    Raises:
        WeightsError: What it states cannot be.

    Example:
        >>> stated_in_header({"mean": "0.5", "std": "0.25", "input_size": "3,64,64"}, "a.safetensors")
        InputStatistics(mean=(0.5,), std=(0.25,), input_size=64)
    """
    if not metadata.get("mean") or not metadata.get("std"):
        return None
    return _checked({key: metadata[key].split(",") for key in _KEYS if metadata.get(key)}, file_name)


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the ``config.json`` of a repository on the hub; empty where it holds no keys and values."""
    try:
        config = read_json(path, allow_nan=True)
    except (PlainDataError, OSError):
        return {}
    return config if isinstance(config, dict) else {}


def stated_in_config(path: Path) -> InputStatistics | None:
    """Return what the ``config.json`` of a timm repository on the hub states, None where it does not.

    Raises:
        WeightsError: What it states cannot be.
    """
    config = read_config(path)
    stated = config.get("pretrained_cfg", config)
    if not isinstance(stated, dict) or not stated.get("mean") or not stated.get("std"):
        return None
    return _checked({key: stated[key] for key in _KEYS if stated.get(key)}, path.name)


_KEYS = ("mean", "std", "input_size")

#: Of pixels scaled to [0, 1]: those of any scale have statistics below it.
_MOST = 1e6


def _checked(stated: Mapping[str, Any], file_name: str) -> InputStatistics:
    try:
        mean, std = (tuple(float(value) for value in stated[key]) for key in ("mean", "std"))
        size = int(stated["input_size"][-1]) if "input_size" in stated else None
    except (TypeError, ValueError, LookupError, OverflowError):
        mean, std, size = (), (), None
    are_numbers = all(abs(value) < _MOST for value in mean) and all(0 < value < _MOST for value in std)
    if not mean or len(mean) != len(std) or not are_numbers:
        given = "; ".join(f"{key}: {shortened(value)}" for key, value in stated.items())
        raise WeightsError(
            f"{file_name} states input statistics that cannot be ({given}).",
            fix="Each of mean and std needs one number a channel (or one for all), std above 0.",
        )
    return InputStatistics(mean=mean, std=std, input_size=size)
