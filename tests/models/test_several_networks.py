"""Files with more than one network, networks behind any prefix: which one is taken, bit for bit, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medres.errors import WeightsError
from medres.models.checkpoints import Checkpoint, read_checkpoint
from medres.models.factory import create_model
from medres.models.key_styles import plainly_named
from medres.models.several_networks import network_roots
from medres.models.timm_networks import build_timm_backbone
from tests.models.nets import random_net

Tensors = dict[str, torch.Tensor]

#: One architecture for each way in which medres's networks name their stem and layers (205 names, 10 ways).
LAYOUTS = (
    "resnet18", "resnet18d", "legacy_seresnet18", "resnetrs50", "resnetv2_18", "resnetv2_18d", "regnetx_002",
    "regnetv_040", "regnetz_005", "convnext_atto", "densenet121",
)  # fmt: skip
PREFIXES = ("feature_extractor.", "cnn.", "resnet18.", "features.", "module.model.", "encoder_q.", "a.b.c.", "0.", "7.")


def _net(seed: int, *, statistics: bool = True, head: bool = True) -> Tensors:
    """The names of a small residual network."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,),
        "layer1.0.conv1.weight": (4, 4, 3, 3), "layer1.0.bn1.weight": (4,), "layer1.0.bn1.bias": (4,),
    }  # fmt: skip
    if statistics:
        shapes |= {"bn1.running_mean": (4,), "layer1.0.bn1.running_mean": (4,)}
    if head:
        shapes |= {"fc.weight": (2, 4)}
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def _named(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _read(content: Any, folder: Path) -> Checkpoint:
    torch.save(content, folder / "weights.pth")
    return read_checkpoint(folder / "weights.pth")


def _is(found: Checkpoint, expected: Tensors) -> bool:
    backbone = {name for name in expected if not name.startswith("fc.")}
    return all(torch.equal(found.tensors[name], expected[name]) for name in backbone)


@pytest.mark.parametrize("arch", LAYOUTS)
def test_any_prefix_is_taken_off_any_layout(arch: str) -> None:
    with torch.device("meta"):
        own = build_timm_backbone(arch, in_channels=3).net.state_dict()
    assert network_roots(own) == [""]
    assert set(plainly_named(own).tensors) == set(own)
    for prefix in PREFIXES:
        behind = plainly_named({f"{prefix}{name}": tensor for name, tensor in own.items()})
        assert set(behind.tensors) == set(own), prefix
        assert behind.notes == (), prefix
        with_head = {**{f"{prefix}{name}": tensor for name, tensor in own.items()}, "fc.weight": torch.zeros(2, 8)}
        assert set(plainly_named(with_head).tensors) == {*own, "fc.weight"}, prefix


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_row_of_numbered_children_behind_any_prefix(prefix: str) -> None:
    net = random_net("resnet18")
    children = [net.conv1, net.bn1, net.act1, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4]
    numbered = nn.Sequential(*children).state_dict()
    named = plainly_named({f"{prefix}{name}": tensor for name, tensor in numbered.items()}).tensors
    expected = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("fc.")}
    assert set(named) == set(expected)
    assert all(torch.equal(named[name], tensor) for name, tensor in expected.items())


RAW, AVERAGED = _net(1), _net(2)

