"""`torch.compile` needs a compiler on the machine: found out before anything is prepared."""

from __future__ import annotations

import torch

from medres.errors import ConfigError


def require_compiler(device: torch.device) -> None:
    """Compile the smallest function there is, as the trained part would be later.

    Raises:
        ConfigError: Nothing can be compiled on this machine, and why.
    """
    try:
        torch.compile(_smallest)(torch.zeros(2, device=device))
    except (
        RuntimeError,
        ImportError,
        OSError,
    ) as error:  # torch's own are RuntimeErrors; without Triton an ImportError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"optimisation.compile is on, and torch.compile does not work on this machine: {reason}",
            fix="Install a C++ compiler (g++), or leave it out: --set optimisation.compile=false.",
        ) from error


def _smallest(tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 1.0
