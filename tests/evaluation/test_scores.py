from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from medres.evaluation.scores import (
    WeightedScore,
    auroc,
    average_of,
    average_precision,
    brier_values,
    log_loss_values,
    mean_of,
    once,
)

Reference = Callable[[Any, Any, Any], float]


def _reference_auroc(positive: Any, values: Any, weights: Any) -> float:
    return float(metrics.roc_auc_score(positive, values, sample_weight=weights))


def _reference_average_precision(positive: Any, values: Any, weights: Any) -> float:
    return float(metrics.average_precision_score(positive, values, sample_weight=weights))


RANK_SCORES: list[tuple[Callable[..., WeightedScore], Reference]] = [
    (auroc, _reference_auroc),
    (average_precision, _reference_average_precision),
]


@pytest.mark.parametrize(("score", "reference"), RANK_SCORES)
@pytest.mark.parametrize("ties", ["none", "some", "all"])
@pytest.mark.parametrize("num_positive", [1, 3, 25, 49])
def test_rank_scores_equal_scikit_learn_for_many_weightings(
    score: Callable[..., WeightedScore], reference: Reference, ties: str, num_positive: int
) -> None:
    rng = np.random.default_rng(num_positive)
    positive = rng.permutation(np.arange(50) < num_positive)
    values = {"none": rng.random(50), "some": rng.integers(6, size=50) / 5, "all": np.zeros(50)}[ties]
    weights = np.concatenate([np.ones((1, 50)), rng.random((4, 50)), 1.0 + rng.integers(4, size=(4, 50))])
    expected = [reference(positive, values, row) for row in weights]
    np.testing.assert_allclose(score(values, positive)(weights), expected, rtol=1e-12)


@pytest.mark.parametrize(("score", "reference"), RANK_SCORES)
def test_whole_weights_are_copies_of_samples(score: Callable[..., WeightedScore], reference: Reference) -> None:
    rng = np.random.default_rng(1)
    values, positive = rng.integers(10, size=30) / 10, rng.random(30) < 0.4
    copies = rng.integers(3, size=30)
    drawn = np.repeat(np.arange(30), copies)
    result = score(values, positive)(copies[None].astype(float))
    np.testing.assert_allclose(result, [reference(positive[drawn], values[drawn], None)], rtol=1e-12)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_memory_order_of_weights_does_not_matter(order: Any) -> None:
    rng = np.random.default_rng(2)
    values, positive = rng.random(40), rng.random(40) < 0.5
    weights = rng.random((7, 40))
    for score in (auroc(values, positive), average_precision(values, positive), mean_of(values, positive)):
        np.testing.assert_allclose(score(np.array(weights, order=order)), score(weights), rtol=1e-13)


@pytest.mark.parametrize("score", [auroc, average_precision])
def test_a_weighting_without_positives_has_no_value(score: Callable[..., WeightedScore]) -> None:
    positive = np.array([True, True, False, False])
    weights = np.array([[0.0, 0, 1, 1], [1, 0, 1, 0]])
    values = score(np.array([0.9, 0.2, 0.4, 0.1]), positive)(weights)
    assert np.isnan(values).tolist() == [True, False]


def test_a_weighting_without_negatives_has_no_auroc() -> None:
    positive = np.array([True, True, False, False])
    values = auroc(np.array([0.9, 0.2, 0.4, 0.1]), positive)(np.array([[1.0, 1, 0, 0]]))
    assert np.isnan(values).all()


