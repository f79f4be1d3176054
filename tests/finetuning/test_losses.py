"""Losses beside torch's, torchvision's and a formula in numpy; what weights and sampling do to logits, taken out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from torchvision.ops import sigmoid_focal_loss

from medres.finetuning.losses import (
    TrainingLoss,
    class_weights,
    logit_offset,
    mean_over_samples,
    prior_offset,
    training_offset,
)
from medres.finetuning.mixing import mix_batch
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.sampling import epoch_order, sampled_prior

CPU = torch.device("cpu")


def _batch(num_classes: int = 3, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_classes)
    return 3 * torch.randn(size, num_classes, generator=generator), torch.arange(size) % num_classes


def _loss(weights: list[float], **options: Any) -> TrainingLoss:
    optimisation = Optimisation(**{"class_weights": "none", **options})
    return TrainingLoss.of(optimisation, class_weights=np.array(weights), device=CPU)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_balanced_weights_equal_scikit_learns(num_classes: int) -> None:
    labels = np.random.default_rng(0).choice(
        num_classes, size=200, p=np.arange(1, num_classes + 1) / sum(range(num_classes + 1))
    )
    expected = compute_class_weight("balanced", classes=np.arange(num_classes), y=labels)
    np.testing.assert_allclose(class_weights(labels, num_classes=num_classes, weighting="balanced"), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 1.0, 4.0]])
def test_cross_entropy_is_torchs_sum_over_the_number_of_samples(weights: list[float], smoothing: float) -> None:
    logits, targets = _batch()
    losses = _loss(weights, label_smoothing=smoothing)(logits, targets)
    expected = torch.nn.functional.cross_entropy(
        logits, targets, weight=torch.tensor(weights), label_smoothing=smoothing, reduction="sum"
    )
    assert losses.shape == (9,)
    torch.testing.assert_close(mean_over_samples(losses, num_samples=9), expected / 9)
    parts = mean_over_samples(losses[:4], num_samples=9) + mean_over_samples(losses[4:], num_samples=9)
    torch.testing.assert_close(parts, expected / 9)


def test_soft_targets_follow_the_formula_and_hard_ones_are_a_case_of_them() -> None:
    logits, targets = _batch()
    weights, smoothing = np.array([0.5, 1.0, 4.0]), 0.1
    soft = np.random.default_rng(0).dirichlet(np.ones(3), size=9)
    loss = _loss(weights.tolist(), label_smoothing=smoothing)
    blurred = (1 - smoothing) * soft + smoothing / 3
    expected = -(weights * blurred * log_softmax(logits.numpy(), axis=1)).sum(axis=1)
    np.testing.assert_allclose(loss(logits, torch.tensor(soft, dtype=torch.float32)), expected, rtol=1e-5)
    one_hot = torch.nn.functional.one_hot(targets, 3).float()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, targets))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_of_two_classes_is_torchvisions(gamma: float) -> None:
    logits, targets = _batch(2)
    alpha = 0.25  # torchvision's weight of the positives; 1 - alpha is that of the negatives
    found = _loss([1 - alpha, alpha], loss="focal", focal_gamma=gamma)(logits, targets)
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], targets.float(), alpha=alpha, gamma=gamma)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_focal_loss_of_many_classes_follows_the_formula() -> None:
    logits, targets = _batch(5)
    weights = np.linspace(0.5, 2, 5)
    p = softmax(logits.double().numpy(), axis=1)[np.arange(9), targets]
    expected = weights[targets] * (1 - p) ** 2 * -np.log(p)
    np.testing.assert_allclose(_loss(weights.tolist(), loss="focal")(logits, targets), expected, rtol=1e-4)


def test_focal_loss_without_focus_is_the_cross_entropy() -> None:
    logits, targets = _batch()
    focal = _loss([1.0, 2.0, 3.0], loss="focal", focal_gamma=0)
    torch.testing.assert_close(focal(logits, targets), _loss([1.0, 2.0, 3.0])(logits, targets))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradients_are_finite_where_the_network_is_sure(gamma: float) -> None:
    logits = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)  # p is exactly 1, and exactly 0
    losses = _loss([1.0, 1.0], loss="focal", focal_gamma=gamma)(logits, torch.tensor([0, 0]))
    losses.sum().backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert losses[1].item() == pytest.approx(160.0)


def test_half_precision_logits_are_taken_up_to_single() -> None:
    logits, targets = _batch()
    for options in ({}, {"loss": "focal"}):
        found = _loss([1.0, 1.0, 1.0], **options)(logits.bfloat16(), targets)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, _loss([1.0, 1.0, 1.0], **options)(logits.bfloat16().float(), targets))


def test_soft_targets_of_a_focal_loss_are_refused() -> None:
    with pytest.raises(ValueError, match="soft targets"):
        _loss([1.0, 1.0], loss="focal")(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))


def test_without_weighting_nothing_is_taken_off() -> None:
    weights = class_weights(np.array([0, 0, 1]), num_classes=2, weighting="none")
    assert logit_offset(weights).tolist() == [0.0, 0.0]


def test_taking_the_offset_off_restores_the_prevalence() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(20_000) < 0.146).astype(np.int64)
    features = rng.normal(size=(20_000, 1)) + labels[:, None]
    weights = class_weights(labels, num_classes=2, weighting="balanced")
    model = LogisticRegression(C=1e6).fit(features, labels, sample_weight=weights[labels])
    logits = model.decision_function(features)
    offset = logit_offset(weights)
    weighted = 1 / (1 + np.exp(-logits))
    restored = 1 / (1 + np.exp(-(logits - (offset[1] - offset[0]))))
    assert weighted.mean() > 0.3
    assert restored.mean() == pytest.approx(0.146, abs=0.01)


@pytest.mark.parametrize("prevalence", [0.146, 0.02])  # the second is so rare that its oversampling is limited
def test_taking_the_offset_of_balanced_sampling_off_restores_the_model_of_all_scans(prevalence: float) -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(20_000) < prevalence).astype(np.int64)
    features = rng.normal(size=(20_000, 1)) + 2 * labels[:, None]
    orders = [epoch_order(labels, sampling="balanced", seed=0, epoch=epoch).positions for epoch in range(1, 6)]
    shown = np.concatenate(orders)
    found = LogisticRegression(C=1e6).fit(features[shown], labels[shown])
    plain = LogisticRegression(C=1e6).fit(features, labels)
    offset = training_offset(labels, num_classes=2, optimisation=Optimisation(sampling="balanced"))
    assert found.intercept_[0] - (offset[1] - offset[0]) == pytest.approx(plain.intercept_[0], abs=0.15)
    assert found.intercept_[0] - plain.intercept_[0] > 1.5  # what would be wrong without


@settings(max_examples=50)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=6))
def test_balanced_sampling_and_balanced_weights_add_the_same_while_nothing_is_limited(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    sampled = sampled_prior(np.array(counts))
    by_sampling = training_offset(labels, num_classes=len(counts), optimisation=Optimisation(sampling="balanced"))
    by_weights = training_offset(labels, num_classes=len(counts), optimisation=Optimisation())
    if np.allclose(sampled, 1 / len(counts)):
        np.testing.assert_allclose(by_sampling, by_weights, atol=1e-12)
    prior = np.array(counts) / sum(counts)
    # softmax of the true log-odds plus the offset are the shares that were shown
    np.testing.assert_allclose(softmax(np.log(prior) + by_sampling), sampled, atol=1e-12)


def test_a_class_without_scans_has_no_offset() -> None:
    assert prior_offset(np.array([1.0, 0.0]), sampled=np.array([1.0, 0.0])).tolist() == [0.0, 0.0]


def _best_logits(weights: np.ndarray[Any, Any], targets: torch.Tensor, **options: Any) -> np.ndarray[Any, Any]:
    """The logits, one row for all samples, that minimise the loss."""
    loss = TrainingLoss(class_weights=torch.tensor(weights, dtype=torch.float32), **options)
    logits = torch.zeros(targets.shape[-1] if targets.ndim == 2 else len(weights), requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = loss(logits.expand(len(targets), -1), targets).mean()
        total.backward()
        return total

    optimizer.step(closure)
    return logits.detach().double().numpy()


def test_weights_come_off_exactly_with_label_smoothing_and_with_mixup() -> None:
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    weights = class_weights(labels.numpy(), num_classes=3, weighting="balanced")
    smoothed = softmax(_best_logits(weights, labels, label_smoothing=0.1) - logit_offset(weights))
    np.testing.assert_allclose(smoothed, 0.9 * np.array([0.7, 0.2, 0.1]) + 0.1 / 3, atol=1e-4)
    mixed = mix_batch(torch.zeros(100, 1, 2, 2), labels, num_classes=3, mixup=1.0, cutmix=0, seed=0).targets
    found = softmax(_best_logits(weights, mixed) - logit_offset(weights))
    np.testing.assert_allclose(found, mixed.mean(dim=0), atol=1e-4)


def test_weights_do_not_come_off_a_focal_loss_which_is_why_they_are_refused_together() -> None:
    labels = torch.tensor([0] * 85 + [1] * 15)
    weights = class_weights(labels.numpy(), num_classes=2, weighting="balanced")
    found = softmax(_best_logits(weights, labels, kind="focal") - logit_offset(weights))
    assert abs(found[1] - 0.15) < 1e-3  # at even odds the bend has no effect: the weighted share is one half
    shifted = softmax(_best_logits(np.array([1.0, 3.0]), labels, kind="focal") - np.log([1.0, 3.0]))
    assert abs(shifted[1] - 0.15) > 0.02
