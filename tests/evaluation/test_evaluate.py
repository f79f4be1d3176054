from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from medres.evaluation.evaluate import evaluate_predictions
from medres.evaluation.operating_point import OperatingPoint
from tests.evaluation.cohorts import Made, make

SCORE_KEYS = {"value", "low", "high", "n_patients", "n_units", "n_events", "method"}


def _block(made: Made, *, num_resamples: int = 100, **options: Any) -> dict[str, Any]:
    return evaluate_predictions(
        made.probabilities, made.class_indices, **{**made.arguments(), "num_resamples": num_resamples, **options}
    )


def _values(block: dict[str, Any]) -> dict[str, float]:
    return {name: score["value"] for name, score in block["scores"].items()}


def _score_documents(block: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk everything under ``scores`` and ``per_class`` that is not a count."""
    for name, value in block.items():
        if name in ("n_units", "n_patients"):
            assert isinstance(value, int)
        elif isinstance(value, dict) and "value" not in value:
            yield from _score_documents(value, f"{path}{name}/")
        else:
            yield path + name, value


def test_scores_of_two_classes_equal_scikit_learn() -> None:
    made = make()
    labels, probabilities = made.class_indices, made.probabilities
    decided = (probabilities[:, 1] >= 0.3).astype(int)
    expected = {
        "auroc": metrics.roc_auc_score(labels, probabilities[:, 1]),
        "average_precision": metrics.average_precision_score(labels, probabilities[:, 1]),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, decided),
        "sensitivity": metrics.recall_score(labels, decided),
        "specificity": metrics.recall_score(labels, decided, pos_label=0),
        "accuracy": metrics.accuracy_score(labels, probabilities.argmax(axis=1)),
        "brier": metrics.brier_score_loss(labels, probabilities[:, 1]),
        "log_loss": metrics.log_loss(labels, probabilities),
    }
    block = _block(made, priors=np.tile([0.7, 0.3], (len(labels), 1)))
    assert _values(block) == pytest.approx(expected)
    assert block["tables"]["confusion"]["counts"] == metrics.confusion_matrix(labels, decided).tolist()


@pytest.mark.parametrize("num_classes", [3, 5])
def test_scores_of_more_classes_equal_scikit_learn(num_classes: int) -> None:
    made = make(num_classes=num_classes, num_patients=70)
    labels, probabilities = made.class_indices, made.probabilities
    priors = np.random.default_rng(0).dirichlet(np.full(num_classes, 5.0))
    decided = OperatingPoint(priors=tuple(priors)).decide(probabilities)
    one_hot = np.eye(num_classes)[labels]
    expected = {
        "auroc": metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        "average_precision": metrics.average_precision_score(one_hot, probabilities, average="macro"),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, decided),
        "accuracy": metrics.accuracy_score(labels, probabilities.argmax(axis=1)),
        "brier": metrics.brier_score_loss(labels, probabilities),
        "log_loss": metrics.log_loss(labels, probabilities),
    }
    block = _block(made, priors=priors)
    assert _values(block) == pytest.approx(expected)
    for index, (_name, scores) in enumerate(block["per_class"].items()):
        side = labels == index
        assert scores["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(side, probabilities[:, index]))
        assert scores["sensitivity"]["value"] == pytest.approx(metrics.recall_score(side, decided == index))
        assert scores["specificity"]["value"] == pytest.approx(metrics.recall_score(~side, decided != index))
        assert (scores["n_units"], scores["auroc"]["n_events"]) == (side.sum(), side.sum())


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("num_patients", [3, 8, 60])
def test_no_number_without_n_and_interval_or_reason(num_classes: int, num_patients: int) -> None:
    made = make(num_classes=num_classes, num_patients=num_patients)
    block = _block(made)
    found = [*_score_documents(block["scores"]), *_score_documents(block["per_class"])]
    assert len(found) == (8 if num_classes == 2 else 6) + 4 * num_classes
    for name, score in found:
        assert set(score) - {"reason"} == SCORE_KEYS, name
        assert 0 < score["n_patients"] <= score["n_units"], name
        assert 0 <= score["n_events"] <= score["n_units"], name
        bounds = (score["low"], score["high"])
        if "reason" in score:
            assert bounds == (None, None), name
        else:
            assert score["low"] <= score["value"] <= score["high"], name
            assert score["method"].endswith("95 %"), name
    json.dumps(block, allow_nan=False)


def test_a_fold_without_a_class_is_null_with_a_reason_and_valid_json() -> None:
    block = evaluate_predictions(
        [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 0, 0], classes=["no", "yes"], patients=["a", "b", "c"]
    )
    json.dumps(block, allow_nan=False)
    assert block["scores"]["auroc"]["value"] is None
    assert block["scores"]["sensitivity"]["reason"] == "a class that the score needs has no unit"
    assert block["scores"]["specificity"]["value"] == pytest.approx(2 / 3)
    assert block["tables"]["roc"] == {"no": None, "yes": None}
    assert block["per_class"]["yes"]["n_units"] == 0


def test_a_single_scan_can_be_scored() -> None:
    block = evaluate_predictions([[0.9, 0.1]], [0], classes=["no", "yes"], patients=["a"])
    assert block["scores"]["accuracy"]["value"] == 1.0
    assert block["scores"]["accuracy"]["low"] is None


def test_counts_are_of_patients_units_and_events() -> None:
    made = make(num_patients=40, scans=3, seed=1)
    scores = _block(made)["scores"]
    positives = int((made.class_indices == 1).sum())
    assert (scores["auroc"]["n_patients"], scores["auroc"]["n_units"]) == (40, 120)
    recalls = {"sensitivity": positives, "specificity": 120 - positives}
    assert {name: score["n_events"] for name, score in scores.items()} == dict.fromkeys(scores, positives) | recalls
    assert (scores["sensitivity"]["n_units"], scores["sensitivity"]["n_patients"]) == (positives, positives // 3)
    assert (scores["specificity"]["n_units"], scores["specificity"]["n_patients"]) == (120 - positives, 20)


def test_units_are_scored_by_the_mean_of_their_probabilities() -> None:
    made = make(num_patients=30, scans=4)
    units = [f"{patient}-{index % 2}" for index, patient in enumerate(made.patients)]
    block = _block(made, units=units, priors=np.tile([0.6, 0.4], (120, 1)))
    means = np.stack([made.probabilities[np.array(units) == unit].mean(axis=0) for unit in sorted(set(units))])
    labels = np.array([made.class_indices[units.index(unit)] for unit in sorted(set(units))])
    scores = block["scores"]
    assert scores["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(labels, means[:, 1]))
    assert scores["balanced_accuracy"]["value"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, means[:, 1] >= 0.4)
    )
    assert (scores["auroc"]["n_patients"], scores["auroc"]["n_units"]) == (30, 60)
    same = evaluate_predictions(
        means, labels, classes=made.classes, patients=[unit[:-2] for unit in sorted(set(units))],
        priors=[0.6, 0.4], num_resamples=100,
    )  # fmt: skip
    assert _values(block) == pytest.approx(_values(same))
    assert scores["auroc"]["low"] == pytest.approx(same["scores"]["auroc"]["low"])


def test_every_scan_its_own_unit_is_the_scan() -> None:
    made = make(num_classes=3)
    named = _block(made, units=[f"unit {index:04d}" for index in range(len(made.patients))])
    assert named == _block(made)


def test_each_scan_is_decided_at_the_operating_point_of_its_own_model() -> None:
    made = make()
    priors = np.where((np.arange(120) < 60)[:, None], [0.8, 0.2], [0.4, 0.6])
    decided = made.probabilities[:, 1] >= priors[:, 1]
    counts = _block(made, priors=priors)["tables"]["confusion"]["counts"]
    assert counts == metrics.confusion_matrix(made.class_indices, decided).tolist()


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([2, 3]))
def test_the_order_of_rows_does_not_matter(seed: int, num_classes: int) -> None:
    made = make(num_patients=20, num_classes=num_classes, seed=seed)
    order = np.random.default_rng(seed).permutation(len(made.patients))
    shuffled = Made(made.probabilities[order], made.class_indices[order], [made.patients[row] for row in order])
    first, second = (
        dict(_score_documents({key: _block(part)[key] for key in ("scores", "per_class")})) for part in (made, shuffled)
    )
    for name, score in first.items():
        for key in ("value", "low", "high"):
            assert second[name][key] == pytest.approx(score[key], abs=1e-9), (name, key)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_swapping_two_classes_swaps_sensitivity_and_specificity(seed: int) -> None:
    made = make(num_patients=20, seed=seed)
    swapped = Made(made.probabilities[:, ::-1], 1 - made.class_indices, made.patients)
    first, second = _block(made)["scores"], _block(swapped)["scores"]
    pairs = {name: name for name in ("auroc", "balanced_accuracy", "accuracy", "brier", "log_loss")}
    for name, mirrored in {**pairs, "sensitivity": "specificity", "specificity": "sensitivity"}.items():
        for key in ("value", "low", "high"):
            assert second[mirrored][key] == pytest.approx(first[name][key], abs=1e-9), (name, key)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.3, 4))
def test_a_temperature_does_not_move_auroc(seed: int, temperature: float) -> None:
    made = make(num_patients=20, seed=seed)
    logits = np.log(made.probabilities) / temperature
    sharper = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    first, second = _block(made), _block(Made(sharper, made.class_indices, made.patients))
    for name in ("auroc", "average_precision"):
        for key in ("value", "low", "high"):
            assert second["scores"][name][key] == pytest.approx(first["scores"][name][key], abs=1e-9)


def test_what_was_given_stays_as_it_was() -> None:
    made = make()
    before = made.probabilities.copy(), made.class_indices.copy()
    _block(made)
    np.testing.assert_array_equal(made.probabilities, before[0])
    np.testing.assert_array_equal(made.class_indices, before[1])


def test_chance_is_chance() -> None:
    """Signal-free predictions: the 95 % interval misses 0.5 in about one study of twenty."""
    missed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.ones(2), size=60)
        score = evaluate_predictions(
            probabilities, rng.permutation(60) % 2, classes=["a", "b"], patients=[str(i) for i in range(60)],
            num_resamples=200,
        )["scores"]["auroc"]  # fmt: skip
        missed += not score["low"] <= 0.5 <= score["high"]
    assert missed <= 9
