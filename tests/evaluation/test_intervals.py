from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

from medres.evaluation import intervals
from medres.evaluation.intervals import MIN_PATIENTS_PER_CLASS, Cohort, Question, answer
from medres.evaluation.scores import auroc, average_precision, mean_of
from medres.evaluation.units import numbered
from tests.evaluation.cohorts import Made, correlated_scores, make
from tests.figures import RecordProperty


def _cohort(made: Made, *, num_resamples: int = 200, seed: int = 0) -> Cohort:
    return Cohort(patients=numbered(made.patients), num_resamples=num_resamples, seed=seed)


def _naive(made: Made, cohort: Cohort, reference: Callable[..., float]) -> list[float]:
    """The score of each resample from copied rows, one resample at a time, from the same draws."""
    num_patients = cohort.patients.max() + 1
    rng = np.random.default_rng(cohort.seed)
    values = []
    for _ in range(cohort.num_resamples):
        drawn = rng.integers(num_patients, size=num_patients)
        rows = np.concatenate([np.flatnonzero(cohort.patients == patient) for patient in drawn])
        values.append(reference(made.class_indices[rows], made.probabilities[rows, 1]))
    return values


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("score", "reference"), [(auroc, metrics.roc_auc_score), (average_precision, metrics.average_precision_score)]
)
def test_resamples_equal_a_slow_loop_over_copied_rows(
    score: Callable[..., Any], reference: Callable[..., float], ties: bool
) -> None:
    made = make(ties=ties)
    cohort = _cohort(made)
    positive = made.class_indices == 1
    [values] = cohort.resample([score(made.probabilities[:, 1], positive)])
    expected = _naive(made, cohort, reference)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    question = Question(
        name="auroc", score=score(made.probabilities[:, 1], positive), groups=[positive, ~positive], num_events=60
    )
    [document] = answer([question], cohort)
    assert (document["low"], document["high"]) == pytest.approx(np.quantile(expected, [0.025, 0.975]))


