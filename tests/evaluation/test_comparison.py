from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from statsmodels.stats.multitest import multipletests

from medres.errors import DataError
from medres.evaluation.comparison import (
    COMPARED_SCORES,
    compare_predictions,
    delong_test,
    holm,
    placements,
)
from medres.evaluation.units import Predictions, predictions_of
from tests.evaluation.cohorts import Made, correlated_scores, make

CASES = [{"ties": False}, {"ties": True}, {"num_patients": 23, "ties": True}, {"num_patients": 200}]


def _table(made: Made, *, noise: float = 0.0, seed: int = 0) -> Predictions:
    """The predictions of another model: the same units, other logits."""
    rng = np.random.default_rng(seed)
    logits = np.log(made.probabilities) + noise * rng.normal(size=made.probabilities.shape)
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return predictions_of(rows, made.class_indices, units=None, priors=None, **made.arguments())


def _compared(made: Made, first: Sequence[Predictions], second: Sequence[Predictions], **options: Any) -> Any:
    runs = {"first": first, "second": second}
    return compare_predictions(runs, num_classes=len(made.classes), reference="first", num_resamples=60, **options)


# ---- the point values ----

_SKLEARN: dict[str, Callable[[Predictions], float]] = {
    "auroc": lambda run: metrics.roc_auc_score(run.class_indices, run.probabilities[:, 1]),
    "average_precision": lambda run: metrics.average_precision_score(run.class_indices, run.probabilities[:, 1]),
    "balanced_accuracy": lambda run: metrics.balanced_accuracy_score(run.class_indices, run.decisions),
    "brier": lambda run: metrics.brier_score_loss(run.class_indices, run.probabilities[:, 1]),
    "log_loss": lambda run: metrics.log_loss(run.class_indices, run.probabilities),
}


@pytest.mark.parametrize("score", COMPARED_SCORES)
def test_a_contender_is_the_mean_of_its_seeds_and_a_difference_that_of_the_means(score: str) -> None:
    made = make()
    first = [_table(made, noise=0.5, seed=seed) for seed in range(3)]
    second = [_table(made, noise=1.5, seed=seed) for seed in (7, 8)]
    found = _compared(made, first, second)
    values = [[_SKLEARN[score](run) for run in runs] for runs in (first, second)]
    for name, of_seed in zip(("first", "second"), values, strict=True):
        document = found["scores"][name][score]
        assert document["value"] == pytest.approx(np.mean(of_seed), abs=1e-12)
        assert document["seed_values"] == pytest.approx(of_seed, abs=1e-12)
        assert document["seed_sd"] == pytest.approx(np.std(of_seed, ddof=1), abs=1e-12)
        assert (document["n_patients"], document["n_units"]) == (60, 120)
    difference = found["differences"]["second"][score]
    assert difference["value"] == pytest.approx(np.mean(values[1]) - np.mean(values[0]), abs=1e-12)
    welch = stats.ttest_ind(values[1], values[0], equal_var=False)
    bounds = welch.confidence_interval(0.95)
    assert (difference["seed_low"], difference["seed_high"]) == pytest.approx((bounds.low, bounds.high), abs=1e-9)
    assert difference["seed_standard_error"] == pytest.approx(difference["value"] / welch.statistic, abs=1e-12)


def test_one_seed_has_no_spread() -> None:
    made = make()
    found = _compared(made, [_table(made)], [_table(made, noise=1, seed=1), _table(made, noise=1, seed=2)])
    assert found["scores"]["first"]["auroc"]["seed_sd"] is None
    assert found["scores"]["second"]["auroc"]["seed_sd"] is not None
    assert found["differences"]["second"]["auroc"]["seed_standard_error"] is None


# ---- the intervals ----