#: Content to what of it is said to be left out.
TWO_NETWORKS: dict[str, tuple[Any, str]] = {
    "timm": ({"state_dict": RAW, "state_dict_ema": AVERAGED}, "state_dict (9 tensors)"),
    "torchvision": ({"model": RAW, "model_ema": {"n_averaged": torch.ones(())} | _named("module.", AVERAGED)}, "model"),
    "mmengine": ({"state_dict": RAW, "ema_state_dict": _named("module.", AVERAGED)}, "state_dict"),
    "short": ({"net": RAW, "ema": AVERAGED, "optimizer": {"state": {0: {"exp_avg": RAW["conv1.weight"]}}}}, "net"),
    "swa": ({"model_state_dict": RAW, "swa_model": _named("module.", AVERAGED), "epoch": 3}, "model_state_dict"),
    "shadow": ({"params": RAW, "shadow_params": AVERAGED}, "params"),
    "camel": ({"model": RAW, "modelEMA": AVERAGED}, "model"),
    "deep": ({"checkpoint": {"model": RAW, "ema": {"module": AVERAGED}}}, "checkpoint.model"),
    "flat": ({**_named("model.", RAW), **_named("model_ema.module.", AVERAGED)}, "model.conv1.weight"),
    "flat-Lightning": (
        {"state_dict": {**_named("ema_model.", AVERAGED), **_named("model.", RAW), "step": torch.tensor(1)}},
        "model.conv1.weight",
    ),
    "beside": ({**RAW, **_named("ema.", AVERAGED)}, "conv1.weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", TWO_NETWORKS)
def test_the_averaged_weights_are_taken_and_the_others_named(case: str, tmp_path: Path) -> None:
    content, left = TWO_NETWORKS[case]
    found = _read(content, tmp_path)
    assert _is(found, AVERAGED)
    note = next(note for note in found.notes if note.startswith("of several networks"))
    assert "(averaged weights) was taken; left out: " in note
    assert left in note.partition("left out: ")[2]


@pytest.mark.parametrize(
    "averaged", [_net(2, statistics=False), {"bn1.weight": torch.ones(4)}], ids=["parameters", "norm"]
)
def test_an_average_without_statistics_is_no_network(averaged: Tensors, tmp_path: Path) -> None:
    for content in (
        {"state_dict": RAW, "state_dict_ema": averaged},
        {**_named("model.", RAW), **_named("model_ema.", averaged)},
    ):
        assert _is(_read(content, tmp_path), RAW)


def test_an_average_without_names_is_said(tmp_path: Path) -> None:
    found = _read({"model": RAW, "ema": {"shadow_params": list(AVERAGED.values())}}, tmp_path)
    assert _is(found, RAW)
    assert any("ema.shadow_params" in note and "without names" in note for note in found.notes)


ONE_OF = {
    "MoCo": ("encoder_q", "encoder_k"), "BYOL": ("online_encoder", "target_encoder"), "DINO": ("teacher", "student"),
    "lightly": ("backbone", "backbone_momentum"), "unknown": ("first", "second"),
    "key": ("state_dict", "discriminator"),
}  # fmt: skip


@pytest.mark.parametrize("method", ONE_OF)
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_that_fit_one_is_taken_by_rule(method: str, turned: bool, tmp_path: Path) -> None:
    taken, left = ONE_OF[method]
    if turned and method == "unknown":
        taken, left = left, taken
    by_name = {taken: RAW, left: _net(3)}
    order = sorted(by_name, key=lambda name: (name != taken) != (turned and method != "unknown"))
    for content in (
        {name: by_name[name] for name in order},
        {name: tensor for part in order for name, tensor in _named(f"{part}.", by_name[part]).items()},
    ):
        found = _read(content, tmp_path)
        assert _is(found, RAW)
        assert any(f"of several networks {taken} was taken" in note and left in note for note in found.notes)


def test_pickles_that_hold_one_mapping_many_times(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": RAW}
    content["again"] = content
    assert _is(_read(content, tmp_path), RAW)
    doubled: dict[str, Any] = {"epoch": 1}
    for _ in range(60):
        doubled = {"a": doubled, "b": doubled}
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        _read(doubled, tmp_path)


@pytest.mark.parametrize("prefix", ["our_net.trunk_of_it.", "x."])
def test_what_does_not_fit_says_what_all_names_begin_with(prefix: str, tmp_path: Path) -> None:
    names = [f"{prefix}block_{number}.kernel.weight" for number in range(9)]
    torch.save({name: torch.zeros(2, 2, 3, 3) for name in names}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError) as caught:
        create_model("resnet18", num_classes=2, weights=str(tmp_path / "weights.pth"))
    assert f"all names begin with {prefix}" in str(caught.value)
    assert "no ResNet" not in str(caught.value)


def test_what_was_left_reaches_the_report_of_the_network(tmp_path: Path) -> None:
    raw, averaged = (random_net("resnet18").state_dict() for _ in range(2))
    averaged = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in averaged.items()}
    torch.save({"state_dict": raw, "state_dict_ema": averaged}, tmp_path / "two.pth")
    model = create_model("resnet18", in_channels=3, num_classes=2, weights=str(tmp_path / "two.pth"))
    own = model.backbone.net.state_dict()
    assert all(torch.equal(own[name], averaged[name]) for name in own if not name.endswith("num_batches_tracked"))
    said = "of several networks state_dict_ema (averaged weights) was taken; left out: state_dict (122 tensors)"
    assert said in model.loading_report.notes
    assert said in model.loading_report.summary()
    assert said in model.loading_report.counts()["notes"]
