from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medres.planning.shape import QUANTUM, fit_shape

lengths = st.lists(st.floats(1, 2000), min_size=2, max_size=3)


@settings(max_examples=300)
@given(data=st.data(), lengths=lengths, budget=st.integers(0, 10**7))
def test_the_laws_of_a_shape(data: st.DataObject, lengths: list[float], budget: int) -> None:
    limits = [data.draw(st.integers(1, 2000)) for _ in lengths]
    minimum = [data.draw(st.integers(1, 130)) for _ in lengths]
    shape = fit_shape(lengths, limits, budget=budget, minimum=minimum)
    least = [math.ceil(low / QUANTUM) * QUANTUM for low in minimum]
    assert all(side % QUANTUM == 0 and side >= low for side, low in zip(shape, minimum, strict=True))
    assert all(side <= max(limit, low) for side, limit, low in zip(shape, limits, least, strict=True))
    assert math.prod(shape) <= max(budget, math.prod(least))


@settings(max_examples=200)
@given(lengths=lengths, budget=st.integers(64**3, 10**7))
@example(lengths=[1974.0, 1974.0, 1973.5], budget=373438)
def test_a_longer_axis_is_never_shorter(lengths: list[float], budget: int) -> None:
    shape = fit_shape(lengths, [4096] * len(lengths), budget=budget, minimum=[16] * len(lengths))
    for (a, side_a), (b, side_b) in itertools.permutations(zip(lengths, shape, strict=True), 2):
        assert a < b or side_a >= side_b


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("side", [64, 96, 128, 160])
def test_a_cube_stays_a_cube(dims: int, side: int) -> None:
    for spare in (0, 1, side // 2):
        shape = fit_shape([51.0] * dims, [1000] * dims, budget=side**dims + spare, minimum=[32] * dims)
        assert shape == (side,) * dims


def test_the_budget_is_used() -> None:
    # against all shapes of multiples of 16: no allowed one fits the proportions with a fifth more voxels
    lengths, budget = (300.0, 360.0, 420.0), 96**3
    shape = fit_shape(lengths, (1000, 1000, 1000), budget=budget, minimum=(32, 32, 32))
    sides = range(32, 200, QUANTUM)

    def distortion(candidate: tuple[int, ...]) -> float:
        steps = [length / side for length, side in zip(lengths, candidate, strict=True)]
        return max(steps) / min(steps)

    better = [
        candidate
        for candidate in itertools.product(sides, repeat=3)
        if math.prod(shape) * 1.2 < math.prod(candidate) <= budget and distortion(candidate) <= distortion(shape)
    ]
    assert not better


def test_what_one_axis_cannot_use_goes_to_the_others() -> None:
    free = fit_shape((100.0, 100.0, 100.0), (1000, 1000, 1000), budget=128**3, minimum=(16, 16, 16))
    thick = fit_shape((100.0, 100.0, 100.0), (32, 1000, 1000), budget=128**3, minimum=(16, 16, 16))
    assert free == (128, 128, 128)
    assert thick[0] == 32
    assert min(thick[1:]) > 200
