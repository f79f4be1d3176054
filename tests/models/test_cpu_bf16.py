"""bf16 on a CPU gives the gradients of fp32, whatever the sizes: oneDNN's do not, see `medres.models.cpu_bf16`."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from medres.models.cpu_bf16 import GuardedConv3d, guard_convolutions
from medres.models.factory import create_model

#: bf16 keeps 8 bits: sums of products are right to about 0.4 % of the largest one, garbage is off by much more.
TOLERANCE = 0.03


def _gradients(conv: nn.Conv3d, x: torch.Tensor, out_gradient: torch.Tensor, *, bf16: bool) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    conv.weight.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        y = conv(x)
    y.backward(out_gradient.to(y.dtype))
    assert conv.weight.grad is not None
    assert x.grad is not None
    return [y.detach().float(), x.grad, conv.weight.grad.clone()]


def _rounded(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16().float()


SIZES = [size for size in itertools.product((1, 2, 3, 4), repeat=3) if size == tuple(sorted(size))]
GEOMETRIES = [(3, 1, 1, 1), (3, 2, 1, 1), (1, 2, 0, 1), (1, 1, 0, 1), (3, 1, 2, 2), (3, 1, 4, 4)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), GEOMETRIES)
def test_small_maps_have_the_gradients_of_fp32(kernel: int, stride: int, padding: int, dilation: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(32, 32, kernel, stride=stride, padding=padding, dilation=dilation, bias=False))
    guard_convolutions(net)
    conv = net[0]
    assert isinstance(conv, GuardedConv3d)
    conv.weight.data = conv.weight.data.bfloat16().float()
    for size in SIZES:
        x = _rounded(2, 32, *size)
        with torch.no_grad():
            gradient = _rounded(*conv(x).shape)
        right = _gradients(conv, x, gradient, bf16=False)
        for found, expected in zip(_gradients(conv, x, gradient, bf16=True), right, strict=True):
            scale = expected.abs().max() + 1e-6
            assert float((found - expected).abs().max() / scale) < TOLERANCE, (size, kernel, stride, dilation)


@pytest.mark.parametrize("arch", ["resnet10", "resnet18"])
@pytest.mark.parametrize("side", [64, 48])
def test_a_network_learns_the_same_in_bf16(arch: str, side: int) -> None:
    torch.manual_seed(0)
    model = create_model(arch, spatial_dims=3, num_classes=2).eval()  # batch statistics magnify every rounding
    x = torch.randn(2, 1, side, side, side)
    gradients = []
    for bf16 in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(model(x).float(), torch.tensor([0, 1]))
        loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})  # type: ignore[union-attr]
    assert len(gradients[0]) > 30
    for name, right in gradients[0].items():
        similarity = nn.functional.cosine_similarity(right.flatten(), gradients[1][name].flatten(), dim=0)
        assert float(similarity) > 0.9, (name, float(similarity))


def test_nothing_but_the_forward_changes() -> None:
    plain, guarded = nn.Conv3d(2, 3, 3), nn.Conv3d(2, 3, 3)
    guarded.load_state_dict(plain.state_dict())
    guard_convolutions(guarded)
    x = torch.randn(1, 2, 5, 5, 5)
    assert torch.equal(plain(x), guarded(x))
    assert list(plain.state_dict()) == list(guarded.state_dict())
