"""A network that learned nothing is told from one that did, and from one that learned little."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import chi2
from sklearn.metrics import log_loss

from medres.evaluation.calibration import TEMPERATURE_BOUNDS
from medres.evaluation.training_fit import CONFIDENCE, TrainingFit, signs_of_no_learning


def _labels(num_scans: int, num_classes: int) -> np.ndarray:
    return np.arange(num_scans) % num_classes


@pytest.mark.parametrize("num_classes", [2, 3, 6])
def test_the_prior_is_the_log_loss_of_the_prevalence(num_classes: int) -> None:
    labels = np.sort(np.arange(50) ** 2 % num_classes)
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    expected = log_loss(labels, np.tile(shares, (50, 1)), labels=range(num_classes))
    assert TrainingFit.of(np.zeros((50, num_classes)), labels).prior_log_loss == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.1, 1.0, 100.0])
def test_how_large_the_logits_are_is_no_matter_of_learning(level: float) -> None:
    labels = _labels(60, 2)
    noise = np.random.default_rng(0).normal(size=(60, 2))
    assert TrainingFit.of(level * (noise + 2 * np.eye(2)[labels]), labels).is_better_than_prior
    assert not TrainingFit.of(level * noise, labels).is_better_than_prior


@pytest.mark.parametrize("num_classes", [2, 4])
def test_noise_passes_for_learning_once_in_a_hundred_times(num_classes: int) -> None:
    rng, labels = np.random.default_rng(1), _labels(80, num_classes)
    passed = [TrainingFit.of(rng.normal(size=(80, num_classes)), labels).is_better_than_prior for _ in range(400)]
    assert np.mean(passed) <= 0.03


def test_the_test_is_that_of_a_logistic_regression_on_the_margin() -> None:
    # balanced classes, so that the prior is the level at which both models begin; statsmodels fits the slope itself
    rng, labels = np.random.default_rng(2), _labels(100, 2)
    verdicts = []
    for signal in np.linspace(0, 1.2, 25):
        margin = rng.normal(size=100) + signal * (labels - 0.5)
        fit = TrainingFit.of(np.stack([np.zeros(100), margin], axis=1), labels)
        slope = sm.Logit(labels, margin[:, None]).fit(disp=0)
        gain = 2 * (slope.llf - 100 * np.log(0.5))
        if slope.params[0] > 1 / TEMPERATURE_BOUNDS[1]:
            assert 2 * 100 * (fit.prior_log_loss - fit.log_loss) == pytest.approx(gain, abs=1e-3)
        verdicts.append((fit.is_better_than_prior, slope.params[0] > 0 and gain > chi2.ppf(CONFIDENCE, df=1)))
    assert all(ours == theirs for ours, theirs in verdicts)
    assert {ours for ours, _ in verdicts} == {True, False}


def test_each_sign_is_told() -> None:
    learned = TrainingFit(num_scans=48, log_loss=0.2, prior_log_loss=0.69)
    apart = np.array([[0.2, 0.8], [0.9, 0.1]])
    assert signs_of_no_learning(learned, temperature=1.5, probabilities=apart) == ()
    dead = TrainingFit(num_scans=48, log_loss=0.693, prior_log_loss=0.693)
    alike = np.array([[0.501, 0.499], [0.500, 0.500]])
    signs = signs_of_no_learning(dead, temperature=TEMPERATURE_BOUNDS[1], probabilities=alike)
    assert len(signs) == 3
    assert "0.693" in signs[0]
    assert "0.0010" in signs[1]
    assert "20.0" in signs[2]
    # one scan says nothing of a spread
    assert signs_of_no_learning(learned, temperature=1.0, probabilities=alike[:1]) == ()
