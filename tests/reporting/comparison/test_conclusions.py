from __future__ import annotations

from typing import Any

import pytest

from medres.evaluation.comparison import COMPARED_SCORES
from medres.reporting.comparison.conclusions import conclusions, remarks, verdict
from medres.reporting.comparison.costs import Cost

COST = Cost(
    parameters=10, trained_parameters=10, macs=100, models=5, epochs=3, train_seconds=10.0, seed_seconds=(10.0,)
)
DEAR = Cost(parameters=20, trained_parameters=20, macs=250, models=5, epochs=3, train_seconds=5.0, seed_seconds=(5.0,))


def _difference(value: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    seeds = {"seed_standard_error": None, "seed_low": None, "seed_high": None}
    return {"value": value, "low": low, "high": high, **seeds, **more}


def _document(auroc: dict[str, Any], *, seeds: int = 1, p: float | None = None, p_holm: float | None = None,
              others: int = 1) -> dict[str, Any]:  # fmt: skip
    names = [f"b{number}" for number in range(others)]
    test = {"p": p, "p_holm": p if p_holm is None else p_holm, "reason": "the units are clustered"}
    rest = _difference(0.0, -0.1, 0.1)
    scores = {"auroc": {"seed_values": [0.8] * seeds}}
    return {
        "reference": "a",
        "scores": dict.fromkeys(("a", *names), scores),
        "differences": {
            name: {score: auroc if score == "auroc" else rest for score in COMPARED_SCORES} for name in names
        },
        "delong": dict.fromkeys(names, test),
    }


def _said(document: dict[str, Any]) -> str:
    return " ".join(conclusions(document, {"a": COST, **dict.fromkeys(document["differences"], DEAR)})["b0"])


def test_an_interval_with_0_concludes_nothing_and_says_so() -> None:
    said = _said(_document(_difference(0.01, -0.02, 0.04)))
    assert said.startswith("b0 against a: AUROC +0.010, 95 % interval -0.020 to +0.040. The interval contains 0")
    assert "That is no proof that they are equal" in said
    assert "better" not in said.replace("neither is shown to be better", "")


def test_an_interval_without_0_says_which_is_better() -> None:
    assert "b0 ranks better" in _said(_document(_difference(0.05, 0.02, 0.08)))
    assert "b0 ranks worse" in _said(_document(_difference(-0.05, -0.08, -0.02)))


def test_without_an_interval_nothing_is_said_to_be_better() -> None:
    said = _said(_document(_difference(0.3, None, None, reason="3 patients in the smallest class")))
    assert "none: 3 patients in the smallest class. Nothing can be concluded" in said
    assert "has no value" in _said(_document(_difference(None, None, None, reason="a class is missing")))


def test_a_single_seed_is_said() -> None:
    clear = _difference(0.05, 0.02, 0.08)
    assert "One side has a single seed" in _said(_document(clear, seeds=1))
    assert "single seed" not in _said(_document(clear, seeds=3))


def test_seeds_that_allow_0_take_the_conclusion_back() -> None:
    noisy = _difference(0.05, 0.02, 0.08, seed_standard_error=0.04, seed_low=-0.06, seed_high=0.16)
    assert "The seeds alone allow AUROC differences of -0.060 to +0.160, 0 among them" in _said(
        _document(noisy, seeds=3)
    )
    steady = _difference(0.05, 0.02, 0.08, seed_standard_error=0.01, seed_low=0.02, seed_high=0.08)
    assert "The spread between seeds allows +0.020 to +0.080" in _said(_document(steady, seeds=3))


def test_an_adjusted_p_value_may_take_it_back_as_well() -> None:
    clear = _difference(0.05, 0.001, 0.08)
    said = _said(_document(clear, p=0.03, p_holm=0.09, others=3))
    assert "p = 0.030, adjusted for 3 comparisons = 0.090 (Holm)" in said
    assert "take it for open" in said
    alone = _said(_document(clear, p=0.03))
    assert "DeLong's paired test: p = 0.030." in alone
    assert "open" not in alone
    assert "No p-value: the units are clustered." in _said(_document(clear))


def test_what_it_costs() -> None:
    assert "b0 takes 2.5 times the multiply-adds a scan (counted) and 0.5 times the training time" in _said(
        _document(_difference(0.01, -0.02, 0.04))
    )


@pytest.mark.parametrize("number", [1, 2, 5])
def test_several_comparisons_are_remarked(number: int) -> None:
    said = " ".join(remarks(_document(_difference(0.01, -0.02, 0.04), others=number)))
    assert ("Holm" in said) == (number > 1)
    assert "picks on scored scans" in said
    if number == 5:
        assert "23 %" in said  # 1 - .95^5


@pytest.mark.parametrize("score", COMPARED_SCORES)
def test_verdicts_know_which_way_is_better(score: str) -> None:
    lower = score in ("brier", "log_loss")
    assert verdict(score, _difference(0.1, 0.05, 0.2)) == ("worse" if lower else "better")
    assert verdict(score, _difference(-0.1, -0.2, -0.05)) == ("better" if lower else "worse")
    assert verdict(score, _difference(0.1, -0.05, 0.2)) == "not shown"
    assert verdict(score, _difference(0.1, 0.0, 0.2)) == "not shown"
    assert verdict(score, _difference(0.1, None, None)) == "no interval"
