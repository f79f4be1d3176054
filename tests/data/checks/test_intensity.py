import numpy as np
import pytest

from medres.data.checks.intensity import check_intensity
from tests.data.checks.describing import entry, found


def cts(count=20, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"s{n}": entry(levels={"0.5": -1000 + rng.normal(0, 5), "50": -150 + rng.normal(0, 120),
                               "95": 120 + rng.normal(0, 60), "99.5": 700 + rng.normal(0, 150)})
        for n in range(count)
    }  # fmt: skip


def mrs(count=20, seed=0):
    """MR scans whose gains differ tenfold."""
    rng = np.random.default_rng(seed)
    return {f"s{n}": mr(gain=float(rng.uniform(0.3, 3)), median=float(rng.uniform(0.05, 0.3))) for n in range(count)}


def mr(*, gain=1.0, median=0.15, **changed):
    top = 1000 * gain
    return entry(modality="MR", levels={"0.5": 0.0, "50": median * top, "99.5": top}, **changed)


@pytest.mark.parametrize("make", [cts, mrs])
def test_ordinary_spread_gives_none(make):
    assert [found(check_intensity, make(seed=seed)) for seed in range(50)] == [{}] * 50


def test_a_ct_with_another_scale():
    known = cts() | {"odd": entry(levels={"0.5": -1000.0, "50": 900.0, "95": 1500.0, "99.5": 3000.0})}
    assert found(check_intensity, known) == {"intensity-outlier": {"odd"}}


@pytest.mark.parametrize("odd", [mr(gain=1000.0), mr(gain=0.001), mr(median=0.9)])
def test_an_mr_with_another_stored_scale_and_a_negative(odd):
    assert found(check_intensity, mrs() | {"odd": odd}) == {"intensity-outlier": {"odd"}}


def test_modalities_are_compared_with_their_own_kind():
    assert found(check_intensity, cts(30) | {f"m{n}": mr(gain=300.0) for n in range(20)}) == {}


def test_ct_without_hounsfield_units():
    known = {"a": entry(header_modality="CT", modality="other", evidence="the header says CT, but"), "b": entry()}
    assert found(check_intensity, known) == {"not-hounsfield": {"a"}}
