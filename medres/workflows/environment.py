"""What a run ran on: versions, hardware, threads. Recorded, since results are bit-equal on equal ones only."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from medres._version import __version__
from medres.finetuning.world import World

_PACKAGES = ("torch", "torchvision", "timm", "monai", "lightning-fabric", "mlflow", "numpy", "scikit-learn", "nibabel")


def describe_environment(device: torch.device) -> dict[str, str]:
    """Return versions, hardware and thread counts as flat text."""
    return {
        "medres": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "device": _device_name(device),
        "threads": str(torch.get_num_threads()),
        "processes": str(World.from_environment().size),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
