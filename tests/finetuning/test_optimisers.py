"""SGD at rates comparable to AdamW's."""

from __future__ import annotations

import pytest
import torch

from medres.finetuning.optimisation import Optimisation
from medres.finetuning.optimisers import SGD_RATE_FACTOR, optimiser_of
from medres.finetuning.parameter_groups import parameter_groups
from medres.finetuning.stages import Stage
from tests.finetuning.conftest import Cohort


def _shrunk(optimisation: Optimisation, *, steps: int) -> float:
    """What is left of a weight of 1 after steps without a gradient."""
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optimiser_of([{"params": [weight], "lr": 1e-3, "weight_decay": 0.05}], optimisation)
    for _ in range(steps):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    return float(weight.detach())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [True, False])
def test_both_optimisers_shrink_weights_alike(momentum: float, nesterov: bool) -> None:
    adamw = _shrunk(Optimisation(), steps=2000)
    sgd = _shrunk(Optimisation(optimiser="sgd", momentum=momentum, nesterov=nesterov), steps=2000)
    assert adamw == pytest.approx((1 - 1e-3 * 0.05) ** 2000)
    assert 1 - sgd == pytest.approx(1 - adamw, rel=0.02)


def test_groups_keep_their_names_proportions_and_originals(cohort: Cohort) -> None:
    stage = Stage(name="x", train_from="layer3", epochs=1, lr=3e-4, layer_decay=0.5)
    groups = parameter_groups(cohort.make_model(), stage)
    made = optimiser_of(groups, Optimisation(optimiser="sgd"))
    assert isinstance(made, torch.optim.SGD)
    assert [group["name"] for group in made.param_groups] == [group["name"] for group in groups]
    for group, original in zip(made.param_groups, groups, strict=True):
        assert group["lr"] == pytest.approx(SGD_RATE_FACTOR * original["lr"])
        assert (group["weight_decay"] == 0) == (original["weight_decay"] == 0)
        assert (group["momentum"], group["nesterov"]) == (0.9, True)


def test_sgd_steps_are_torchs() -> None:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    groups = [{"params": [ours], "lr": 1e-3, "weight_decay": 0.0}]
    made = optimiser_of(groups, Optimisation(optimiser="sgd", momentum=0.8, nesterov=False))
    plain = torch.optim.SGD([theirs], lr=SGD_RATE_FACTOR * 1e-3, momentum=0.8)
    for _ in range(5):
        for weight, optimizer in ((ours, made), (theirs, plain)):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
    assert torch.equal(ours, theirs)
