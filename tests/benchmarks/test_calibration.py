"""What each choice of the training craft does to probabilities, where the true ones are known.

Prints the table of ``docs/concepts/training-craft.md``: a logistic problem of 8 features and a prevalence of about .16,
a linear model, so many scans that only the choice itself can bend the probabilities (nothing is overfitted).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from torch import nn

from medres.evaluation.calibration import fit_temperature, probabilities_of
from medres.finetuning.losses import TrainingLoss, class_weights, mean_over_samples, training_offset
from medres.finetuning.mixing import mix_batch
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.sampling import epoch_order

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
NUM_TRAIN, NUM_TEST, BATCH, EPOCHS = 20_000, 200_000, 250, 10
WEIGHTS = np.array([1.5, -1.0, 0.8, 0.5, -0.4, 0.3, 0.0, 0.0])
BIAS = -2.7

CHOICES: dict[str, dict[str, Any]] = {
    "cross-entropy, no weights": {"class_weights": "none"},
    "class_weights: balanced": {},
    "sampling: balanced": {"sampling": "balanced"},
    "loss: focal (gamma 2)": {"loss": "focal"},
    "label_smoothing: 0.1": {"class_weights": "none", "label_smoothing": 0.1},
    "label_smoothing: 0.1, weights": {"label_smoothing": 0.1},
    "mixup: 0.2": {"class_weights": "none", "mixup": 0.2},
    "mixup: 1.0": {"class_weights": "none", "mixup": 1.0},
    "mixup: 0.2, weights": {"mixup": 0.2},
    "cutmix: 1.0": {"class_weights": "none", "cutmix": 1.0},
}


@dataclass(frozen=True)
class Row:
    """Calibration slope and intercept (1 and 0 are right), mean probability, excess Brier score over the truth's."""

    slope: float
    intercept: float
    mean: float
    excess: float


@dataclass(frozen=True)
class Cohort:
    features: Array
    true: Array
    labels: Array


def _cohort(size: int, seed: int) -> Cohort:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, len(WEIGHTS))).astype(np.float32)
    true = expit(features @ WEIGHTS + BIAS)
    return Cohort(features, true, (rng.random(size) < true).astype(np.int64))


def _train(cohort: Cohort, optimisation: Optimisation) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(len(WEIGHTS), 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    steps = EPOCHS * NUM_TRAIN // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weights = class_weights(cohort.labels, num_classes=2, weighting=optimisation.class_weights)
    loss = TrainingLoss.of(optimisation, class_weights=weights, device=torch.device("cpu"))
    scans, labels = torch.from_numpy(cohort.features)[:, None], torch.from_numpy(cohort.labels)
    for epoch in range(1, EPOCHS + 1):
        order = epoch_order(cohort.labels, sampling=optimisation.sampling, seed=0, epoch=epoch).positions
        for number, positions in enumerate(np.array_split(order, NUM_TRAIN // BATCH)):
            batch, targets = scans[positions], labels[positions]
            if optimisation.mixes:
                mixed = mix_batch(
                    batch, targets, num_classes=2, mixup=optimisation.mixup, cutmix=optimisation.cutmix,
                    seed=(0, epoch, number),
                )  # fmt: skip
                batch, targets = mixed.scans, mixed.targets
            optimizer.zero_grad()
            mean_over_samples(loss(model(batch[:, 0]), targets), num_samples=len(positions)).backward()
            optimizer.step()
            schedule.step()
    return model


def _row(cohort: Cohort, probabilities: Array) -> Row:
    log_odds = logit(probabilities[:, 1].clip(1e-9, 1 - 1e-9))
    fitted = LogisticRegression(C=1e9).fit(log_odds[:, None], cohort.labels)
    excess = np.mean((probabilities[:, 1] - cohort.true) ** 2)  # E[Brier] = E[Brier of the truth] + this
    return Row(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]), float(probabilities[:, 1].mean()), float(excess))


def _measure(optimisation: Optimisation) -> tuple[Row, Row, Row]:
    """Rows of the logits as they are, with the offset taken out, and after a temperature as well."""
    train, held_out, test = _cohort(NUM_TRAIN, 1), _cohort(NUM_TRAIN, 2), _cohort(NUM_TEST, 3)
    model = _train(train, optimisation)
    offset = training_offset(train.labels, num_classes=2, optimisation=optimisation)
    with torch.no_grad():
        on_held_out, on_test = (model(torch.from_numpy(part.features)).numpy() for part in (held_out, test))
    temperature = fit_temperature(on_held_out - offset, held_out.labels)
    versions = ((np.zeros(2), 1.0), (offset, 1.0), (offset, temperature))
    raw, taken_out, final = (
        _row(test, probabilities_of(on_test, offset=shift, temperature=by)) for shift, by in versions
    )
    return raw, taken_out, final


def test_what_each_choice_does_to_the_probabilities() -> None:
    found = {name: _measure(Optimisation(**choice)) for name, choice in CHOICES.items()}
    prevalence = float(_cohort(NUM_TEST, 3).true.mean())
    print(f"\nprevalence {prevalence:.3f}; slope, intercept, mean probability, 1000 x excess Brier score")
    for name, rows in found.items():
        cells = (f"{row.slope:.2f} {row.intercept:+.2f} {row.mean:.3f} {1000 * row.excess:.2f}" for row in rows)
        print(f"| {name} | " + " | ".join(cells) + " |")
    for name, (raw, taken_out, final) in found.items():
        exact = name.startswith(("cross", "class_weights", "sampling"))
        if exact:
            assert abs(taken_out.slope - 1) < 0.05, name
            assert abs(taken_out.mean - prevalence) < 0.01, name
            assert taken_out.excess < 2e-4, name
        else:
            assert taken_out.slope > 1.05, name  # too careful
        if name.startswith(("class_weights", "sampling")):
            assert raw.mean > prevalence + 0.1
        if name in ("loss: focal (gamma 2)", "mixup: 0.2", "mixup: 1.0"):  # what one temperature can mend
            assert abs(final.slope - 1) < 0.05, name
            assert final.excess < 3e-4, name
        if name.startswith(("label_smoothing", "cutmix")):  # and what it cannot: they move the level, too
            assert abs(final.intercept) > 0.1, name
