"""The engine in several threads at once: Lightning Fabric keeps notes that belong to the whole process."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from medres.finetuning.engine import backward, make_fabric
from medres.finetuning.ranks import ALONE

CPU = torch.device("cpu")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns so often that each is interrupted in the middle of a backward pass."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_backward_passes_of_threads_are_in_nobodys_way() -> None:
    refused: list[str] = []
    logger = logging.getLogger("lightning_fabric")
    level = logger.level

    def train() -> None:
        for _ in range(3):
            fabric = make_fabric(CPU, "bf16", ALONE)
            network = torch.nn.Linear(4, 4)
            model, _ = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
            try:
                for _ in range(200):
                    backward(fabric, model(torch.ones(2, 4)).sum())
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert logger.level == level


def test_the_gradient_is_that_of_fabric() -> None:
    gradients = []
    for own in (True, False):
        fabric = make_fabric(CPU, "bf16", ALONE)
        network = torch.nn.Linear(4, 4)
        torch.nn.init.ones_(network.weight)
        model, _ = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
        loss = model(torch.ones(2, 4)).sum()
        if own:
            backward(fabric, loss)
        else:
            fabric.backward(loss)
        assert network.weight.grad is not None
        gradients.append(network.weight.grad)
    assert torch.equal(*gradients)
