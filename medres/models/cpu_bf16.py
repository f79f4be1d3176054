"""3D convolutions that leave bfloat16 where a CPU computes it wrongly.

oneDNN's bf16 kernels (PyTorch 2.15, a CPU with AVX512-BF16; AMX was not tried) read memory that nobody wrote when the
kernel of a 3D convolution reaches beyond the input along an axis: the gradient of its weights is then wrong without an
error, from slightly off to 1e35 (12 of 12 tries at 512 channels on 2x2x2, the last map of a ResNet on 64x64x64;
measured 2026-11-21; fp32 is right). Where one output voxel is left along a strided axis, the output itself is wrong
(pytorch/pytorch#169688). Such convolutions are small, so that float32 costs little there.

Over few positions oneDNN's float32 kernels spend most of their time on the layout of the weights: 105 ms forward and
backward for 512 channels on 4 scans of 2x2x2, against 26 ms as one matrix product of the gathered neighbourhoods (one
core; AMX machine, 2026-11-28). There the product is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn


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
        with torch.autocast("cpu", enabled=False):
            if self._has_few_positions(input.shape):
                return convolve_by_product(self, input.float())
            return super().forward(input.float())

    def _has_few_positions(self, shape: Sequence[int]) -> bool:
        """Return whether the gathered neighbourhoods are smaller than the weights."""
        positions = shape[0] * math.prod(self._output_sizes(shape[2:]))
        return self.groups == 1 and self.padding_mode == "zeros" and positions < self.out_channels

    def _output_sizes(self, sizes: Sequence[int]) -> list[int]:
        steps = zip(sizes, self.kernel_size, self.stride, self.dilation, self._paddings(), strict=True)
        return [(size + 2 * pad - far * (kernel - 1) - 1) // step + 1 for size, kernel, step, far, pad in steps]

    def _is_unsafe(self, sizes: Sequence[int]) -> bool:
        steps = zip(sizes, self.kernel_size, self.stride, self.dilation, self._paddings(), strict=True)
        return any(_axis_is_unsafe(*step) for step in steps)

    def _paddings(self) -> tuple[int, ...]:
        # "same" needs stride 1, so that its output is never a single strided voxel
        return (0, 0, 0) if isinstance(self.padding, str) else tuple(self.padding)


def convolve_by_product(convolution: GuardedConv3d, x: torch.Tensor) -> torch.Tensor:
    """Return the convolution of ``(B, C, D, H, W)`` as one matrix product of the neighbourhoods of all positions.

    Args:
        convolution: Of one group, with zeros around.
        x: Input.

    Example:
        >>> convolution = GuardedConv3d(2, 3, 3, stride=2, padding=1)
        >>> x = torch.rand(1, 2, 4, 4, 4)
        >>> torch.allclose(convolve_by_product(convolution, x), convolution(x), atol=1e-5)
        True
    """
    depth, height, width = convolution._paddings()
    padded = nn.functional.pad(x, (width, width, height, height, depth, depth))
    sizes = convolution._output_sizes(x.shape[2:])
    gathered = [
        padded[:, :, window[0], window[1], window[2]] for window in _windows(convolution, sizes)
    ]  # one a place of the kernel
    rows = torch.stack(gathered, dim=-1).permute(0, 2, 3, 4, 5, 1).flatten(4)
    weights = convolution.weight.permute(0, 2, 3, 4, 1).flatten(1)
    return nn.functional.linear(rows, weights, convolution.bias).permute(0, 4, 1, 2, 3)


def _windows(convolution: GuardedConv3d, sizes: Sequence[int]) -> Iterator[list[slice]]:
    """Yield, for each place of the kernel, what it sees of the padded input at all positions."""
    for place in itertools.product(*(range(kernel) for kernel in convolution.kernel_size)):
        steps = zip(place, convolution.dilation, convolution.stride, sizes, strict=True)
        yield [slice(at * far, at * far + (size - 1) * step + 1, step) for at, far, step, size in steps]


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


def _axis_is_unsafe(size: int, kernel: int, stride: int, dilation: int, padding: int) -> bool:
    extent = dilation * (kernel - 1) + 1
    return size < extent or (stride > 1 and (size + 2 * padding - extent) // stride == 0)
