from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medres.reporting.predictions import ScoredUnit, class_probabilities, read_units, worst_errors
from medres.runs.folder import RunFolder


@pytest.mark.parametrize("split", ["held-out", "test"])
def test_units_are_the_mean_of_their_scans_as_in_pandas(run: RunFolder, split: str) -> None:
    classes = json.loads(run.metrics.read_text())["classes"]
    units = read_units(run.predictions, classes, split=split)
    table = pd.read_csv(run.predictions)
    table = table[table["split"] == split]
    expected = table.groupby("unit", sort=False)[[f"prob_{name}" for name in classes]].mean()
    assert [unit.unit for unit in units] == list(expected.index)
    assert all(unit.num_scans == 3 for unit in units)
    np.testing.assert_allclose([unit.probabilities for unit in units], expected.to_numpy(), rtol=1e-12)


def test_units_agree_with_what_was_scored(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text())
    units = read_units(run.predictions, metrics["classes"], split="held-out")
    assert len(units) == metrics["pooled"]["scores"]["auroc"]["n_units"]
    inside, outside = class_probabilities(units, metrics["classes"], 1)
    brier = (np.sum((1 - inside) ** 2) + np.sum(outside**2)) / len(units)
    assert brier == pytest.approx(metrics["pooled"]["scores"]["brier"]["value"])


def test_without_the_file_there_are_no_units(tmp_path: Path) -> None:
    assert read_units(tmp_path / "predictions.csv", ["a", "b"], split="held-out") == []


def test_worst_errors_are_the_most_confident_wrong_ones() -> None:
    units = [_unit(f"s-{index:012x}", "a", probability) for index, probability in enumerate((0.9, 0.4, 0.05, 0.2))]
    errors = worst_errors(units, ["a", "b"], most=2)
    assert [error.unit for error in errors] == ["s-000000000002", "s-000000000003"]
    assert (errors[0].label, errors[0].predicted) == ("a", "b")
    assert (errors[0].probability, errors[0].label_probability) == pytest.approx((0.95, 0.05))


@pytest.mark.parametrize("name", ["Doe^John", "s-123", "s-00000000000g", "s-000000000000 ", "../s-000000000000"])
def test_only_pseudonyms_come_through(tmp_path: Path, name: str) -> None:
    path = tmp_path / "predictions.csv"
    row = f"x,{name},{name},0,held-out,a,0.5,0.5,0,0,a,a"
    path.write_text(f"sample,patient,unit,fold,split,label,prob_a,prob_b,logit_a,logit_b,predicted,decision\n{row}\n")
    (unit,) = read_units(path, ["a", "b"], split="held-out")
    assert (unit.unit, unit.patient) == ("(withheld)", "(withheld)")


def _unit(name: str, label: str, probability_of_a: float) -> ScoredUnit:
    values = np.array([probability_of_a, 1 - probability_of_a])
    return ScoredUnit(unit=name, patient="p-000000000000", fold="0", label=label, num_scans=1, probabilities=values)
