"""The average of the weights forgets the start and keeps what does not change."""

from __future__ import annotations

import torch
from torch import nn

from medres.finetuning.averaging import WeightAverage


def test_the_average_of_a_constant_is_that_constant_and_forgets_the_start() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, total_steps=200)
    with torch.no_grad():
        module.weight.fill_(3.0)
    for _ in range(200):
        average.update(module)
    average.copy_to(module)
    torch.testing.assert_close(module.weight, torch.full((2, 2), 3.0), atol=1e-3, rtol=0)


def test_frozen_tensors_stay_bit_identical_and_counters_are_copied() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = module[0].weight.detach().clone()
    average = WeightAverage(module, total_steps=50)
    for _ in range(50):
        module[1](torch.randn(4, 3))
        average.update(module)
    average.copy_to(module)
    assert torch.equal(module[0].weight, before)
    assert int(module[1].num_batches_tracked) == 50


def test_the_average_is_not_the_modules_own_memory() -> None:
    module = nn.Linear(2, 1)
    average = WeightAverage(module, total_steps=100)
    with torch.no_grad():
        module.weight.zero_()
    kept = module.weight.detach().clone()
    average.update(module)
    assert torch.equal(module.weight, kept)
