"""Names of other programs: the same network under each of them, every tensor accounted for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from medres.errors import WeightsError
from medres.models.factory import create_model
from medres.models.key_styles import plainly_named
from medres.models.weights import resolve_weights
from tests.models.nets import random_net

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def resnet() -> Tensors:
    return dict(random_net("resnet18").state_dict())


def _named(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _without_fc(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _other(tensors: Tensors) -> Tensors:
    return {name: tensor + 1 for name, tensor in _without_fc(tensors).items()}


def _numbered(tensors: Tensors) -> Tensors:
    net = torchvision.models.resnet18()
    net.load_state_dict(tensors)
    return dict(nn.Sequential(*list(net.children())[:9]).state_dict())


def _ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


def _in_state(*parts: Tensors) -> dict[str, Any]:
    return {"state_dict": {name: tensor for part in parts for name, tensor in part.items()}, "epoch": 3}


STYLES: dict[str, Callable[[Tensors], Any]] = {
    "torchvision": lambda t: t,
    "DataParallel": lambda t: _in_state(_named("module.", t)),
    "Lightning-model": lambda t: _in_state(_named("model.", t), {"val_auroc.total": _ones(3)}),
    "Lightning-net": lambda t: _in_state(_named("net.", t), {"criterion.weight": _ones(2)}),
    "Lightning-backbone": lambda t: _in_state(_named("backbone.", _without_fc(t)), {"head.weight": _ones(2)}),
    "Lightning-encoder": lambda t: _in_state(_named("encoder.", _without_fc(t)), {"projector.0.weight": _ones(2, 2)}),
    "segmentation": lambda t: {**_named("encoder.", _without_fc(t)), "decoder.conv.weight": _ones(2, 2, 3, 3)},
    "DINO": lambda t: {
        "student": _named("module.backbone.", _other(t)),
        "teacher": {**_named("backbone.", _without_fc(t)), "head.mlp.0.weight": _ones(2, 2)},
    },
    "DINO-Lightning": lambda t: _in_state(
        _named("student.backbone.", _other(t)),
        _named("teacher.backbone.", _without_fc(t)),
        {"teacher.dino_head.weight": _ones(2)},
    ),
    "MoCo": lambda t: _in_state(
        _named("module.encoder_k.", _other(t)), _named("module.encoder_q.", t), {"module.queue": _ones(2, 4)}
    ),
    "MoCo-v3": lambda t: _in_state(
        _named("module.momentum_encoder.", _other(t)),
        _named("module.base_encoder.", t),
        {"module.predictor.0.weight": _ones(2, 2)},
    ),
    "RadImageNet": lambda t: _named("backbone.", _numbered(t)),
    "numbered": _numbered,
    "backbone-and-head": lambda t: {**_named("0.", _without_fc(t)), "1.weight": _ones(2, 512), "1.bias": _ones(2)},
    "pieces": lambda t: {"backbone": _without_fc(t), "head": {"weight": _ones(2)}},
}

#: Those that hold more than one network or what belongs to none.
SEVERAL = (
    "Lightning-model", "Lightning-encoder", "segmentation", "DINO", "DINO-Lightning", "MoCo", "MoCo-v3",
    "backbone-and-head",
)  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_the_same_network_under_every_style(resnet: Tensors, tmp_path: Path, style: str) -> None:
    torch.save(STYLES[style](resnet), tmp_path / "theirs.pth")
    model = create_model("resnet18", in_channels=3, num_classes=2, weights=str(tmp_path / "theirs.pth"))
    own = model.backbone.net.state_dict()
    assert all(torch.equal(own[name], resnet[name]) for name in own)
    assert len(own) == len(_without_fc(resnet))
    notes = [note for note in model.loading_report.notes if "was taken; left out: " in note]
    assert bool(notes) == (style in SEVERAL)


def test_the_better_of_two_networks_is_named() -> None:
    kernel = torch.zeros(4, 3, 3, 3)
    tensors = {"student.conv1.weight": kernel, "teacher.conv1.weight": kernel + 1}
    named = plainly_named(tensors)
    assert torch.equal(named.tensors["conv1.weight"], kernel + 1)
    assert named.notes == ("of several networks teacher was taken; left out: 1 tensors (student.conv1.weight)",)


def test_two_networks_side_by_side_are_not_guessed() -> None:
    kernel = torch.zeros(4, 3, 3, 3)
    tensors = {"net.conv1.weight": kernel, "generator.conv1.weight": kernel}
    assert set(plainly_named(tensors).tensors) == set(tensors)


@pytest.mark.parametrize(
    ("theirs", "arch"),
    [("regnet_y_400mf", "regnety_004"), ("regnet_x_400mf", "regnetx_004_tv"), ("densenet121", "densenet121")],
)
def test_other_families_of_torchvision(theirs: str, arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = getattr(torchvision.models, theirs)().eval()
    torch.save(net.state_dict(), tmp_path / "theirs.pth")
    model = create_model(arch, in_channels=3, num_classes=2, weights=str(tmp_path / "theirs.pth")).eval()
    assert all(why == "classifier" for why in model.loading_report.left_out.values())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    children: OrderedDict[str, nn.Module] = OrderedDict(list(net.named_children())[:-1])
    with torch.no_grad():
        expected = nn.Sequential(children)(x)
        if theirs.startswith("densenet"):
            expected = expected.relu().mean((2, 3))
        torch.testing.assert_close(model.backbone(x), expected.flatten(1), rtol=1e-4, atol=1e-5)


def test_the_first_densenets() -> None:
    old = {"features.denseblock1.denselayer1.norm.1.weight": torch.zeros(2), "features.conv0.weight": torch.zeros(1)}
    assert "features.denseblock1.denselayer1.norm1.weight" in plainly_named(old).tensors


FILES: dict[str, tuple[Any, str]] = {
    "another-shape": (lambda t: {**t, "layer1.0.conv1.weight": _ones(64, 3, 3, 3)}, "1 of another shape (layer1.0"),
    "missing": (lambda t: {k: v for k, v in t.items() if k != "bn1.bias"}, "1 missing (bn1.bias)"),
    "unexpected": (lambda t: {**t, "layer5.weight": torch.zeros(2)}, "1 not in the network (layer5.weight)"),
    "pickle": (lambda t: {"state_dict": t, "trainer": Path("x")}, "cannot be opened without pickle"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*FILES, "truncated", "empty", "text"])
def test_one_clear_message_for_each_bad_file(resnet: Tensors, tmp_path: Path, case: str) -> None:
    change, words = FILES.get(case, (lambda t: t, ""))
    path = tmp_path / "weights.pth"
    torch.save(change(resnet), path)
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:100_000])
        words = "weights.pth is truncated or damaged (100,000 bytes"
    elif case in ("empty", "text"):
        path.write_bytes(b"" if case == "empty" else b"the weights are on the other server\n")
        words = "is empty (0 bytes)" if case == "empty" else "neither a safetensors nor a torch file"
    with pytest.raises(WeightsError) as caught:
        create_model("resnet18", num_classes=2, weights=str(path))
    assert words in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_the_note_reaches_the_weights(resnet: Tensors, tmp_path: Path) -> None:
    torch.save(STYLES["MoCo"](resnet), tmp_path / "moco.pth")
    weights = resolve_weights(str(tmp_path / "moco.pth"), arch="resnet18", spatial_dims=2)
    assert weights is not None
    assert any(note.startswith("of several networks encoder_q was taken") for note in weights.notes)
