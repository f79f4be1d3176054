"""Stems of any stride: the shape of the features, what the denser stem sees, weights that still load."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from medres.errors import ModelError
from medres.models.factory import backbone_facts, create_model
from medres.models.geometry import DEFAULT, KEY, Geometry, ZeroPaddedShortcut, choose_geometry, geometry_in, geometry_of
from medres.models.weights import PretrainedWeights
from tests.models.nets import grey, random_net, weights_of

STRIDES = list(itertools.product((1, 2), repeat=3))


def test_the_strides_that_are_walked() -> None:
    assert len(STRIDES) == 8


@pytest.mark.parametrize("stride", STRIDES)
def test_the_shape_of_the_features_follows_from_the_strides(stride: tuple[int, int, int]) -> None:
    geometry = Geometry(stem_stride=stride)
    with torch.device("meta"):
        backbone = create_model("resnet18", spatial_dims=3, num_classes=2, stem_stride=stride).backbone
        for size in ((16, 32, 64), (17, 33, 65), (64, 8, 24)):
            expected = [math.ceil(side / total) for side, total in zip(size, geometry.total_strides, strict=True)]
            assert list(backbone.feature_map(torch.zeros(2, 1, *size)).shape) == [2, 512, *expected]
    assert geometry_of(backbone.net) == geometry
    assert (KEY in backbone.net.state_dict()) == (geometry != DEFAULT)
    facts = backbone_facts("resnet18", spatial_dims=3, stem_stride=stride)
    assert facts.total_stride == max(geometry.total_strides)


def test_a_thick_slice_stem_keeps_every_slice_and_sees_it_as_before() -> None:
    """The first convolution computes the same at the slices that both stems visit; the pooling mixes no slices."""
    weights = weights_of(random_net("resnet18"))
    options = {"spatial_dims": 3, "num_classes": 2, "weights": weights}
    thin = create_model("resnet18", **options).backbone.eval()
    thick = create_model("resnet18", stem_stride=(1, 2, 2), **options).backbone.eval()
    volume = grey((1, 1, 12, 32, 32))
    with torch.no_grad():
        dense = thick.net["conv1"](volume)
        torch.testing.assert_close(dense[:, :, ::2], thin.net["conv1"](volume))
        flat = [torch.nn.functional.max_pool2d(dense[:, :, depth], 3, 2, 1) for depth in range(12)]
        assert torch.equal(thick.net["maxpool"](dense), torch.stack(flat, 2))
    assert dense.shape[2] == 12


def test_inflated_weights_load_into_any_stem() -> None:
    weights = dataclasses.replace(weights_of(random_net("resnet18")), arch="resnet18")
    options = {"spatial_dims": 3, "num_classes": 2, "weights": weights}
    default = create_model("resnet18", **options).backbone.net.state_dict()
    for stride in ((1, 2, 2), (1, 1, 1)):
        model = create_model("resnet18", stem_stride=stride, **options)
        state = model.backbone.net.state_dict()
        assert set(state) - {KEY} == set(default)
        assert all(torch.equal(state[name], tensor) for name, tensor in default.items())
        assert not model.loading_report.notes


def test_weights_that_state_their_stem_bring_it_along_unless_another_is_asked_for() -> None:
    thick = create_model("resnet10", spatial_dims=3, num_classes=2, stem_stride=(1, 2, 2)).backbone.eval()
    tensors = thick.net.state_dict()
    assert geometry_in(tensors) == Geometry(stem_stride=(1, 2, 2))
    weights = PretrainedWeights(tensors=tensors, source="ours", sha256="0" * 64, mean=(0.5,), std=(0.5,))
    same = create_model("resnet10", spatial_dims=3, num_classes=2, weights=weights)
    other = create_model("resnet10", spatial_dims=3, num_classes=2, weights=weights, stem_stride=(2, 2, 2))
    x = torch.randn(1, 1, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(same.eval().backbone(x), thick(x))
    assert same.loading_report.notes == ()
    assert other.loading_report.notes == ("trained with a stem stride of 1x2x2, used with 2x2x2",)
    assert geometry_of(other.backbone.net) == DEFAULT
    assert KEY not in other.backbone.net.state_dict()
    assert other.loading_report.left_out == {KEY: "geometry"}


def test_a_geometry_that_is_not_known_is_refused() -> None:
    for numbers in ([2, 2, 2, 3, 9], [2, 2, 2], [5, 2, 2, 1, 1]):
        with pytest.raises(ModelError):
            geometry_in({KEY: torch.tensor(numbers)})


def test_asked_for_stated_and_neither() -> None:
    medicalnet = Geometry("medicalnet")
    assert choose_geometry(None, None, spatial_dims=3) == DEFAULT
    assert choose_geometry(None, None, spatial_dims=3, stated=medicalnet) == medicalnet
    assert choose_geometry("medicalnet", (2, 2, 2), spatial_dims=3, stated=medicalnet) == medicalnet
    assert choose_geometry("standard", [1, 2, 2], spatial_dims=3) == Geometry(stem_stride=(1, 2, 2))
    assert choose_geometry("standard", None, spatial_dims=2) == DEFAULT


@pytest.mark.parametrize("stride", [1, 2])
def test_the_shortcut_without_weights_is_a_pool_of_one_voxel_and_zeros(stride: int) -> None:
    x = torch.randn(2, 3, 5, 6, 7, requires_grad=True)
    y = ZeroPaddedShortcut(8, stride=stride)(x)
    assert torch.equal(y[:, :3], torch.nn.functional.avg_pool3d(x, 1, stride))
    assert y.shape[1] == 8
    assert not y[:, 3:].any()
    y.sum().backward()
    assert x.grad is not None
    assert int(x.grad.sum()) == y[:, :3].numel()
