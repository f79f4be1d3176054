"""Inflation: laws of single kernels and of whole networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- the field's own name

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.factory import create_model
from medres.models.inflation import inflate_kernel
from tests.models.nets import as_grey, as_rgb, grey, random_net, weights_of

ARCHS = ["resnet18", "resnet50", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("resnet34", "resnet101"))]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_mean_inflation_of_a_kernel_answers_a_constant_volume_as_its_slice(size: int) -> None:
    kernel = torch.randn(4, 2, size, size)
    image = torch.randn(1, 2, 20, 20)
    inflated = inflate_kernel(kernel, size)
    response = F.conv3d(
        image.unsqueeze(2).expand(-1, -1, size + 4, -1, -1), inflated, padding=(0, size // 2, size // 2)
    )
    assert inflated.shape == (4, 2, size, size, size)
    expected = F.conv2d(image, kernel, padding=size // 2).unsqueeze(2).expand_as(response)
    torch.testing.assert_close(response, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_center_inflation_of_a_kernel_answers_each_slice_by_itself(size: int) -> None:
    kernel = torch.randn(4, 2, size, size)
    volume = torch.randn(1, 2, 6, 20, 20)
    response = F.conv3d(volume, inflate_kernel(kernel, size, method="center"), padding=size // 2)
    for depth in range(6):
        expected = F.conv2d(volume[:, :, depth], kernel, padding=size // 2)
        torch.testing.assert_close(response[:, :, depth], expected, rtol=1e-4, atol=1e-4)


def test_a_method_that_is_not_known_is_refused() -> None:
    with pytest.raises(ModelError, match="Choose mean or center"):
        create_model("resnet18", spatial_dims=3, num_classes=2, inflation="linear")  # type: ignore[arg-type]


@pytest.mark.parametrize("arch", ARCHS)
def test_center_inflation_gives_the_2d_features_of_a_volume_that_is_constant_along_depth(arch: str) -> None:
    flat, deep = _pair(arch, inflation="center")
    image = as_grey(grey((1, 1, 48, 48)), 1).double()
    with torch.no_grad():
        expected, got = flat.feature_map(image), deep.feature_map(_stacked(image, 33))
    for depth in range(got.shape[2]):
        _assert_same(got[:, :, depth], expected)


@pytest.mark.parametrize("arch", ARCHS)
def test_center_inflation_gives_each_slice_its_own_2d_features(arch: str) -> None:
    """With max-pooling held within the slice: its window along depth is the only thing that mixes slices."""
    flat, deep = _pair(arch, inflation="center")
    deep.net["maxpool"] = nn.MaxPool3d((1, 3, 3), stride=2, padding=(0, 1, 1))
    volume = as_grey(grey((1, 1, 64, 48, 48)), 1).double()
    with torch.no_grad():
        got = deep.feature_map(volume)
        assert got.shape[2] == 2
        for depth in range(2):
            expected = flat.feature_map(volume[:, :, 32 * depth])
            _assert_same(got[:, :, depth], expected)


@pytest.mark.parametrize("arch", ARCHS)
def test_with_a_thick_slice_stem_center_inflation_gives_each_slice_exactly_its_own_2d_features(arch: str) -> None:
    """Nothing mixes slices then: the network as it is, every eighth slice, to 1e-5."""
    flat, deep = _pair(arch, inflation="center", stem_stride=(1, 2, 2))
    volume = as_grey(grey((1, 1, 16, 48, 48)), 1).double()
    with torch.no_grad():
        got = deep.feature_map(volume)
        assert got.shape[2] == 2
        for depth in range(2):
            expected = flat.feature_map(volume[:, :, 8 * depth])
            _assert_same(got[:, :, depth], expected)
    assert float((got[:, :, 0] - got[:, :, 1]).abs().max()) > 1e-3, "the slices must differ"


@pytest.mark.parametrize("stem_stride", [(2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("arch", ARCHS)
def test_mean_inflation_gives_the_2d_features_of_a_constant_volume_with_replicated_padding(
    arch: str, stem_stride: tuple[int, int, int]
) -> None:
    flat, deep = _pair(arch, inflation="mean", stem_stride=stem_stride)
    _replicate_along_depth(deep)
    image = as_grey(grey((1, 1, 48, 48)), 1).double()
    with torch.no_grad():
        expected, got = flat.feature_map(image), deep.feature_map(_stacked(image, 33))
        _assert_same(deep.net["pool"](got), flat.net["pool"](expected))
    for depth in range(got.shape[2]):
        _assert_same(got[:, :, depth], expected)


@pytest.mark.parametrize("inflation", ["mean", "center"])
@pytest.mark.parametrize("channels", [1, 2])
def test_grey_volumes_answer_as_in_the_inflated_rgb_net(channels: int, inflation: str) -> None:
    weights = weights_of(random_net("resnet18"))
    options = {"spatial_dims": 3, "num_classes": 2, "weights": weights, "inflation": inflation}
    rgb = create_model("resnet18", in_channels=3, **options).eval()
    folded = create_model("resnet18", in_channels=channels, **options).eval()
    values = grey((1, 1, 24, 40, 32))
    with torch.no_grad():
        stem = rgb.backbone.net["conv1"](as_rgb(values))
        torch.testing.assert_close(
            folded.backbone.net["conv1"](as_grey(values, channels)), stem, rtol=1e-5, atol=1e-5 * float(stem.std())
        )
        torch.testing.assert_close(
            folded.backbone(as_grey(values, channels)), rgb.backbone(as_rgb(values)), rtol=1e-4, atol=1e-5
        )


def _pair(arch: str, *, inflation: str, stem_stride: tuple[int, int, int] | None = None) -> tuple[Backbone, Backbone]:
    weights = weights_of(random_net(arch))
    flat = create_model(arch, num_classes=2, weights=weights)
    options = {"spatial_dims": 3, "num_classes": 2, "weights": weights, "inflation": inflation}
    deep = create_model(arch, stem_stride=stem_stride, **options)  # type: ignore[arg-type]
    # in double precision: up to a hundred random layers amplify what float32 rounds in each of them
    return flat.backbone.eval().double(), deep.backbone.eval().double()


def _assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.std()))


def _stacked(image: torch.Tensor, depth: int) -> torch.Tensor:
    return image.unsqueeze(2).repeat(1, 1, depth, 1, 1)


def _replicate_along_depth(backbone: Backbone) -> None:
    """Let every convolution see the volume go on beyond its first and last slice."""

    def padded(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return F.pad(inputs[0], (0, 0, 0, 0, module.kernel_size[0] // 2, module.kernel_size[0] // 2), mode="replicate")

    for module in backbone.modules():
        if isinstance(module, nn.Conv3d):
            module.padding = (0, *module.padding[1:])
            module.register_forward_pre_hook(padded)
