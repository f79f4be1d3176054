"""Stochastic depth in every residual family: nothing changes in use, means stay, frozen stages stay whole."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from medres.errors import ModelError
from medres.finetuning.freezing import freeze_to
from medres.models.backbone import Backbone
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.models.names import builtin_archs
from medres.models.stochastic_depth import set_stochastic_depth

#: One of each kind of block, and the number of its blocks.
FAMILIES = [
    ("resnet18", 2, 8),  # BasicBlock
    ("resnet26d", 2, 8),  # Bottleneck
    ("ecaresnet26t", 2, 8),
    ("resnetblur18", 2, 8),
    ("resnetv2_18", 2, 8),  # PreActBasic
    ("resnetv2_50", 2, 16),  # PreActBottleneck
    ("res2net50_48w_2s", 2, 16),
    ("resnest14d", 2, 4),
    ("skresnet18", 2, 8),
    ("skresnext50_32x4d", 2, 16),
    ("regnetx_002", 2, 13),
    ("regnetv_040", 2, 22),  # PreBottleneck
    ("convnext_atto", 2, 12),
    ("legacy_seresnet18", 2, 8),  # SEResNetBlock
    ("legacy_seresnet50", 2, 16),  # SEResNetBottleneck
    ("legacy_seresnext26_32x4d", 2, 8),
    ("resnet10", 3, 4),
    ("resnet18", 3, 8),
    ("resnet50", 3, 16),
]


def _model(arch: str, dims: int, drop_path: float) -> ClassificationModel:
    torch.manual_seed(0)
    return create_model(arch, spatial_dims=dims, num_classes=2, drop_path=drop_path)


def _batch(dims: int, size: int = 2) -> torch.Tensor:
    side = 64 if dims == 2 else 32
    return torch.randn(size, 1, *[side] * dims, generator=torch.Generator().manual_seed(1))


def _drops(model: nn.Module) -> list[DropPath]:
    return [module for module in model.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize(("arch", "dims", "num_blocks"), FAMILIES)
def test_in_use_it_is_the_same_network_and_in_training_every_branch_passes_its_drop(
    arch: str, dims: int, num_blocks: int
) -> None:
    plain, dropped = _model(arch, dims, 0.0), _model(arch, dims, 0.6)
    assert list(dropped.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in dropped.state_dict().items())
    x = _batch(dims)
    with torch.no_grad():
        assert torch.equal(dropped.eval()(x), plain.eval()(x))
    assert not _drops(plain)
    rates = [drop.drop_prob for drop in _drops(dropped)]
    assert rates == pytest.approx([0.6 * number / num_blocks for number in range(1, num_blocks + 1)])
    called: list[DropPath] = []
    for drop in _drops(dropped):
        drop.register_forward_hook(lambda module, *_: called.append(module))
    torch.manual_seed(0)
    dropped.train()
    found = dropped.backbone(x)
    assert called == _drops(dropped)  # each block once, in the order of the rates
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in dropped.backbone.parameters())


@pytest.mark.parametrize("arch", ["resnet18", "legacy_seresnet18", "convnext_atto"])
def test_a_branch_that_is_left_out_leaves_the_shortcut_alone(arch: str) -> None:
    model = _model(arch, 2, 0.5).train()
    block = model.backbone.net.get_submodule("stages.3.blocks.1" if arch.startswith("convnext") else "layer4.1")
    _drops(block)[0].drop_prob = 1.0 - 1e-12
    x = torch.rand(2, next(block.parameters()).shape[0] if arch.startswith("convnext") else 512, 4, 4)
    assert torch.equal(block(x), x)  # x is not negative: the last ReLU keeps it


@pytest.mark.parametrize("arch", ["resnet10", "resnet50"])
def test_a_branch_of_a_3d_block_that_is_left_out_leaves_the_shortcut_alone(arch: str) -> None:
    model = _model(arch, 3, 0.5).train()
    block = list(model.backbone.net.get_submodule("layer4"))[-1]
    _drops(block)[0].drop_prob = 1.0 - 1e-12
    x = torch.rand(2, 256 if arch == "resnet10" else 2048, 2, 2, 2)
    expected = torch.relu(x if block.downsample is None else block.downsample(x))
    torch.testing.assert_close(block(x), expected)


def test_the_mean_over_many_draws_is_the_whole_branch() -> None:
    model = _model("convnext_atto", 2, 0.4).eval()
    block = model.backbone.net.get_submodule("stages.3.blocks.1")  # its end is linear: shortcut + drop_path(branch)
    block.gamma.data.fill_(1.0)  # ConvNeXt starts its branches at a millionth
    x = torch.randn(1, 320, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = block(x)
        block.drop_path.train()
        torch.manual_seed(0)
        mean = block(x.expand(20_000, -1, -1, -1)).mean(dim=0, keepdim=True)
    branch = (whole - x).abs().max()
    kept = 1 - block.drop_path.drop_prob
    deviation = branch * ((1 - kept) / kept / 20_000) ** 0.5
    assert (mean - whole).abs().max() < 5 * deviation
    assert branch > 100 * deviation  # so that a branch without its division by what is kept would be seen


def test_scans_are_left_out_one_by_one() -> None:
    model = _model("resnet18", 2, 0.9)
    for module in model.modules():
        module.train(isinstance(module, DropPath))
    torch.manual_seed(0)
    with torch.no_grad():
        answers = model(_batch(2, 1).expand(16, -1, -1, -1))
    assert len(answers[:, 0].unique()) > 4


@pytest.mark.parametrize(("arch", "dims"), [("resnet18", 2), ("regnetx_002", 2), ("resnet10", 3)])
@pytest.mark.parametrize("norm_statistics", ["frozen", "update"])
def test_frozen_stages_drop_nothing_and_trained_ones_do(arch: str, dims: int, norm_statistics: str) -> None:
    model = freeze_to(_model(arch, dims, 0.5), "layer4", norm_statistics=norm_statistics)  # type: ignore[arg-type]
    model.train()
    for module in model.modules():
        module.train()
    prefix, suffix = model.split_at("layer4")
    assert _drops(prefix)
    assert not any(drop.training for drop in _drops(prefix))
    assert _drops(suffix)
    assert all(drop.training for drop in _drops(suffix))


def test_slices_know_it_too() -> None:
    model = create_model("resnet18", slicewise=True, spatial_dims=3, num_classes=2, drop_path=0.3)
    assert len(_drops(model)) == 8


@pytest.mark.slow  # a minute
def test_every_builtin_architecture_has_it_or_is_refused() -> None:
    for dims in (2, 3):
        for arch in builtin_archs(spatial_dims=dims):
            with torch.device("meta"):
                if "densenet" in arch:
                    with pytest.raises(ModelError, match=f"{arch} has no residual branches"):
                        create_model(arch, spatial_dims=dims, num_classes=2, drop_path=0.1)
                else:
                    assert len(_drops(create_model(arch, spatial_dims=dims, num_classes=2, drop_path=0.1))) >= 4, arch


def test_networks_without_residual_branches_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"densenet121 has no residual branches.*drop_path=0"):
        create_model("densenet121", num_classes=2, drop_path=0.1)
    create_model("densenet121", num_classes=2, drop_path=0.0)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_that_cannot_be_are_refused(rate: float) -> None:
    backbone: Backbone = _model("resnet18", 2, 0.0).backbone
    with pytest.raises(ModelError, match="at least 0 and below 1"):
        set_stochastic_depth(backbone, rate)