def test_the_number_of_weights_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    cohort = _cohort(made, num_resamples=50)
    score = auroc(made.probabilities[:, 1], made.class_indices == 1)
    [whole] = cohort.resample([score])
    monkeypatch.setattr(intervals, "_CHUNK", 7 * len(made.patients))
    [parts] = cohort.resample([score])
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_a_patient_is_drawn_with_all_scans() -> None:
    made = make(num_patients=12, scans=3)
    for weights in _cohort(made, num_resamples=40).weights():
        by_patient = weights.reshape(len(weights), 12, 3)
        assert (by_patient == by_patient[:, :, :1]).all()
        assert (weights.sum(axis=1) == 36).all()


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    made = make()
    score = auroc(made.probabilities[:, 1], made.class_indices == 1)
    first, again, other = (_cohort(made, seed=seed).resample([score])[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def _question(values: Any, positive: Any, *, name: str = "auroc") -> Question:
    score = auroc(np.asarray(values, dtype=float), positive)
    return Question(name=name, score=score, groups=[positive, ~positive], num_events=int(positive.sum()))


def _two_groups(num_positive: int, num_negative: int, *, scans: int = 1) -> tuple[Any, Any, Cohort]:
    positive = np.repeat([True] * num_positive + [False] * num_negative, scans)
    patients = np.repeat(np.arange(num_positive + num_negative), scans)
    values = np.random.default_rng(0).random(len(positive)) + positive / 2
    return values, positive, Cohort(patients=patients, num_resamples=400, seed=0)


@pytest.mark.parametrize("scans", [1, 6])
@pytest.mark.parametrize("num_positive", range(1, 9))
def test_few_patients_have_no_interval_however_many_scans_they_have(num_positive: int, scans: int) -> None:
    values, positive, cohort = _two_groups(num_positive, 30, scans=scans)
    [document] = answer([_question(values, positive)], cohort)
    assert document["value"] is not None
    assert (document["n_patients"], document["n_units"]) == (30 + num_positive, (30 + num_positive) * scans)
    if num_positive >= MIN_PATIENTS_PER_CLASS:
        assert document["low"] < document["high"]
        assert "reason" not in document
    else:
        assert document["low"] is None
        assert document["high"] is None
        assert document["reason"] == f"{num_positive} patients in the smallest class, 5 are needed for an interval"


def test_a_missing_class_has_no_value() -> None:
    values, positive, cohort = _two_groups(0, 30)
    [document] = answer([_question(values, positive)], cohort)
    assert (document["value"], document["low"], document["high"]) == (None, None, None)
    assert document["reason"] == "a class that the score needs has no unit"


def test_resamples_without_a_class_are_left_out_until_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values, positive, cohort = _two_groups(3, 57)
    monkeypatch.setattr(intervals, "MIN_PATIENTS_PER_CLASS", 3)
    monkeypatch.setattr(intervals, "MAX_LOST", 0.01)  # about e^-3 = 5 % of the resamples lack a positive
    [refused] = answer([_question(values, positive)], cohort)
    monkeypatch.setattr(intervals, "MAX_LOST", 0.2)
    [kept] = answer([_question(values, positive)], cohort)
    assert refused["value"] == kept["value"]
    assert refused["low"] is None
    assert refused["reason"].endswith("of 400 resamples lack a class")
    assert kept["low"] < kept["high"]


@pytest.mark.parametrize(("value", "mirror"), [(1.0, 1), (0.0, -1)])
def test_a_perfect_score_is_not_certain(value: float, mirror: int) -> None:
    _, positive, cohort = _two_groups(20, 40)
    [document] = answer([_question(mirror * positive, positive)], cohort)
    assert document["value"] == value
    expected = proportion_confint(20 * value, 20, method="beta")
    assert (document["low"], document["high"]) == pytest.approx(expected)
    assert document["method"].startswith("Clopper-Pearson, 20 patients")


def test_a_score_that_no_resample_moves_is_not_certain() -> None:
    """Always "positive": balanced accuracy 0.5 in every resample."""
    _, positive, cohort = _two_groups(20, 40)
    [document] = answer([_question(np.zeros(60), positive, name="balanced_accuracy")], cohort)
    assert document["value"] == 0.5
    assert (document["low"], document["high"]) == pytest.approx(proportion_confint(10, 20, method="beta"))


def test_a_mean_loss_that_no_resample_moves_stays_a_point() -> None:
    """A loss is no proportion: a constant answer has a constant loss, and nothing to count."""
    everyone = np.ones(30, dtype=bool)
    question = Question(name="log_loss", score=mean_of(np.full(30, 0.7)), groups=[everyone], num_events=9)
    [document] = answer([question], Cohort(patients=np.arange(30), num_resamples=50, seed=0))
    assert (document["low"], document["high"]) == pytest.approx((0.7, 0.7))


def _coverage(*, num_studies: int, num_resamples: int, by_patient: bool) -> float:
    """Share of the simulated studies (80 patients, 4 correlated scans) whose interval holds the true AUROC."""
    rng = np.random.default_rng(11)
    studies, positive, truth = correlated_scores(rng, num_studies=num_studies, num_patients=80, scans=4, separation=1.2)
    patients = np.repeat(np.arange(80), 4) if by_patient else np.arange(320)
    held = 0
    for seed, values in enumerate(studies):
        cohort = Cohort(patients=patients, num_resamples=num_resamples, seed=seed)
        [document] = answer([_question(values, positive)], cohort)
        held += document["low"] <= truth <= document["high"]
    return held / num_studies


def test_intervals_over_patients_hold_the_truth_and_those_over_scans_do_not() -> None:
    by_patient = _coverage(num_studies=250, num_resamples=200, by_patient=True)
    by_scan = _coverage(num_studies=250, num_resamples=200, by_patient=False)
    assert 0.90 <= by_patient <= 0.98
    assert by_scan < 0.80


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_coverage_over_many_studies(record_property: RecordProperty) -> None:
    by_patient = _coverage(num_studies=3000, num_resamples=1000, by_patient=True)
    by_scan = _coverage(num_studies=3000, num_resamples=1000, by_patient=False)
    record_property("figure", f"over patients {by_patient:.3f}, over scans {by_scan:.3f}, 3,000 studies")
    assert 0.92 <= by_patient <= 0.97
    assert by_scan < 0.75
