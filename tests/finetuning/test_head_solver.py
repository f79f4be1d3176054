"""The solved head against scikit-learn, and against the optimum's own conditions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- the field's own name

from medres.errors import TrainingError
from medres.finetuning.head_solver import DEFAULT_STRENGTH, STRENGTHS, solve_head
from medres.finetuning.losses import class_weights


def _features(
    num_classes: int, *, num_scans: int = 120, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(num_scans) % num_classes
    centres = rng.normal(size=(num_classes, 6))
    features = centres[labels] + rng.normal(size=(num_scans, 6)) * 1.5
    return (features * rng.uniform(0.1, 10, 6) + rng.normal(size=6) * 5)[:, None, :], labels


def _halves(count: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    order = np.random.default_rng(3).permutation(count)
    return [(order[: count // 2], order[count // 2 :]), (order[count // 2 :], order[: count // 2])]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_probabilities_equal_scikit_learns_on_standardised_features(num_classes: int) -> None:
    features, labels = _features(num_classes)
    weights = class_weights(labels, num_classes=num_classes, weighting="balanced")
    solved = solve_head(features, labels, weights=weights, inner=_halves(len(labels)))
    flat = features[:, 0]
    standardised = (flat - flat.mean(0)) / np.maximum(flat.std(0), np.median(flat.std(0)))
    reference = LogisticRegression(C=solved.strength / len(labels), max_iter=5000, tol=1e-9)
    reference.fit(standardised, labels, sample_weight=weights[labels])
    logits = torch.as_tensor(flat @ solved.weight.T + solved.bias)
    np.testing.assert_allclose(logits.softmax(1).numpy(), reference.predict_proba(standardised), atol=1e-4)
    assert solved.strength in STRENGTHS


def test_repeating_every_view_changes_nothing() -> None:
    features, labels = _features(3)
    weights = class_weights(labels, num_classes=3, weighting="none")
    once = solve_head(features, labels, weights=weights, inner=_halves(len(labels)))
    thrice = solve_head(np.repeat(features, 3, axis=1), labels, weights=weights, inner=_halves(len(labels)))
    assert once.strength == thrice.strength
    np.testing.assert_allclose(once.weight, thrice.weight, atol=1e-4)


def test_noise_gets_a_strong_penalty_and_signal_a_weak_one() -> None:
    features, labels = _features(2, num_scans=200)
    noise = np.random.default_rng(5).normal(size=features.shape)
    weights = np.ones(2)
    of_signal = solve_head(features, labels, weights=weights, inner=_halves(200))
    of_noise = solve_head(noise, labels, weights=weights, inner=_halves(200))
    assert of_noise.strength < of_signal.strength


def test_the_head_is_fitted_on_the_training_scans_alone() -> None:
    features, labels = _features(2)
    train = np.arange(80)
    inner = [(train, np.arange(80, 120))]
    moved = features.copy()
    moved[80:] += 1e-9  # validation features may choose the strength, not the weights
    first = solve_head(features, labels, weights=np.ones(2), inner=inner, train=train)
    second = solve_head(moved, labels, weights=np.ones(2), inner=inner, train=train)
    assert np.array_equal(first.weight, second.weight)


def test_a_class_without_a_scan_stays_improbable() -> None:
    features, labels = _features(2)
    solved = solve_head(features, labels, weights=np.ones(3), inner=())
    assert solved.strength == DEFAULT_STRENGTH
    logits = torch.as_tensor(features[:, 0] @ solved.weight.T + solved.bias)
    assert float(F.softmax(logits, dim=1)[:, 2].max()) < 1e-3


def test_the_solution_goes_into_a_linear_layer() -> None:
    features, labels = _features(2)
    solved = solve_head(features, labels, weights=np.ones(2), inner=())
    head = nn.Linear(6, 2)
    solved.copy_to(head)
    expected = features[:, 0] @ solved.weight.T + solved.bias
    np.testing.assert_allclose(
        head(torch.as_tensor(features[:, 0]).float()).detach().numpy(), expected, rtol=1e-4, atol=1e-4
    )


def test_features_that_are_not_finite_are_refused() -> None:
    features, labels = _features(2)
    features[3, 0, 1] = np.nan
    with pytest.raises(TrainingError, match="not finite, for voxel values that were finite"):
        solve_head(features, labels, weights=np.ones(2), inner=())


def test_a_feature_that_slept_in_training_cannot_decide_alone() -> None:
    features, labels = _features(2)
    asleep = np.zeros((len(labels), 1, 1))
    asleep[3] = 1e-4
    features = np.concatenate([features, asleep], axis=2)
    solved = solve_head(features, labels, weights=np.ones(2), inner=_halves(len(labels)))
    awake = np.zeros(7)
    awake[6] = 1.0
    assert abs(awake @ solved.weight.T).max() < 0.1
