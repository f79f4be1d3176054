"""Out of memory: a batch is computed in smaller parts instead of ending the run."""

from __future__ import annotations

import re

import torch

#: What PyTorch says when a CPU's memory is at its end; it raises a plain RuntimeError there.
_CPU_MESSAGE = re.compile(r"can't allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that the memory of the device is at its end.

    Example:
        >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
        True
        >>> is_out_of_memory(RuntimeError("shapes do not match"))
        False
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_MESSAGE.search(str(error)) is not None


def release_memory(device: torch.device) -> None:
    """Give back what the allocator of a GPU keeps for later: smaller parts then find room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
