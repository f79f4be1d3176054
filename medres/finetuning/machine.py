"""What the machine can bear, measured where training will run."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from medres.data.readers.memory import available_bytes
from medres.errors import ConfigError
from medres.planning.facts import MachineFacts
from medres.runs.parallel import num_cores


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        ConfigError: It is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is unknown.", fix="Use auto, cpu, cuda, cuda:<n> or mps.") from None
    if not _is_there(device):
        raise ConfigError(f"device {name!r} is not there on this machine.", fix="Use --device cpu or --device auto.")
    return device


def machine_facts(device: torch.device, *, folder: Path = Path()) -> MachineFacts:
    """Return memory, cores and arithmetic of the machine that training runs on, and the free disk of a folder."""
    on_gpu = device.type == "cuda"
    memory = torch.cuda.mem_get_info(device)[0] if on_gpu else available_bytes()
    return MachineFacts(
        device=device.type, memory_bytes=memory, num_cores=num_cores(), bf16=_has_fast_bf16(device),
        disk_bytes=_free_disk(folder),
    )  # fmt: skip


def _free_disk(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False
