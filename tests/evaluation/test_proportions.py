from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from medres.errors import DataError
from medres.evaluation.proportions import clopper_pearson_interval, wilson_interval

Interval = Callable[..., tuple[float, float]]
INTERVALS: list[tuple[Interval, str]] = [(wilson_interval, "wilson"), (clopper_pearson_interval, "beta")]


@pytest.mark.parametrize(("interval", "method"), INTERVALS)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("total", [1, 2, 5, 17, 400])
def test_equal_to_statsmodels(interval: Interval, method: str, level: float, total: int) -> None:
    for successes in {0, 1, total // 3, total // 2, total - 1, total}:
        expected = proportion_confint(successes, total, alpha=1 - level, method=method)
        assert interval(successes, total, level=level) == pytest.approx(expected, abs=1e-10), successes


@pytest.mark.parametrize(("interval", "method"), INTERVALS)
@given(total=st.integers(1, 500), share=st.floats(0, 1))
def test_holds_the_share_and_mirrors_it(interval: Interval, method: str, total: int, share: float) -> None:
    del method
    successes = round(share * total)
    low, high = interval(successes, total)
    assert 0 <= low <= successes / total <= high <= 1
    assert low < high
    mirrored = interval(total - successes, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval])
@pytest.mark.parametrize(("successes", "total"), [(0, 0), (1, -1), (3, 2), (-1, 2)])
def test_what_is_no_proportion_is_refused(interval: Interval, successes: float, total: float) -> None:
    with pytest.raises(DataError, match="are no proportion"):
        interval(successes, total)


def test_the_ends_are_exact() -> None:
    for total in range(1, 60):
        assert wilson_interval(0, total)[0] == 0.0
        assert wilson_interval(total, total)[1] == 1.0
        assert clopper_pearson_interval(0, total) == pytest.approx((0, 1 - 0.025 ** (1 / total)))
