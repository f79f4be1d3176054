"""Loading is strict: all of it fits, or one message says what does not and what would."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medres.errors import WeightsError
from medres.models.factory import backbone_facts, create_model
from medres.models.loading import LoadingReport, load_pretrained
from medres.models.timm_networks import build_timm_backbone
from medres.models.weights import PretrainedWeights
from medres.runs.documents import sha256_of
from tests.models.nets import random_net, save_net, weights_of

Tensors = dict[str, torch.Tensor]


def _changed(change: Callable[[Tensors], object]) -> PretrainedWeights:
    weights = weights_of(random_net("resnet18"))
    change(weights.tensors)
    return weights


def test_everything_is_accounted_for() -> None:
    weights = weights_of(random_net("resnet18"))
    model = create_model("resnet18", num_classes=2, weights=weights)
    report = model.loading_report
    own = set(model.backbone.net.state_dict())
    assert set(report.taken) | set(report.adapted) == own
    assert not set(report.taken) & set(report.adapted)
    assert set(report.adapted) == {"conv1.weight", "conv1.offset_kernel"}
    assert report.left_out == {"fc.weight": "classifier", "fc.bias": "classifier"}
    for name in report.taken:
        assert torch.equal(model.backbone.net.state_dict()[name], weights.tensors[name]), name
    assert report.summary().endswith(
        "119 tensors taken, 2 adapted, 2 left out (classifier); "
        "their architecture is not stated: resnetblur18 has the same tensors"
    )


def test_the_report_is_a_document(tmp_path: Path) -> None:
    report = create_model("resnet18", num_classes=2, weights=weights_of(random_net("resnet18"))).loading_report
    report.write_json(tmp_path / "report.json")
    assert LoadingReport.read(tmp_path / "report.json") == report


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_counters_of_batch_norm_may_be_missing(spatial_dims: int) -> None:
    weights = _changed(lambda t: [t.pop(name) for name in list(t) if name.endswith("num_batches_tracked")])
    report = create_model("resnet18", spatial_dims=spatial_dims, num_classes=2, weights=weights).loading_report
    assert not any(name.endswith("num_batches_tracked") for name in report.taken)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update({"layer3.1.conv2.weight": torch.zeros(256, 128, 3, 3)}),
         ["1 of another shape", "layer3.1.conv2.weight: weights 256x128x3x3, network 256x256x3x3"]),
        (lambda t: t.update({"layer3.1.bn2.bias": torch.zeros(7)}), ["layer3.1.bn2.bias: weights 7, network 256"]),
        (lambda t: t.pop("layer2.0.bn1.running_var"), ["1 missing (layer2.0.bn1.running_var)"]),
        (lambda t: t.update({"projector.weight": torch.zeros(3)}), ["1 not in the network (projector.weight)"]),
        (lambda t: t.update({"conv1.weight": torch.zeros(64, 4, 7, 7)}), ["conv1.weight: weights 64x4x7x7"]),
        (lambda t: t.update({"conv1.weight": torch.zeros(64)}), ["conv1.weight: weights 64, network"]),
        (lambda t: t.pop("conv1.weight"), ["1 missing (conv1.weight)"]),
        (lambda t: t.update({"layer1.0.conv1.weight": torch.ones(64, 64, 3, 3, dtype=torch.int8)}),
         ["1 of another type (layer1.0.conv1.weight: weights int8, network float32)", "Give the floating point"]),
        (lambda t: t.update({"conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.uint8)}),
         ["of another type (conv1.weight: weights uint8, network float32"]),
    ],
    ids=["kernel", "vector", "missing", "unexpected", "channels", "no-kernel", "no-stem", "int8", "int8-stem"],
)  # fmt: skip
def test_bad_weights(change: Callable[[Tensors], object], words: list[str], spatial_dims: int) -> None:
    with pytest.raises(WeightsError) as caught:
        create_model("resnet18", spatial_dims=spatial_dims, num_classes=2, weights=_changed(change))
    message = str(caught.value)
    assert f"random-net does not fit resnet18 in {spatial_dims}D" in message
    assert all(word in message for word in words), message


def test_a_network_is_unchanged_by_weights_that_do_not_fit() -> None:
    backbone = build_timm_backbone("resnet18", in_channels=1)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(WeightsError):
        load_pretrained(backbone, _changed(lambda t: t.pop("layer4.1.bn2.bias")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("donor", "arch", "spatial_dims", "words"),
    [
        (
            "resnet18",
            "resnet34",
            2,
            [
                "a ResNet-18 with 64/128/256/512 channels",
                "They have the same tensors as resnet18 or resnetblur18: use the --arch that they were trained as.",
            ],
        ),
        ("resnet50d", "resnet50", 2, ["a ResNet-50", "resnet50d"]),
        ("resnet50d", "resnet50", 3, ["resnet50d", "(2D only)"]),
        ("resnet26", "resnet18", 3, ["a ResNet-26 with 256/512/1024/2048 channels", "resnet26 (2D only)"]),
        ("resnetv2_50", "resnet50", 2, ["a ResNet-50", "resnetv2_50"]),
        ("test_resnet", "resnet18", 2, ["Choose weights of resnet18, or --weights none"]),
    ],
)
def test_the_message_says_what_the_weights_are(donor: str, arch: str, spatial_dims: int, words: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        create_model(arch, spatial_dims=spatial_dims, num_classes=2, weights=weights_of(random_net(donor)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("conv1.weight", torch.zeros(64, 5, 7, 7)),
        ("layer1.0.bn1.num_batches_tracked", torch.zeros(2, dtype=torch.int64)),
    ],
)
def test_no_other_name_is_offered_where_it_would_not_fit_either(
    name: str, tensor: torch.Tensor, spatial_dims: int
) -> None:
    weights = _changed(lambda t: t.update({name: tensor}))
    with pytest.raises(WeightsError) as caught:
        backbone_facts("resnet18", spatial_dims=spatial_dims, weights=weights)
    assert name in str(caught.value)
    assert str(caught.value).endswith("Choose other weights of resnet18, or --weights none.")


def test_a_stated_architecture_is_offered_alone() -> None:
    weights = dataclasses.replace(_changed(lambda _: None), arch="resnet18")
    backbone = build_timm_backbone("test_resnet", in_channels=1)
    backbone.arch = "their_net"  # of a plug-in: not compared with what is stated
    with pytest.raises(WeightsError, match="the same tensors as resnet18: use the --arch"):
        load_pretrained(backbone, weights)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,), (0.0,))])
def test_statistics_that_do_not_belong_together(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(WeightsError, match="input statistics that cannot be"):
        weights_of(random_net("test_resnet"), mean=mean, std=std)


def test_weights_of_no_resnet() -> None:
    weights = dataclasses.replace(weights_of(random_net("resnet18")), tensors={"0.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="a network whose names medres does not know"):
        create_model("resnet18", num_classes=2, weights=weights)


@pytest.mark.parametrize("in_channels", [1, 2])
def test_an_exported_3d_network_is_loaded_without_inflation(tmp_path: Path, in_channels: int) -> None:
    trained = create_model(
        "resnet18", spatial_dims=3, num_classes=2, in_channels=in_channels, weights=weights_of(random_net("resnet18"))
    ).eval()
    save_file(trained.state_dict(), tmp_path / "export.safetensors", {"mean": "0.4", "std": "0.2"})
    again = create_model(
        "resnet18", spatial_dims=3, num_classes=5, in_channels=in_channels, weights=str(tmp_path / "export.safetensors")
    ).eval()
    x = torch.randn(1, in_channels, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.backbone(x), trained.backbone(x))
    assert again.loading_report.adapted == {}
    assert again.loading_report.left_out == {"head.weight": "classifier", "head.bias": "classifier"}
    assert (again.input_mean, again.input_std) == ((0.4,), (0.2,))
    assert again.loading_report.notes == ()


def test_the_geometry_of_other_3d_weights_is_said_to_be_assumed() -> None:
    weights = weights_of(create_model("resnet10", spatial_dims=3, num_classes=2, in_channels=3).backbone.net)
    report = create_model("resnet10", spatial_dims=3, num_classes=2, weights=weights).loading_report
    assert report.notes == (
        "3D weights, taken to be of a net with a stride-2 stem and without dilation; "
        "state another by the key geometry of a safetensors header (geometry: medicalnet)",
    )


def test_3d_weights_are_refused_in_2d(tmp_path: Path) -> None:
    save_net(create_model("resnet18", spatial_dims=3, num_classes=2), tmp_path / "export.safetensors")
    with pytest.raises(WeightsError, match="weights of a 3D network"):
        create_model("resnet18", num_classes=2, weights=str(tmp_path / "export.safetensors"))


@pytest.mark.parametrize("arch", ["resnet18", "resnetv2_50x1_bit"])
def test_an_exported_2d_network_is_loaded_bit_for_bit(tmp_path: Path, arch: str) -> None:
    trained = create_model(arch, num_classes=2, weights=weights_of(random_net(arch))).eval()
    path = save_net(trained, tmp_path / "export.safetensors")
    again = create_model(arch, num_classes=2, weights=str(path)).eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.backbone(x), trained.backbone(x))


def test_an_offset_that_an_rgb_stem_cannot_hold_is_refused(tmp_path: Path) -> None:
    trained = create_model("resnet18", num_classes=2, weights=weights_of(random_net("resnet18")))
    path = save_net(trained, tmp_path / "export.safetensors")
    with pytest.raises(WeightsError, match=r"conv1\.weight: weights 64x1x7x7, network 64x3x7x7"):
        create_model("resnet18", num_classes=2, in_channels=3, weights=str(path))


@pytest.mark.real
def test_tiny_imagenet_weights_load_in_2d_and_3d(real_weights: Path) -> None:
    path = real_weights / "resnet18.tiny_imagenet.safetensors"
    for dims, adapted in ((2, 2), (3, 21)):
        model = create_model("resnet18", spatial_dims=dims, num_classes=3, weights=str(path))
        report = model.loading_report
        assert len(report.adapted) == adapted
        assert set(report.left_out) == {"fc.weight", "fc.bias"}
        assert report.sha256 == sha256_of(path)
        assert model.input_mean == pytest.approx((0.449,))
        assert model.input_std == pytest.approx((0.226,))


@pytest.mark.real
def test_cifar_resnet20_is_recognised_and_refused(real_weights: Path) -> None:
    path = real_weights / "resnet20-12fca82f.th"
    assert sha256_of(path).startswith("12fca82f")
    for dims in (2, 3):
        with pytest.raises(WeightsError, match="a ResNet-20 with 16/32/64 channels") as caught:
            create_model("resnet18", spatial_dims=dims, num_classes=3, weights=str(path))
        assert str(path.parent) not in str(caught.value)
        assert "conv1.weight: weights 16x3x3x3" in str(caught.value)
