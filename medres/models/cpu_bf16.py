"""3D convolutions that leave bfloat16 where a CPU computes it wrongly.

oneDNN's bf16 kernels (PyTorch 2.15, a CPU with AVX512-BF16; AMX was not tried) read memory that nobody wrote when the
kernel of a 3D convolution reaches beyond the input along an axis: the gradient of its weights is then wrong without an
error, from slightly off to 1e35 (12 of 12 tries at 512 channels on 2x2x2, the last map of a ResNet on 64x64x64;
measured 2026-11-21; fp32 is right). Where one output voxel is left along a strided axis, the output itself is wrong
(pytorch/pytorch#169688). Such convolutions are small, so that float32 costs little there (see
`medres.models.few_positions`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from medres.models.few_positions import Geometry, convolve_few_positions


class GuardedConv3d(nn.Conv3d):
    """`torch.nn.Conv3d` whose result can be believed under bf16 autocast on a CPU; the same parameters and names.

    Example:
        >>> net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
        >>> guard_convolutions(net)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     net(torch.zeros(1, 1, 2, 2, 2)).dtype, net(torch.zeros(1, 1, 8, 8, 8)).dtype
        (torch.float32, torch.bfloat16)
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # the name that PyTorch gives it
        """Return the convolution of ``(B, C, D, H, W)``."""
        if not (_in_bf16_on_cpu(input) and self._is_unsafe(input.shape[2:])):
            return super().forward(input)
        if self._has_few_positions(input.shape):
            return convolve_few_positions(input, self.weight, self.bias, self._geometry())
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())

    def _has_few_positions(self, shape: Sequence[int]) -> bool:
        """Return whether there are fewer positions than output channels, so that the weights are most of the work."""
        if self.groups > 1 or self.padding_mode != "zeros" or isinstance(self.padding, str):
            return False
        return shape[0] * math.prod(self._geometry().output_sizes(shape[2:])) < self.out_channels

    def _geometry(self) -> Geometry:
        # "same" needs stride 1, so that its output is never a single strided voxel, whatever the padding
        padding = (0, 0, 0) if isinstance(self.padding, str) else self.padding
        return Geometry(self.kernel_size, self.stride, padding, self.dilation)

    def _is_unsafe(self, sizes: Sequence[int]) -> bool:
        geometry = self._geometry()
        axes = zip(sizes, geometry.output_sizes(sizes), self.kernel_size, self.stride, self.dilation, strict=True)
        return any(size < far * (kernel - 1) + 1 or (step > 1 and out == 1) for size, out, kernel, step, far in axes)


def guard_convolutions(net: nn.Module) -> None:
    """Give every plain `torch.nn.Conv3d` of a network the forward of `GuardedConv3d`; nothing else changes."""
    for module in net.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = GuardedConv3d


def _in_bf16_on_cpu(tensor: torch.Tensor) -> bool:
    if tensor.device.type != "cpu":
        return False
    by_autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return by_autocast and tensor.dtype in (torch.float32, torch.bfloat16)
