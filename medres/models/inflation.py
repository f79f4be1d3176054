"""2D kernels as 3D kernels: inflation along the third axis.

Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?" (I3D, arXiv:1705.07750).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from medres.errors import ModelError

#: ``mean`` repeats the kernel along depth and divides by its depth: a volume that is constant along depth gets the
#: features of its slice. ``center`` puts the kernel into the middle and zeros around it: each slice gets its own.
Inflation = Literal["mean", "center"]


def inflate_kernel(kernel: torch.Tensor, depth: int, *, method: Inflation = "mean") -> torch.Tensor:
    """Return ``(O, I, depth, kh, kw)`` of a 2D kernel ``(O, I, kh, kw)``.

    Raises:
        ModelError: ``method`` is not known.

    Example:
        >>> inflate_kernel(torch.ones(1, 1, 3, 3), 3, method="center")[0, 0, :, 0, 0]
        tensor([0., 1., 0.])
        >>> inflate_kernel(torch.full((1, 1, 3, 3), 3.0), 3)[0, 0, :, 0, 0]
        tensor([1., 1., 1.])
    """
    check_inflation(method)
    stacked = kernel.unsqueeze(2)
    if method == "mean":
        return stacked.repeat(1, 1, depth, 1, 1) / depth
    inflated = stacked.new_zeros(*kernel.shape[:2], depth, *kernel.shape[2:])
    inflated[:, :, depth // 2] = kernel
    return inflated


def check_inflation(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        ModelError: Naming what was given and the methods there are.
    """
    if method not in get_args(Inflation):
        raise ModelError(f"Inflation {method!r} is not known.", fix=f"Choose {' or '.join(get_args(Inflation))}.")
