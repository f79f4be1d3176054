"""What a network draws is a function of its seed, whatever other threads draw; the bits of torch's generator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from medres.models.factory import create_model
from medres.models.seeding import DrawingFrom, Dropout, StepDraws, built_by, seeded_globally
from medres.models.stochastic_depth import StochasticDepth

CPU = torch.device("cpu")
NETWORKS = {
    "timm": ("test_resnet", {}), "convnext": ("test_convnext", {}), "3D": ("resnet10", {"spatial_dims": 3}),
    "2.5D": ("test_resnet", {"slicewise": True}), "senet": ("seresnet50", {}),
    "stochastic depth": ("test_resnet", {"drop_path": 0.1}),
}  # fmt: skip


@pytest.fixture
def noise() -> Iterator[None]:
    """A thread that seeds torch's generator and draws from it all the time."""
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            torch.manual_seed(9)
            torch.rand(3)

    with torch.random.fork_rng(devices=[]):
        thread = threading.Thread(target=draw)
        thread.start()
        yield
        stop.set()
        thread.join()


def _build(name: str) -> nn.Module:
    arch, options = NETWORKS[name]
    return create_model(arch, num_classes=2, **options)  # type: ignore[arg-type]


def _assert_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, tensor), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_those_of_torchs_own_generator_with_this_seed(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        expected = _build(name)
    state = torch.get_rng_state()
    with built_by(4, arch=NETWORKS[name][0]):
        _assert_equal(_build(name), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("noise")
def test_threads_that_draw_change_no_weights() -> None:
    with built_by(4, arch="test_resnet"):
        expected = _build("timm")
    for _ in range(3):
        with built_by(4, arch="test_resnet"):
            _assert_equal(_build("timm"), expected)


def test_plugins_are_built_by_torchs_own_generator_which_is_given_back() -> None:
    state = torch.get_rng_state()
    with built_by(4, arch="of_a_plugin"):
        found = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found, torch.rand(3, generator=torch.Generator().manual_seed(4)))


def test_threads_seed_torchs_own_generator_one_after_the_other() -> None:
    found: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    def draw(seed: int) -> None:
        for _ in range(200):
            with seeded_globally(seed, CPU):
                found[seed].append(torch.cat([torch.rand(2), torch.rand(2)]))

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, drawn in found.items():
        expected = torch.rand(4, generator=torch.Generator().manual_seed(seed))
        assert all(torch.equal(one, expected) for one in drawn)


def test_a_generator_that_was_given_stays() -> None:
    with DrawingFrom(torch.Generator().manual_seed(1)):
        found = torch.empty(3).uniform_(generator=torch.Generator().manual_seed(2))
    assert torch.equal(found, torch.empty(3).uniform_(generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("own", "plain"), [(Dropout(0.3), nn.Dropout(0.3)), (StochasticDepth(0.4), DropPath(0.4))])
def test_layers_draw_the_bits_of_the_layers_that_they_stand_for(own: Any, plain: Any, dtype: torch.dtype) -> None:
    batch = torch.randn(6, 4, 5, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = plain(batch)
    state, draws = torch.get_rng_state(), StepDraws(own, CPU, is_own=True)
    with draws.seeded(7):
        assert torch.equal(own(batch), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(own(batch), expected)
    draws.end()
    assert own.generator is None
    assert torch.equal(own.eval()(batch), batch)
    own.train()


def test_layers_of_others_draw_by_the_seed_as_well() -> None:
    layer, batch, state = nn.Dropout(0.5), torch.ones(64), torch.get_rng_state()
    draws = StepDraws(layer, CPU, is_own=False)
    drawn = []
    for seed in (1, 2, 1):
        with draws.seeded(seed):
            drawn.append(layer(batch))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), state)
