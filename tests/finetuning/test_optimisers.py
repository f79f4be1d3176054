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


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_adamw_steps_are_torchs_however_tensors_lie(spatial_dims: int, fused: bool) -> None:
    layout = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    shapes = [(8, 4, *(3,) * spatial_dims), (8, 1, *(3,) * spatial_dims), (8, 4, *(1,) * spatial_dims), (8,), ()]
    torch.manual_seed(0)
    values = [torch.randn(shape) for shape in shapes]
    values = [value.to(memory_format=layout) if value.ndim > 1 else value for value in values]
    copies = [[torch.nn.Parameter(value.clone()) for value in values] for _ in range(2)]
    options = {"lr": 1e-2, "weight_decay": 0.05}
    made = optimiser_of([{"params": copies[0], **options}], Optimisation(), fused=fused)
    plain = torch.optim.AdamW(copies[1], **options)  # type: ignore[arg-type]
    for _ in range(3):
        for mine, right in zip(*copies, strict=True):
            mine.grad = torch.randn_like(mine)
            right.grad = mine.grad.clone(memory_format=torch.contiguous_format)
        made.step()
        plain.step()
    for mine, right, value in zip(*copies, values, strict=True):
        torch.testing.assert_close(mine, right)
        assert mine.stride() == value.stride()
        for what in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(made.state[mine][what], plain.state[right][what])