@pytest.mark.parametrize("case", CASES)
def test_the_interval_is_that_of_a_slow_loop_which_draws_patients_once_for_all_runs(case: dict[str, Any]) -> None:
    made = make(**case)
    runs = [_table(made), _table(made, noise=1, seed=1), _table(made, noise=1, seed=2)]
    found = _compared(made, runs[:1], runs[1:], seed=5)["differences"]["second"]["auroc"]
    rng, num_patients = np.random.default_rng(5), runs[0].patients.max() + 1
    values = []
    for _ in range(60):
        drawn = rng.integers(num_patients, size=num_patients)
        rows = np.concatenate([np.flatnonzero(runs[0].patients == patient) for patient in drawn])
        one, two, three = (
            metrics.roc_auc_score(run.class_indices[rows], run.probabilities[rows, 1]) for run in runs
        )  # fmt: skip
        values.append((two + three) / 2 - one)
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("scans", [1, 2])
def test_the_other_way_round_every_difference_changes_its_sign(num_classes: int, scans: int) -> None:
    made = make(num_classes=num_classes, scans=scans, num_patients=80)
    runs = {"a": [_table(made)], "b": [_table(made, noise=1, seed=1), _table(made, noise=1, seed=2)]}
    one, other = (
        compare_predictions(runs, num_classes=num_classes, reference=name, num_resamples=100) for name in "ab"
    )  # fmt: skip
    for score in COMPARED_SCORES:
        there, back = one["differences"]["b"][score], other["differences"]["a"][score]
        assert there["value"] == pytest.approx(-back["value"], abs=1e-15)
        assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]), abs=1e-12)
    there, back = one["delong"]["b"], other["delong"]["a"]
    assert (there["p"] is None) == (num_classes > 2 or scans > 1)
    assert there["p"] == back["p"]


def test_pairing_makes_the_interval_of_alike_models_narrower_than_their_own() -> None:
    made = make(num_patients=100)
    found = _compared(made, [_table(made)], [_table(made, noise=0.3, seed=1)])
    own = found["scores"]["second"]["auroc"]
    difference = found["differences"]["second"]["auroc"]
    assert difference["high"] - difference["low"] < 0.6 * (own["high"] - own["low"])


@pytest.mark.parametrize("perfect", [False, True])
def test_a_difference_that_no_resample_moves_is_not_certain(perfect: bool) -> None:
    made = make(scans=1)
    if perfect:
        rows = np.eye(2)[made.class_indices] * 0.8 + 0.1
        made = made._replace(probabilities=rows)
    found = _compared(made, [_table(made)], [_table(made)])
    difference, test = found["differences"]["second"]["auroc"], found["delong"]["second"]
    assert (difference["value"], difference["low"], difference["high"]) == (0.0, None, None)
    assert difference["reason"] == "no resample of the patients changes the difference"
    assert (test["value"], test["p"]) == (0.0, None)
    assert "both rank the units alike" in test["reason"]


def test_few_patients_have_no_interval_and_no_test() -> None:
    made = make(num_patients=8, scans=1)
    found = _compared(made, [_table(made)], [_table(made, noise=1, seed=1)])
    assert found["differences"]["second"]["auroc"]["low"] is None
    assert "4 patients in the smallest class" in found["differences"]["second"]["auroc"]["reason"]
    assert found["delong"]["second"]["reason"] == "4 patients in the smaller class, 5 are needed"


@pytest.mark.parametrize(("options", "reason"), [({"scans": 2}, "120 units are of 60"), ({"num_classes": 3}, "3")])
def test_where_delong_does_not_apply_it_says_why(options: dict[str, Any], reason: str) -> None:
    made = make(**{"scans": 1, **options})
    test = _compared(made, [_table(made)], [_table(made, noise=1, seed=1)])["delong"]["second"]
    assert test["p"] is None
    assert reason in test["reason"]


def test_what_cannot_be_compared_is_refused() -> None:
    made, other = make(), make(seed=1)
    with pytest.raises(DataError, match="not about the same units"):
        _compared(made, [_table(made)], [_table(other)])
    with pytest.raises(DataError, match="needs two contenders"):
        compare_predictions({"a": [_table(made)]}, num_classes=2, reference="a")
    with pytest.raises(DataError, match="the reference c"):
        compare_predictions({"a": [_table(made)], "b": [_table(made)]}, num_classes=2, reference="c")


# ---- DeLong ----


def _slow_delong(first: Sequence[Any], second: Sequence[Any], positive: Any) -> tuple[float, float]:
    """The difference and its variance by the definition: all pairs, covariances of the components."""
    components = []
    for values in (*first, *second):
        above, below = values[positive][:, None], values[~positive][None, :]
        kernel = (above > below) + 0.5 * (above == below)
        components.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    of_positives, of_negatives = (np.array([parts[side] for parts in components]) for side in (0, 1))
    covariance = np.atleast_2d(np.cov(of_positives)) / positive.sum() + np.cov(of_negatives) / (~positive).sum()
    contrast = np.array([1 / len(first)] * len(first) + [-1 / len(second)] * len(second))
    return float(contrast @ of_positives.mean(axis=1)), float(contrast @ covariance @ contrast)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seeds", [(1, 1), (3, 2)])
