from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from medres.errors import ConfigError
from medres.evaluation.operating_point import OperatingPoint

counts = st.lists(st.integers(1, 50), min_size=2, max_size=6)


def _point(sizes: list[int]) -> OperatingPoint:
    return OperatingPoint(priors=tuple(size / sum(sizes) for size in sizes))


def _probabilities(num_classes: int, *, seed: int, size: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), size=size)


@given(st.integers(1, 99), st.lists(st.integers(0, 100), min_size=1, max_size=30))
def test_two_classes_are_divided_at_the_prevalence(percent: int, values: list[int]) -> None:
    positive = np.array(values) / 100
    point = OperatingPoint(priors=(1 - percent / 100, percent / 100))
    decided = point.decide(np.stack([1 - positive, positive], axis=1))
    clear = abs(positive - percent / 100) > 1e-9
    np.testing.assert_array_equal(decided[clear], (positive > percent / 100)[clear])


def test_a_probability_that_reaches_the_prevalence_is_positive() -> None:
    for prevalence in (0.25, 0.2, 0.5):
        point = OperatingPoint(priors=(1 - prevalence, prevalence))
        assert point.decide([[1 - prevalence, prevalence]]).tolist() == [1]


@given(counts)
def test_what_is_known_of_the_priors_alone_is_a_tie(sizes: list[int]) -> None:
    """A probability equal to the prevalence says nothing; one a little larger decides."""
    point = _point(sizes)
    for index in range(len(sizes)):
        row = np.array(point.priors)
        row[index] *= 1.01
        assert point.decide(row[None]).tolist() == [index]


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_equal_priors_decide_for_the_most_probable(num_classes: int) -> None:
    probabilities = _probabilities(num_classes, seed=num_classes)
    decided = _point([1] * num_classes).decide(probabilities)
    np.testing.assert_array_equal(decided, probabilities.argmax(axis=1))


@settings(max_examples=30)
@given(counts, st.integers(0, 1000))
def test_naming_the_classes_in_another_order_changes_nothing(sizes: list[int], seed: int) -> None:
    probabilities = _probabilities(len(sizes), seed=seed, size=50)
    order = np.random.default_rng(seed).permutation(len(sizes))
    decided = _point(sizes).decide(probabilities)
    renamed = _point([sizes[index] for index in order]).decide(probabilities[:, order])
    np.testing.assert_array_equal(order[renamed], decided)


@settings(max_examples=30)
@given(counts, st.integers(0, 1000))
def test_a_rarer_class_is_never_decided_less_often(sizes: list[int], seed: int) -> None:
    probabilities = _probabilities(len(sizes), seed=seed, size=100)
    rarer = [sizes[0] / 2, *sizes[1:]]
    before, after = _point(sizes).decide(probabilities) == 0, _point(rarer).decide(probabilities) == 0
    assert not (before & ~after).any()


def test_the_prevalence_is_the_best_threshold_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(0)
    positive = rng.beta(0.6, 2.4, size=40_000)  # mean 0.2
    labels = (rng.random(40_000) < positive).astype(int)
    prevalence = float(labels.mean())
    probabilities = np.stack([1 - positive, positive], axis=1)
    decided = OperatingPoint(priors=(1 - prevalence, prevalence)).decide(probabilities)
    reached = balanced_accuracy_score(labels, decided)
    best = max(balanced_accuracy_score(labels, positive >= threshold) for threshold in np.linspace(0.01, 0.99, 99))
    assert reached > best - 0.003


@pytest.mark.parametrize("priors", [(1.0,), (0.5, 0.6), (0.0, 1.0), (-0.5, 1.5), (float("nan"), 0.5)])
def test_priors_that_are_no_prevalences_are_refused(priors: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="priors"):
        OperatingPoint.from_mapping({"priors": priors})


def test_probabilities_of_another_number_of_classes_are_refused() -> None:
    for shape in ((4, 1), (4, 3), (2,)):
        with pytest.raises(ValueError, match="2 classes"):
            OperatingPoint(priors=(0.5, 0.5)).decide(np.full(shape, 0.5))


def test_it_survives_its_document() -> None:
    point = OperatingPoint(priors=(1 / 3, 2 / 3))
    assert OperatingPoint.from_mapping(point.to_mapping()) == point
