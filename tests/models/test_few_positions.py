"""Convolutions over few positions: those of PyTorch, their gradients too, for every geometry and layout."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from medres.models.cpu_bf16 import guard_convolutions
from medres.models.few_positions import Geometry, convolve_few_positions

KERNELS = [(1, 1, 1), (3, 3, 3), (3, 1, 2), (2, 4, 7)]
SIZES = [(1, 1, 1), (2, 2, 2), (1, 4, 3), (5, 2, 1)]
LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def _checked(conv: nn.Conv3d, x: torch.Tensor) -> int:
    """Compare output and gradients with those of `torch.nn.Conv3d` and return how many tensors were compared."""
    assert not isinstance(conv.padding, str)
    geometry = Geometry(conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    right = conv(x)
    found = convolve_few_positions(x, conv.weight, conv.bias, geometry)
    torch.manual_seed(1)
    gradient = torch.randn_like(right)
    wanted = [tensor for tensor in (x, *conv.parameters()) if tensor.requires_grad]
    pairs = [(found, right)]
    pairs += zip(*(torch.autograd.grad(y, wanted, gradient) for y in (found, right)), strict=True)
    for mine, expected in pairs:
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)
    return len(pairs)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_output_and_gradients_are_pytorchs(kernel: tuple[int, int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    compared = 0
    for size, stride, padding, dilation in itertools.product(SIZES, (1, 2, 3), (0, 1, 4), (1, 2)):
        extents = [far * (k - 1) + 1 for far, k in zip((dilation,) * 3, kernel, strict=True)]
        if any(length + 2 * padding < extent for length, extent in zip(size, extents, strict=True)):
            continue
        conv = nn.Conv3d(5, 6, kernel, stride=stride, padding=padding, dilation=dilation).to(memory_format=layout)
        compared += _checked(conv, torch.randn(2, 5, *size).to(memory_format=layout).requires_grad_())
    assert compared >= 48


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_what_is_frozen_has_no_gradient(frozen: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 2, 2, 2, requires_grad=frozen != "input")
    if frozen != "input":
        conv.get_parameter(frozen).requires_grad_(False)
    assert _checked(conv, x) == 3


def test_a_gradient_of_the_weights_lies_as_they_do() -> None:
    weight = torch.randn(8, 4, 3, 3, 3).to(memory_format=torch.channels_last_3d).requires_grad_()
    geometry = Geometry((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1))
    convolve_few_positions(torch.randn(1, 4, 2, 2, 2), weight, None, geometry).sum().backward()
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride()


@pytest.mark.parametrize(
    "options",
    [{"padding": "same"}, {"padding": "valid"}, {"padding": 1, "padding_mode": "reflect"}, {"padding": 1, "groups": 2}],
)
def test_other_convolutions_of_few_positions_are_right_in_bf16(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(4, 64, 2 if options.get("padding") == "valid" else 3, **options))  # type: ignore[arg-type]
    x = torch.randn(1, 4, 2, 2, 2)
    right = net(x)
    guard_convolutions(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(x)
    torch.testing.assert_close(found.float(), right, atol=0.02, rtol=0.02)
