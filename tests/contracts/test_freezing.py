"""Frozen means frozen: for every recipe and a member of every backbone family, whoever calls ``train()``."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch.nn.modules.batchnorm import _NormBase

from medres.errors import ModelError
from medres.finetuning.freezing import freeze_to, thaw
from medres.finetuning.parameter_groups import parameter_groups
from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.models.geometry import GeometryName
from medres.models.names import TIMM_MODULES
from tests.models.conftest import _one_thread  # noqa: F401 -- a fixture: one thread for small nets

FAMILIES = [
    ("resnet18", 2),
    ("resnet26d", 2),
    ("ecaresnet26t", 2),
    ("resnext50_32x4d", 2),
    ("seresnet50", 2),
    ("resnetv2_50", 2),
    ("resnetblur18", 2),
    ("resnest14d", 2),
    ("res2next50", 2),
    ("skresnet18", 2),
    ("legacy_seresnet18", 2),
    ("regnetx_002", 2),
    ("test_convnext", 2),
    ("densenet121", 2),
    ("resnet10", 3),
    ("resnet50", 3),
]
#: In MedicalNet's geometry, with both kinds of shortcut.
MEDICALNET = ("resnet10", "resnet18")
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")


def _model(arch: str, spatial_dims: int, geometry: GeometryName | None = None) -> ClassificationModel:
    torch.manual_seed(0)
    return create_model(arch, spatial_dims=spatial_dims, num_classes=2, geometry=geometry)


@pytest.fixture(
    params=[*((*family, None) for family in FAMILIES), *((arch, 3, "medicalnet") for arch in MEDICALNET)],
    ids=lambda case: f"{case[0]}-{case[1]}D" + f"-{case[2]}" * bool(case[2]),
)
def network(request: pytest.FixtureRequest) -> ClassificationModel:
    """Return a new one for each test, which freezes and trains it."""
    return _model(*request.param)


def _batch(spatial_dims: int) -> torch.Tensor:
    return torch.randn(
        3, 1, *(64 if spatial_dims == 2 else 32,) * spatial_dims, generator=torch.Generator().manual_seed(1)
    )


def _train_steps(model: torch.nn.Module, batch: torch.Tensor, steps: int = 1) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), torch.tensor([0, 1, 0])).backward()
        optimizer.step()


def test_every_family_has_a_member_here() -> None:
    modules = {timm.models.model_entrypoint(arch).__module__ for arch, dims in FAMILIES if dims == 2}
    assert {module.rsplit(".", 1)[-1] for module in modules} == set(TIMM_MODULES)


@pytest.mark.parametrize("stage", ["layer2", "head"])
def test_frozen_tensors_are_bit_identical_after_training(network: ClassificationModel, stage: str) -> None:
    model = freeze_to(network, stage, norm_statistics="update")
    before = copy.deepcopy(model.state_dict())
    model.train()
    for module in model.modules():  # somebody wakes every part one by one
        module.train()
    _train_steps(model, _batch(model.backbone.spatial_dims))
    limit = STAGES.index(stage)
    frozen = [name for name in before if STAGES.index(model.stage_of(name)) < limit]
    assert frozen
    after = model.state_dict()
    for name in frozen:
        assert torch.equal(after[name], before[name]), name
    assert not torch.equal(model.head.weight, before["head.weight"])


@pytest.mark.parametrize(("arch", "spatial_dims"), FAMILIES[:2] + FAMILIES[-2:-1])
def test_norm_statistics_can_be_kept_in_trained_stages(arch: str, spatial_dims: int) -> None:
    model = freeze_to(_model(arch, spatial_dims), "stem", norm_statistics="frozen")
    norms = {name for name, module in model.named_modules() if isinstance(module, _NormBase)}
    before = copy.deepcopy(model.state_dict())
    model.train()
    _train_steps(model, _batch(spatial_dims))
    after = model.state_dict()
    assert norms
    for name in norms:
        assert torch.equal(after[f"{name}.running_mean"], before[f"{name}.running_mean"])
        assert not torch.equal(after[f"{name}.weight"], before[f"{name}.weight"])


def test_thawing_restores_training_everywhere() -> None:
    model = freeze_to(_model("resnet18", 2), "head")
    thaw(model)
    model.train()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_copy_of_a_frozen_model_is_frozen_by_itself() -> None:
    model = freeze_to(_model("resnet18", 2), "head")
    twin = copy.deepcopy(model)
    thaw(model)
    twin.train()
    assert not any(module.training for module in _leaves(twin.backbone))
    model.train()
    assert all(module.training for module in _leaves(model.backbone))


def _leaves(module: torch.nn.Module) -> list[torch.nn.Module]:
    return [part for part in module.modules() if not list(part.children())]


def test_an_unknown_stage_is_refused_with_the_names() -> None:
    with pytest.raises(ModelError, match=r"layer9.*layer4"):
        freeze_to(_model("resnet10", 3), "layer9")


def test_groups_hold_every_trainable_parameter_once(network: ClassificationModel) -> None:
    model = freeze_to(network, "layer3")
    stage = Stage(name="x", train_from="layer3", epochs=1, lr=1e-3, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(model, stage)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    rates = {group["name"].split("/")[0]: group["lr"] for group in groups}
    assert rates["head"] == pytest.approx(1e-3)
    assert rates["layer4"] == pytest.approx(5e-4)
    assert rates["layer3"] == pytest.approx(2.5e-4)
    for group in groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