@pytest.mark.parametrize(("positives", "negatives"), [(7, 9), (12, 90), (60, 40)])
def test_delong_equals_the_definition_over_all_pairs(
    ties: bool, seeds: tuple[int, int], positives: int, negatives: int
) -> None:
    rng = np.random.default_rng(positives + 7 * seeds[0])
    positive = rng.permutation(np.arange(positives + negatives) < positives)
    common = rng.normal(size=len(positive)) + positive
    first, second = ([common + rng.normal(size=len(positive)) for _ in range(number)] for number in seeds)
    if ties:
        first, second = ([values.round() for values in runs] for runs in (first, second))
    value, variance = _slow_delong(first, second, positive)
    test = delong_test(first, second, positive)
    assert test["value"] == pytest.approx(value, abs=1e-12)
    assert test["z"] == pytest.approx(value / variance**0.5, rel=1e-9)
    assert test["p"] == pytest.approx(2 * stats.norm.sf(abs(test["z"])), rel=1e-9)
    assert test["high"] - test["low"] == pytest.approx(2 * 1.959964 * variance**0.5, rel=1e-6)
    for values in first:
        assert np.mean(placements(values, positive)[0]) == pytest.approx(metrics.roc_auc_score(positive, values))


def test_delong_and_the_bootstrap_agree_where_both_apply() -> None:
    made = make(num_patients=300, scans=1)
    runs = {"a": [_table(made)], "b": [_table(made, noise=1, seed=1)]}
    found = compare_predictions(runs, num_classes=2, reference="a")
    bootstrap, test = found["differences"]["b"]["auroc"], found["delong"]["b"]
    assert (bootstrap["low"], bootstrap["high"]) == pytest.approx((test["low"], test["high"]), abs=0.006)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03], [0.5], [0.9, 0.8], [0.001] * 4, [0.02, 0.0, 0.3, 0.02]])
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([None, *p_values]) == pytest.approx([None, *multipletests(p_values, method="holm")[1]])


# ---- what the intervals and p-values are worth ----


def _rates(num_studies: int, num_resamples: int, *, scans: int) -> tuple[float, float | None]:
    """Two models that are equally good: how often the interval holds 0, and how often DeLong's p is below 0.05."""
    rng = np.random.default_rng(17)
    patients = 100
    values, positive, _ = correlated_scores(
        rng, num_studies=num_studies, num_patients=patients, scans=scans, separation=1.0
    )
    people = [str(index // scans) for index in range(patients * scans)]
    held, rejected = 0, []
    for seed, common in enumerate(values):
        runs = {}
        for name in "ab":  # what is hard for one is hard for the other
            logits = common + rng.normal(scale=0.7, size=len(common))
            rows = np.stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))], axis=1)
            runs[name] = [
                predictions_of(rows, positive.astype(int), classes="ny", patients=people, units=None, priors=None)
            ]
        found = compare_predictions(runs, num_classes=2, reference="a", seed=seed, num_resamples=num_resamples)
        difference, p = found["differences"]["b"]["auroc"], found["delong"]["b"]["p"]
        held += difference["low"] <= 0 <= difference["high"]
        rejected += [] if p is None else [p < 0.05]
    return held / num_studies, float(np.mean(rejected)) if rejected else None


def test_equal_models_are_rarely_told_apart() -> None:
    held, rejected = _rates(100, 200, scans=1)
    assert held >= 0.88
    assert rejected is not None
    assert rejected <= 0.12


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scans", [1, 4])
def test_coverage_over_many_studies(scans: int) -> None:
    held, rejected = _rates(1500, 500, scans=scans)
    print(f"{scans} scans a patient: the interval holds 0 in {held:.3f}, DeLong rejects in {rejected}")
    assert 0.925 <= held <= 0.97
    assert (rejected is None) == (scans > 1)
    if rejected is not None:
        assert 0.035 <= rejected <= 0.065
