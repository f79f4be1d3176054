"""`create_model` and `backbone_facts`: what they take, what they refuse, what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from medres.errors import ModelError, WeightsError
from medres.models.factory import backbone_facts, create_model, list_archs
from tests.models.nets import MEAN, STD, random_net, weights_of


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slicewise": True, "arch": "resnet10"}, "exists in 3D only"),
        ({"slicewise": True, "geometry": "medicalnet"}, "choice of 3D networks"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"drop_rate": 1.0}, "drop_rate is 1.0"),
        ({"spatial_dims": 1}, "spatial_dims is 1"),
        ({"arch": "resnet51"}, "not known"),
        ({"weights": "medicalnet"}, "those of 3D networks"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    arguments = {"arch": "resnet18", "num_classes": 2, **options}
    with pytest.raises(ModelError, match=words):
        create_model(arguments.pop("arch"), **arguments)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [(2, (1, 64, 64)), (2, (1, 2, 64, 64)), (2, (1, 1, 32, 32, 32)), (3, (1, 1, 64, 64)), (3, (1, 3, 32, 32, 32))],
)
def test_inputs_of_another_shape_are_refused(dims: int, shape: tuple[int, ...]) -> None:
    arch = "test_resnet" if dims == 2 else "resnet10"
    model = create_model(arch, spatial_dims=dims, num_classes=2)
    with pytest.raises(ModelError, match=r"takes \(B, C, .*with C = 1; got shape"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dims", [2, 3])
def test_any_number_of_channels(dims: int, in_channels: int) -> None:
    arch = "test_resnet" if dims == 2 else "resnet10"
    model = create_model(arch, spatial_dims=dims, num_classes=4, in_channels=in_channels).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, in_channels, *[32] * dims)).shape == (2, 4)


def test_the_head() -> None:
    torch.manual_seed(0)
    first = create_model("test_resnet", num_classes=5, drop_rate=0.5)
    torch.manual_seed(0)
    second = create_model("test_resnet", num_classes=5, drop_rate=0.5)
    assert isinstance(first.head, nn.Linear)
    assert first.head.in_features == first.backbone.num_features
    assert not first.head.bias.any()
    assert first.head.weight.detach().std().item() == pytest.approx(0.01, rel=0.2)
    assert torch.equal(first.head.weight, second.head.weight)
    _, suffix = first.split_at("head")
    features = torch.ones(1, first.backbone.num_features)
    assert not torch.equal(suffix(features), suffix(features))  # dropout works while it trains
    assert torch.equal(suffix.eval()(features), first.head(features))


def test_stages_that_do_not_exist_are_refused() -> None:
    model = create_model("test_resnet", num_classes=2)
    with pytest.raises(ModelError, match="'layer5' is not a stage"):
        model.split_at("layer5")
    for name in ("layer1.0.conv1.weight", "backbone.net.layer9.weight", "tail.weight"):
        with pytest.raises(ModelError, match="is no parameter of test_resnet"):
            model.stage_of(name)


def test_the_reason_for_random_weights_is_reported() -> None:
    automatic = create_model("resnet10", spatial_dims=3, num_classes=2, weights="auto").loading_report
    assert "resnet10 has no 2D namesake" in automatic.summary()
    assert create_model("test_resnet", num_classes=2).loading_report.summary() == "random weights"
    assert create_model("test_resnet", num_classes=2, weights=None).loading_report.source == "none"


@pytest.mark.parametrize("arch", ["resnet18", "resnet50d", "resnetv2_50", "ecaresnet50d_pruned", "resnetrs50"])
def test_facts_in_2d_are_those_of_timm(arch: str) -> None:
    facts = backbone_facts(arch, spatial_dims=2, in_channels=3)
    with torch.device("meta"):
        net = timm.create_model(arch, pretrained=False, num_classes=0)
    assert facts.num_parameters == sum(parameter.numel() for parameter in net.parameters())
    assert facts.num_features == net.num_features
    assert facts.total_stride == net.feature_info[-1]["reduction"]
    assert not facts.pretrained


@pytest.mark.parametrize("arch", list_archs(spatial_dims=3))
def test_facts_in_3d(arch: str) -> None:
    facts = backbone_facts(arch, spatial_dims=3)
    assert facts.total_stride == 32
    assert facts.num_features == (512 if arch in ("resnet10", "resnet18", "resnet34") else 2048)


def test_facts_are_those_of_the_model() -> None:
    weights = weights_of(random_net("resnet18"))
    facts = backbone_facts("resnet18", spatial_dims=3, weights=weights)
    model = create_model("resnet18", spatial_dims=3, num_classes=2, weights=weights)
    assert facts.num_parameters == sum(parameter.numel() for parameter in model.backbone.parameters())
    assert facts.num_features == model.backbone.num_features
    assert (facts.pretrained, facts.weights_source) == (True, "random-net")
    assert (facts.input_mean, facts.input_std) == (MEAN, STD)


def test_facts_refuse_weights_that_do_not_fit() -> None:
    with pytest.raises(WeightsError, match="does not fit resnet34"):
        backbone_facts("resnet34", spatial_dims=3, weights=weights_of(random_net("resnet18")))


def test_given_weights_are_left_as_found() -> None:
    weights = weights_of(random_net("resnet18"))
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    model = create_model("resnet18", num_classes=2, weights=weights)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.tensors.items())
