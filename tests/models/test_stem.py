"""The adapted stem answers grey input as the RGB net did: everywhere, the zero-padded border included."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame
from torch import nn

from medres.models.factory import create_model
from medres.models.stem import FoldedConv, adapt_stem, fold_kernel, folded_conv, scalar_statistic, standardise
from tests.models.nets import MEAN, STD, as_grey, as_rgb, grey, random_net, weights_of

FAMILIES = [
    "resnet18", "resnet50d", "resnet10t", "resnetv2_50", "resnetv2_50d", "resnetv2_50x1_bit", "seresnet18",
    "resnetblur18", "resnest14d", "skresnet18",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "channels"), [(arch, 1) for arch in FAMILIES] + [(arch, 4) for arch in ("resnet18", "resnetv2_50x1_bit")]
)
def test_grey_response_equals_that_of_the_unadapted_net(arch: str, channels: int) -> None:
    original = random_net(arch, num_classes=0)
    model = create_model(arch, num_classes=2, in_channels=channels, weights=weights_of(original)).eval()
    values = grey((1, 1, 64, 48))
    with torch.no_grad():
        stem = original.get_submodule(model.backbone.stem_conv)(as_rgb(values))
        adapted = model.backbone.net.get_submodule(model.backbone.stem_conv)(as_grey(values, channels))
        _assert_equal_everywhere(adapted, stem)
        # the whole net in double precision: 50 random layers amplify what float32 rounds in each of them
        whole = model.double().backbone(as_grey(values.double(), channels))
        _assert_equal_everywhere(whole, original.double()(as_rgb(values.double())))
    assert model.input_mean == pytest.approx((sum(MEAN) / 3,))
    assert model.input_std == pytest.approx((sum(STD) / 3,))


def _assert_equal_everywhere(adapted: torch.Tensor, original: torch.Tensor) -> None:
    # 1e-5 of the response's own scale: standardised kernels answer in tens, the others in ones
    scale = max(1.0, float(original.std()))
    assert float((adapted - original).abs().max()) < 1e-5 * scale


def test_a_bias_instead_of_the_offset_map_would_be_wrong_at_the_border() -> None:
    """The reason for the convolved offset, measured: the interior agrees with a bias, the border does not."""
    original = random_net("resnet18", num_classes=0)
    kernel = original.get_submodule("conv1").weight
    weight, offset = fold_kernel(kernel, mean=MEAN, std=STD, in_channels=1)
    values = grey((1, 1, 32, 32))
    with torch.no_grad():
        right = original.get_submodule("conv1")(as_rgb(values))
        biased = nn.functional.conv2d(as_grey(values, 1), weight, offset.sum((1, 2, 3)), stride=2, padding=3)
    error = (biased - right).abs().amax((0, 1))
    assert float(error[4:-4, 4:-4].max()) < 1e-5
    assert float(error[0].max()) > 1e-2


def test_three_channels_keep_weights_and_statistics() -> None:
    original = random_net("resnet18", num_classes=0)
    model = create_model("resnet18", num_classes=2, in_channels=3, weights=weights_of(original)).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.backbone(x), original(x))
    assert (model.input_mean, model.input_std) == (MEAN, STD)
    assert not any(isinstance(module, FoldedConv) for module in model.modules())


def test_equal_statistics_need_no_offset() -> None:
    weights = weights_of(random_net("resnet18", num_classes=0), mean=(0.1,) * 3, std=(0.3,) * 3)
    stem = create_model("resnet18", num_classes=2, weights=weights).backbone.net.get_submodule("conv1")
    assert isinstance(stem, FoldedConv)
    assert not stem.has_offset
    assert not stem.offset_kernel.any()


def test_one_statistic_for_all_channels_is_understood() -> None:
    original = random_net("resnet18", num_classes=0)
    one = create_model("resnet18", num_classes=2, weights=weights_of(original, mean=(0.4,), std=(0.2,)))
    three = create_model("resnet18", num_classes=2, weights=weights_of(original, mean=(0.4,) * 3, std=(0.2,) * 3))
    assert torch.equal(one.backbone.net.get_submodule("conv1").weight, three.backbone.net.get_submodule("conv1").weight)
    assert one.input_mean == three.input_mean == (0.4,)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_grey_donor_is_divided_over_the_channels(channels: int) -> None:
    donor = random_net("resnet18", num_classes=0, in_chans=1)
    weights = weights_of(donor, mean=(0.3,), std=(0.2,))
    model = create_model("resnet18", num_classes=2, in_channels=channels, weights=weights).eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.backbone(x.repeat(1, channels, 1, 1)), donor(x), rtol=1e-4, atol=1e-5)
    assert (model.input_mean, model.input_std) == ((0.3,), (0.2,))


def test_folded_networks_are_saved_and_loaded_with_their_offset() -> None:
    model = create_model("resnet18", num_classes=2, weights=weights_of(random_net("resnet18"))).eval()
    again = create_model("resnet18", num_classes=2, weights="none").eval()
    again.load_state_dict(model.state_dict(), strict=True)
    x = torch.randn(1, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        assert torch.equal(copy.deepcopy(model)(x), model(x))
    back = create_model("resnet18", num_classes=2)
    model.load_state_dict(back.state_dict(), strict=True)
    assert not model.backbone.net.get_submodule("conv1").has_offset


@pytest.mark.parametrize("size", [(33, 20), (32, 32), (7, 9)])
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 6, 7, stride=2, padding=3, bias=True),
        nn.Conv2d(3, 6, 3, stride=1, padding=2, dilation=2, bias=False),
        StdConv2d(3, 6, 7, stride=2, bias=True),
        StdConv2dSame(3, 6, 7, stride=2),
        Conv2dSame(3, 6, 5, stride=3, bias=True),
    ],
    ids=["plain", "dilated", "standardised", "standardised-same", "same"],
)
def test_every_kind_of_convolution_can_be_folded(conv: nn.Conv2d, size: tuple[int, int]) -> None:
    with torch.no_grad():
        conv.weight.normal_()
        folded = folded_conv(_with_channels(conv, 1))
        stem = adapt_stem(conv.weight, None, conv=folded, mean=MEAN, std=STD)
        state = {"weight": stem.weight, "offset_kernel": stem.offset}
        folded.load_state_dict(state | ({} if conv.bias is None else {"bias": conv.bias}))
        values = grey((2, 1, *size))
        _assert_equal_everywhere(folded(as_grey(values, 1)), conv(as_rgb(values)))


def _with_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    other = copy.deepcopy(conv)
    other.in_channels = channels
    other.weight = nn.Parameter(conv.weight.detach()[:, :channels].clone())
    return other


def test_standardising_is_timms() -> None:
    conv = StdConv2d(3, 8, 7, stride=2, eps=1e-8)
    x = torch.randn(1, 3, 20, 20)
    with torch.no_grad():
        plain = nn.functional.conv2d(x, standardise(conv.weight, 1e-8), stride=2, padding=3)
        torch.testing.assert_close(plain, conv(x))
    assert standardise(conv.weight, None) is conv.weight


def test_a_random_folded_net_computes_what_timms_net_of_those_channels_does() -> None:
    """With random weights, replacing the stem by a `FoldedConv` changes nothing, standardised or not."""
    for arch in ("resnet18", "resnetv2_50x1_bit"):
        model = create_model(arch, num_classes=2, in_channels=2).eval()
        reference = random_net(arch, num_classes=0, in_chans=2)
        state = reference.state_dict()
        stem = f"{model.backbone.stem_conv}.weight"
        weights = weights_of(reference, mean=(0.5,), std=(0.5,))
        model = create_model(arch, num_classes=2, in_channels=2, weights=weights).eval()
        x = torch.randn(1, 2, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(model.backbone(x), reference(x), rtol=1e-4, atol=1e-4)
        assert state[stem].shape == model.backbone.net.state_dict()[stem].shape


def test_mean_of_statistics() -> None:
    assert scalar_statistic((0.485, 0.456, 0.406)) == pytest.approx(0.449)
    assert scalar_statistic((0.7,)) == 0.7
