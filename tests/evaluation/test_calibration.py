from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from sklearn.metrics import log_loss

from medres.errors import TrainingError
from medres.evaluation.calibration import TEMPERATURE_BOUNDS, fit_temperature, probabilities_of


def _made(*, num_classes: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by the factor ``temperature``, and labels drawn from their true probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(400, num_classes))
    probabilities = scipy.special.softmax(logits, axis=1)
    labels = np.array([rng.choice(num_classes, p=row) for row in probabilities])
    return logits * temperature, labels


@pytest.mark.parametrize("num_classes", [2, 3, 6])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_is_the_best_of_a_fine_grid(num_classes: int, temperature: float) -> None:
    logits, labels = _made(num_classes=num_classes, temperature=temperature)
    fitted = fit_temperature(logits, labels)
    grid = np.exp(np.linspace(np.log(0.1), np.log(18), 4000))
    losses = [log_loss(labels, scipy.special.softmax(logits / value, axis=1)) for value in grid[::10]]
    near = grid[::10][int(np.argmin(losses))]
    assert fitted == pytest.approx(near, rel=0.02)
    assert log_loss(labels, scipy.special.softmax(logits / fitted, axis=1)) <= min(losses) + 1e-9
    assert fitted == pytest.approx(temperature, rel=0.2)


@pytest.mark.parametrize("temperature", [0.6, 2.5])
def test_temperature_equals_torch_lbfgs(temperature: float) -> None:
    logits, labels = _made(num_classes=3, temperature=temperature, seed=3)
    values, targets = torch.from_numpy(logits), torch.from_numpy(labels)
    inverse = torch.ones(1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([inverse], lr=0.5, max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(values * inverse, targets)
        value.backward()
        return value

    solver.step(loss)
    assert fit_temperature(logits, labels) == pytest.approx(1 / float(inverse.detach()), rel=1e-4)


def test_temperature_scales_with_the_logits() -> None:
    logits, labels = _made(num_classes=2, temperature=1.0)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize(("logits", "bound"), [([[9.0, 0.0], [0.0, 9.0]], 0), ([[0.0, 9.0], [9.0, 0.0]], 1)])
def test_separable_and_inverted_logits_stop_at_the_bounds(logits: list[list[float]], bound: int) -> None:
    assert fit_temperature(np.array(logits), np.array([0, 1])) == pytest.approx(TEMPERATURE_BOUNDS[bound], rel=1e-2)


def test_no_logits_and_wild_logits_are_refused() -> None:
    with pytest.raises(TrainingError, match="no scan to fit"):
        fit_temperature(np.empty((0, 2)), np.empty(0, dtype=np.int64))
    with pytest.raises(TrainingError, match="not finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_scipys_softmax(dtype: type) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=30, size=(50, 4)).astype(dtype)
    offset = rng.normal(size=4)
    expected = scipy.special.softmax((logits.astype(np.float64) - offset) / 2.5, axis=1)
    result = probabilities_of(logits, offset=offset, temperature=2.5)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-12)


def test_the_offset_takes_class_weights_out_again() -> None:
    """With Bayes-optimal logits under class weights w, subtracting log(w) gives the true probabilities."""
    truth = np.array([[0.9, 0.1], [0.6, 0.4]])
    weights = np.array([0.5, 4.0])
    weighted = np.log(truth * weights)
    np.testing.assert_allclose(probabilities_of(weighted, offset=np.log(weights), temperature=1.0), truth)


def test_huge_logits_stay_finite() -> None:
    result = probabilities_of(np.array([[1e5, -1e5]]), offset=[0.0, 0.0], temperature=0.05)
    assert result.tolist() == [[1.0, 0.0]]
