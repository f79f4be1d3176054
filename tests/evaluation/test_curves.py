from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from medres.evaluation.curves import (
    MAX_POINTS,
    NUM_BINS,
    confusion_table,
    precision_recall_table,
    reliability_table,
    roc_table,
)


def _made(size: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.random(size)
    return values, rng.random(size) < values


def test_roc_is_scikit_learns() -> None:
    values, positive = _made(100)
    table = roc_table(values, positive)
    assert table is not None
    fpr, tpr, thresholds = roc_curve(positive, values)
    assert table["fpr"] == fpr.tolist()
    assert table["tpr"] == tpr.tolist()
    assert table["thresholds"] == [1.0, *thresholds[1:]]


def test_precision_recall_is_scikit_learns() -> None:
    values, positive = _made(100)
    table = precision_recall_table(values, positive)
    assert table is not None
    precision, recall, thresholds = precision_recall_curve(positive, values)
    assert table["precision"] == precision.tolist()
    assert table["recall"] == recall.tolist()
    assert table["thresholds"] == [*thresholds, 1.0]


def test_long_curves_are_thinned_to_what_can_be_seen() -> None:
    values, positive = _made(20_000)
    roc, curve = roc_table(values, positive), precision_recall_table(values, positive)
    assert roc is not None
    assert curve is not None
    for table in (roc, curve):
        assert {len(column) for column in table.values()} == {MAX_POINTS}
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    assert auc(roc["fpr"], roc["tpr"]) == pytest.approx(roc_auc_score(positive, values), abs=1e-3)
    area = -np.sum(np.diff(curve["recall"]) * np.array(curve["precision"])[:-1])
    assert area == pytest.approx(average_precision_score(positive, values), abs=5e-3)


@pytest.mark.parametrize("table", [roc_table, precision_recall_table])
@pytest.mark.parametrize("flag", [True, False])
def test_one_sided_labels_have_no_curve(table: object, flag: bool) -> None:
    assert callable(table)
    assert table(np.array([0.2, 0.7]), np.array([flag, flag])) is None


def test_curves_can_be_written_as_json() -> None:
    values, positive = _made(50)
    document = [
        roc_table(values, positive),
        precision_recall_table(values, positive),
        reliability_table(values, positive),
    ]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_reliability_is_scikit_learns_with_wilson_bounds() -> None:
    values, positive = _made(500)
    table = reliability_table(values, positive)
    observed, mean = calibration_curve(positive, values, n_bins=NUM_BINS)
    np.testing.assert_allclose([part["observed"] for part in table], observed)
    np.testing.assert_allclose([part["mean_probability"] for part in table], mean)
    assert sum(part["n_units"] for part in table) == 500
    for part in table:
        bounds = proportion_confint(round(part["observed"] * part["n_units"]), part["n_units"], method="wilson")
        assert (part["observed_low"], part["observed_high"]) == pytest.approx(bounds)
        assert part["low"] <= part["mean_probability"] <= part["high"]


def test_empty_bins_are_left_out_and_the_ends_belong_to_a_bin() -> None:
    table = reliability_table(np.array([0.0, 0.05, 1.0]), np.array([False, False, True]))
    assert [(part["low"], part["high"], part["n_units"]) for part in table] == [(0.0, 0.1, 2), (0.9, 1.0, 1)]


def test_confusion_has_labels_in_rows() -> None:
    table = confusion_table(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), ["a", "b", "c"])
    assert table["counts"] == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert (table["rows"], table["columns"], table["classes"]) == ("label", "decision", ["a", "b", "c"])


def test_confusion_keeps_a_class_that_nobody_has() -> None:
    assert confusion_table(np.array([0]), np.array([0]), ["a", "b"])["counts"] == [[1, 0], [0, 0]]