def test_no_positive_at_all_has_no_value() -> None:
    for score in (auroc, average_precision):
        assert np.isnan(score(np.array([0.1, 0.2]), np.array([False, False]))(np.ones((3, 2)))).all()


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_brier_and_log_loss_equal_scikit_learn(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    probabilities = rng.dirichlet(np.ones(num_classes), size=60)
    labels = rng.integers(num_classes, size=60)
    weights = rng.random(60)
    names = list(range(num_classes))
    log_loss = mean_of(log_loss_values(probabilities, labels))(weights[None])[0]
    assert log_loss == pytest.approx(metrics.log_loss(labels, probabilities, sample_weight=weights, labels=names))
    brier = mean_of(brier_values(probabilities, labels))(weights[None])[0]
    if num_classes == 2:
        expected = metrics.brier_score_loss(labels, probabilities[:, 1], sample_weight=weights)
    else:
        expected = metrics.brier_score_loss(labels, probabilities, sample_weight=weights, labels=names)
    assert brier == pytest.approx(expected)


def test_log_loss_of_an_impossible_truth_is_finite() -> None:
    assert 700 < log_loss_values(np.array([[1.0, 0.0]]), np.array([1]))[0] < 710


@pytest.mark.parametrize("num_classes", [2, 4])
def test_accuracies_equal_scikit_learn(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    labels, decided = rng.integers(num_classes, size=(2, 80))
    weights = rng.random(80)
    right = (labels == decided).astype(float)
    accuracy = mean_of(right)(weights[None])[0]
    assert accuracy == pytest.approx(metrics.accuracy_score(labels, decided, sample_weight=weights))
    recalls = [mean_of(right, labels == index) for index in range(num_classes)]
    balanced = average_of(recalls)(weights[None])[0]
    assert balanced == pytest.approx(metrics.balanced_accuracy_score(labels, decided, sample_weight=weights))


def test_a_mean_over_nothing_has_no_value() -> None:
    assert np.isnan(mean_of(np.ones(3), np.zeros(3, dtype=bool))(np.ones((2, 3)))).all()


def test_a_shared_score_is_computed_once_for_the_same_weights() -> None:
    calls = []

    def score(weights: Any) -> Any:
        calls.append(weights)
        return weights.sum(axis=1)

    shared = once(score)
    first, second = np.ones((2, 3)), np.zeros((2, 3))
    results = [shared(first), shared(first), shared(second), shared(first)]
    assert [result.tolist() for result in results] == [[3, 3], [3, 3], [0, 0], [3, 3]]
    assert len(calls) == 3


samples = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(flag for _, flag in rows) < len(rows)
)


def _value(score: Callable[..., WeightedScore], values: Any, positive: Any) -> float:
    return float(score(values, positive)(np.ones((1, len(values))))[0])


@settings(max_examples=60)
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, bool]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    for score in (auroc, average_precision):
        first, second = (
            _value(score, np.array([value / 20 for value, _ in part]), np.array([flag for _, flag in part]))
            for part in (rows, shuffled)
        )
        assert first == pytest.approx(second, abs=1e-12)


@settings(max_examples=60)
@given(samples)
def test_only_ranks_matter(rows: list[tuple[int, bool]]) -> None:
    values, positive = np.array([float(value) for value, _ in rows]), np.array([flag for _, flag in rows])
    for score in (auroc, average_precision):
        plain = _value(score, values, positive)
        assert _value(score, np.exp(values / 7) * 3 - 1, positive) == plain
        assert 0 < plain <= 1 or score is auroc


@settings(max_examples=60)
@given(samples)
def test_swapping_the_labels_mirrors_auroc(rows: list[tuple[int, bool]]) -> None:
    values, positive = np.array([float(value) for value, _ in rows]), np.array([flag for _, flag in rows])
    assert _value(auroc, values, positive) + _value(auroc, values, ~positive) == pytest.approx(1, abs=1e-12)
    assert _value(auroc, -values, ~positive) == pytest.approx(_value(auroc, values, positive), abs=1e-12)


@settings(max_examples=60)
@given(samples)
def test_auroc_is_the_share_of_pairs_that_are_ranked_right(rows: list[tuple[int, bool]]) -> None:
    above = [value for value, flag in rows if flag]
    below = [value for value, flag in rows if not flag]
    pairs = [(high > low) + (high == low) / 2 for high in above for low in below]
    values, positive = np.array([float(value) for value, _ in rows]), np.array([flag for _, flag in rows])
    assert _value(auroc, values, positive) == pytest.approx(np.mean(pairs), abs=1e-12)
