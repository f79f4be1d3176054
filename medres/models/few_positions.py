"""3D convolutions over few positions, as one small matrix product for each place of the kernel.

Over the last maps of a 3D network, 2x2x2 for a ResNet on 64x64x64, most places of a kernel see nothing but the zeros
around the map: of 27 x 8 products of a 3x3x3 kernel 64 are of voxels that exist. Only these are computed here, each
slice of the weights is read where it lies, and its gradient is written where it belongs. oneDNN's fp32 kernels spend
most of their time on the layout of the weights instead: 105 ms forward and backward for 512 channels on 4 scans of
2x2x2, against 26 ms as one product of gathered neighbourhoods (one core; AMX machine, 2026-11-28); that product
takes 38 ms for 8 scans, this one 15 (one core; AMD EPYC with AVX512-BF16, 2026-11-29).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

#: The slices of an axis that a place of the kernel writes to and reads from.
_Reach = tuple[slice, slice]


class Geometry(NamedTuple):
    """Of a convolution: ``(D, H, W)`` each."""

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    def output_sizes(self, sizes: Sequence[int]) -> list[int]:
        """Return the size of the output for an input ``(D, H, W)``."""
        axes = zip(sizes, *self, strict=True)
        return [(size + 2 * pad - far * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, far in axes]


class _Place(NamedTuple):
    """A place of the kernel: its index into the weights, and the positions of output and input that it joins."""

    weights: tuple[Any, ...]
    output: tuple[slice, ...]
    input: tuple[slice, ...]


def convolve_few_positions(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry
) -> torch.Tensor:
    """Return the convolution of ``(B, C, D, H, W)`` with zeros around it, in fp32, also under autocast.

    Args:
        x: Input.
        weight: ``(O, C, *kernel)``; fastest where it is channels-last.
        bias: ``(O,)``.
        geometry: Of one group.

    Example:
        >>> x, weight = torch.rand(1, 2, 4, 4, 4), torch.rand(3, 2, 3, 3, 3)
        >>> found = convolve_few_positions(x, weight, None, Geometry((3,) * 3, (2,) * 3, (1,) * 3, (1,) * 3))
        >>> torch.allclose(found, torch.nn.functional.conv3d(x, weight, stride=2, padding=1), atol=1e-5)
        True
    """
    with torch.autocast("cpu", enabled=False):
        y: torch.Tensor = _FewPositions.apply(x.float(), weight.float(), geometry)
    return y if bias is None else y + bias.view(-1, 1, 1, 1)


class _FewPositions(torch.autograd.Function):
    """The product without a bias; maps are ``(B, D, H, W, C)`` inside, as channels-last tensors lie."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.places = _places(geometry, x.shape[2:])
        maps, sizes = _channels_last(x), geometry.output_sizes(x.shape[2:])
        out = maps.new_zeros((len(x), *sizes, len(weight)))
        for place in ctx.places:
            out[place.output].add_(_times(maps[place.input], weight[place.weights].t()))
        return out.permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        (x, weight), (for_maps, for_weight, _) = ctx.saved_tensors, ctx.needs_input_grad
        places, gradients = ctx.places, _channels_last(gradient)
        with torch.autocast("cpu", enabled=False):
            of_maps = _of_maps(gradients, x, weight, places).permute(0, 4, 1, 2, 3) if for_maps else None
            return of_maps, _of_weight(gradients, x, weight, places) if for_weight else None, None


def _of_maps(gradients: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, places: Sequence[_Place]) -> torch.Tensor:
    found = torch.zeros_like(_channels_last(x))
    for place in places:
        found[place.input].add_(_times(gradients[place.output], weight[place.weights]))
    return found


def _of_weight(
    gradients: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, places: Sequence[_Place]
) -> torch.Tensor:
    # a place that sees nothing has no gradient; memory that is written anyway is not cleared before
    found = torch.empty_like(weight) if len(places) == weight[0, 0].numel() else torch.zeros_like(weight)
    maps = _channels_last(x)
    for place in places:
        torch.mm(_rows(gradients[place.output]).t(), _rows(maps[place.input]), out=found[place.weights])
    return found


def _channels_last(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 2, 3, 4, 1)


def _rows(maps: torch.Tensor) -> torch.Tensor:
    return maps.reshape(-1, maps.shape[-1])


def _times(maps: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return (_rows(maps) @ matrix).view(*maps.shape[:-1], -1)


def _places(geometry: Geometry, sizes: Sequence[int]) -> list[_Place]:
    """Return the places of the kernel that see a voxel of an input ``(D, H, W)``."""
    axes = [_reaches(*axis) for axis in zip(sizes, geometry.output_sizes(sizes), *geometry, strict=True)]
    every, places = slice(None), []
    for place in itertools.product(*axes):
        written, read = zip(*(axis[at] for axis, at in zip(axes, place, strict=True)), strict=True)
        places.append(_Place((every, every, *place), (every, *written), (every, *read)))
    return places


def _reaches(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> dict[int, _Reach]:
    """Return, for each place of a kernel that sees a voxel along an axis, where it writes and where it reads."""
    reaches = {}
    for place in range(kernel):
        shift = place * dilation - padding  # of the voxel that position 0 sees
        first, last = max(0, -(shift // stride)), min(out - 1, (size - 1 - shift) // stride)
        if first <= last:
            read = slice(first * stride + shift, last * stride + shift + 1, stride)
            reaches[place] = (slice(first, last + 1), read)
    return reaches
