"""Class weights as scikit-learn's, and what they do to logits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

from medres.finetuning.losses import class_weights, logit_offset


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_balanced_weights_equal_scikit_learns(num_classes: int) -> None:
    labels = np.random.default_rng(0).choice(
        num_classes, size=200, p=np.arange(1, num_classes + 1) / sum(range(num_classes + 1))
    )
    expected = compute_class_weight("balanced", classes=np.arange(num_classes), y=labels)
    np.testing.assert_allclose(class_weights(labels, num_classes=num_classes, weighting="balanced"), expected)


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
