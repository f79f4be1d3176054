"""Running statistics computed anew: those of all batches together, of the weights as they stand, nothing else."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from medres.finetuning.norm_statistics import Moments, renew_statistics
from medres.models.factory import create_model
from medres.preprocessing.stacks import Inputs
from tests.contracts.test_freezing import FAMILIES
from tests.models.test_slices import MASK, made, volumes


def _statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if "running_" in name}


@pytest.mark.parametrize("sizes", [(12,), (6, 6), (1, 4, 7), (1,) * 12])
def test_moments_of_parts_are_those_of_the_whole(sizes: tuple[int, ...]) -> None:
    # far from 0: a sum of squares in fp32 would lose the variance
    values = 1000 + torch.randn(12, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13)[
        :, None, None, None
    ]  # fmt: skip
    parts = [Moments.of(part) for part in values.split(sizes)]
    moments = parts[0]
    for part in parts[1:]:
        moments = moments.joined(part)
    expected = np.moveaxis(values.double().numpy(), 1, 0).reshape(3, -1)
    assert moments.number == expected.shape[1]
    np.testing.assert_allclose(moments.mean, expected.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(moments.squares / moments.number, expected.var(axis=1), rtol=1e-4)


@pytest.mark.parametrize(("arch", "spatial_dims"), FAMILIES)
def test_one_batch_gives_what_pytorch_gives(arch: str, spatial_dims: int) -> None:
    model = create_model(arch, spatial_dims=spatial_dims, num_classes=2, in_channels=1, weights="none")
    size = 64 if spatial_dims == 2 else 32
    scans = 3 + torch.randn(4, 1, *(size,) * spatial_dims, generator=torch.Generator().manual_seed(1))
    theirs = copy.deepcopy(model)
    update_bn([scans], theirs)
    before = copy.deepcopy(_statistics(model))
    renew_statistics(model, [Inputs(scans)])
    found = _statistics(model)
    changed = [name for name in found if not torch.equal(found[name], before[name])]
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        assert len(changed) == len(found) > 0
    for name, value in _statistics(theirs).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


class _Network(nn.Sequential):
    """Two normalisations with dropout between them; the second is held in eval mode by no one."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 3), nn.BatchNorm1d(3))


def _batches(count: int) -> list[Inputs]:
    generator = torch.Generator().manual_seed(2)
    return [Inputs(torch.randn(5, 2, generator=generator) + number) for number in range(count)]


def test_nothing_else_changes() -> None:
    network = _Network().train()
    network[3].eval()
    before = copy.deepcopy(network.state_dict())
    renew_statistics(network, _batches(3))
    assert [module.training for module in network] == [True, True, True, False]
    assert all(layer.track_running_stats for layer in (network[0], network[3]))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) is not ("running_" in name), name
    network(torch.zeros(5, 2))
    assert network[0].num_batches_tracked == 1  # it counts training's batches, and goes on with them


def test_dropout_is_off_and_the_global_random_state_unused() -> None:
    first, state = _Network(), torch.random.get_rng_state()
    second = copy.deepcopy(first)
    renew_statistics(first, _batches(3))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    renew_statistics(second, _batches(3))
    for name, value in _statistics(first).items():
        assert torch.equal(value, _statistics(second)[name]), name


def test_what_differs_between_batches_counts() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2))
    batches = _batches(4)
    renew_statistics(network, batches)
    everything = torch.cat([batch.scans for batch in batches])
    torch.testing.assert_close(network[0].running_mean, everything.mean(dim=0))
    torch.testing.assert_close(network[0].running_var, everything.var(dim=0))


def test_a_failure_leaves_the_layers_as_they_were() -> None:
    network = _Network()

    def batches() -> Any:
        yield from _batches(1)
        raise OSError("the disk is gone")

    before = copy.deepcopy(network.state_dict())
    with pytest.raises(OSError, match="gone"):
        renew_statistics(network, batches())
    assert all(not layer._forward_pre_hooks and layer.track_running_stats for layer in network if hasattr(layer, "eps"))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_network_without_batch_normalisation_is_not_run() -> None:
    def never() -> Any:
        raise AssertionError("no scan is needed")
        yield

    renew_statistics(nn.Sequential(nn.GroupNorm(1, 2), nn.Linear(2, 2)), never())


def test_what_a_stack_is_filled_up_with_does_not_count() -> None:
    first, second = (made("test_resnet") for _ in range(2))
    second.load_state_dict(first.state_dict())
    scans = volumes()
    renew_statistics(first, [Inputs(scans, MASK)])
    filled = torch.where(MASK[:, :, None, None, None], scans, torch.nan)
    renew_statistics(second, [Inputs(filled, MASK)])
    found = _statistics(first)
    assert len(found) >= 10
    for name, value in found.items():
        assert bool(torch.isfinite(value).all()), name
        torch.testing.assert_close(_statistics(second)[name], value)


def test_all_slices_of_a_batch_count_together() -> None:
    model = made("resnet18")  # 33 slices of 32 x 32: maps of 1 x 1, and one slice more than are computed at a time
    scans = torch.randn(2, 17, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    mask = torch.arange(17) < torch.tensor([[17], [16]])
    theirs = copy.deepcopy(model).train()
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    theirs(scans, mask)  # a pass of training
    renew_statistics(model, [Inputs(scans, mask)])
    assert len(_statistics(model)) >= 40
    for name, value in _statistics(theirs).items():
        torch.testing.assert_close(_statistics(model)[name], value, rtol=1e-4, atol=1e-5)


def test_a_layer_that_the_network_does_not_use_stays_as_it_was() -> None:
    network = _Network()
    network.spare = nn.BatchNorm1d(4)
    network.forward = lambda scans: network[0](scans)  # type: ignore[method-assign]
    before = copy.deepcopy(network.state_dict())
    renew_statistics(network, _batches(2))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.running_mean", "0.running_var"}
