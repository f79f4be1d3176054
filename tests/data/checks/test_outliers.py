import numpy as np
import pytest

from medres.data.checks.outliers import LEAST_VALUES, outliers


def named(values):
    return {f"s{n}": float(value) for n, value in enumerate(values)}


@pytest.mark.parametrize("count", [10, 30, 300])
@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential", "lognormal"])
def test_ordinary_values_are_rarely_outliers(count, draw):
    rng = np.random.default_rng(0)
    sets = [named(getattr(rng, draw)(size=count)) for _ in range(200)]
    flagged = sum(len(outliers(values, least=0.0)) for values in sets)
    # heavy right tails are what logarithms are for; the checks take them
    assert flagged / (200 * count) < (0.01 if draw in ("normal", "uniform") else 0.04)


@pytest.mark.parametrize("planted", [1, 3, 10])
def test_far_values_are_found_on_both_sides(planted):
    values = named(np.random.default_rng(1).normal(size=100))
    far = {f"far{n}": 30.0 * (-1) ** n for n in range(planted)}
    assert set(outliers(values | far, least=5.0)) == set(far)


def test_order_shift_and_scale_do_not_matter():
    values = named([*np.random.default_rng(2).normal(size=50), 40.0, -40.0])
    expected = set(outliers(values, least=1.0))
    assert len(expected) == 2
    assert set(outliers(dict(reversed(values.items())), least=1.0)) == expected
    assert set(outliers({name: 7 * value - 100 for name, value in values.items()}, least=7.0)) == expected


def test_small_differences_among_equal_values_are_none():
    assert outliers(named([5.0] * 20 + [5.1]), least=1.0) == {}
    assert set(outliers(named([5.0] * 20 + [7.0]), least=1.0)) == {"s20"}


def test_few_values_say_nothing():
    assert outliers(named([0.0] * (LEAST_VALUES - 2) + [100.0]), least=1.0) == {}
    assert len(outliers(named([0.0] * (LEAST_VALUES - 1) + [100.0]), least=1.0)) == 1


def test_a_second_population_is_not_many_outliers():
    assert outliers(named([1.0] * 80 + [5.0] * 20), least=1.0) == {}
