from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console, RenderableType

from medres.finetuning.scoring import main_block
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.reporting.tables import (
    confusion_table,
    data_table,
    fold_table,
    per_class_table,
    plan_table,
    result_table,
)
from medres.runs.folder import RunFolder
from tests.reporting.conftest import RUNS


def _shown(table: RenderableType, *, width: int = 100) -> str:
    console = Console(record=True, width=width, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def _words(table: RenderableType, *, width: int = 100) -> str:
    return " ".join(_shown(table, width=width).split())


def _metrics(run: RunFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run.metrics.read_text())
    return document


@pytest.mark.parametrize("name", [name for name in RUNS if name != "too small for intervals"])
def test_result_table_shows_each_score_on_one_line(runs: dict[str, RunFolder], name: str) -> None:
    metrics = _metrics(runs[name])
    lines = [" ".join(line.split()) for line in _shown(result_table(metrics)).splitlines()]
    blocks = [block for block in (metrics["pooled"], metrics["test"]) if block]
    for score in (score for block in blocks for score in block["scores"].values()):
        ending = f"{score['value']:.3f} {score['low']:.3f} to {score['high']:.3f} {score['n_patients']}"
        ending += f" {score['n_units']} {score['n_events']}"
        assert any(line.endswith(ending) for line in lines), ending


def test_a_missing_interval_says_why(runs: dict[str, RunFolder]) -> None:
    metrics = _metrics(runs["too small for intervals"])
    score = main_block(metrics)[1]["scores"]["auroc"]
    assert score["low"] is None
    assert f"none: {score['reason'].split()[0]}" in _words(result_table(metrics))


def test_title_counts_patients_and_units(run: RunFolder, runs: dict[str, RunFolder]) -> None:
    assert "60 patients, 60 units (lesion_id)" in _words(result_table(_metrics(run)))
    assert "75 patients, 75 scans" in _words(result_table(_metrics(runs["three classes"])))


def test_test_split_is_shown_as_the_ensemble(run: RunFolder, runs: dict[str, RunFolder]) -> None:
    assert "ensemble, test split" in _words(result_table(_metrics(run)))
    assert "ensemble" not in _words(result_table(_metrics(runs["given split"])))


def test_per_class_table(runs: dict[str, RunFolder]) -> None:
    metrics = _metrics(runs["three classes"])
    words = _words(per_class_table(metrics))
    for label, scores in metrics["pooled"]["per_class"].items():
        auroc = scores["auroc"]
        row = f"{label} {scores['n_patients']} {scores['n_units']} {auroc['value']:.2f} ({auroc['low']:.2f}"
        assert row in words


def test_confusion_table_adds_up_to_the_units(runs: dict[str, RunFolder]) -> None:
    metrics = _metrics(runs["three classes"])
    lines = _shown(confusion_table(metrics)).splitlines()
    rows = [line.split() for line in lines if line.split() and line.split()[0] in metrics["classes"]]
    assert len(rows) == 3
    assert sum(int(cell) for row in rows for cell in row[1:]) == 75


@pytest.mark.parametrize("name", RUNS)
def test_fold_table_has_a_row_for_each_fold(runs: dict[str, RunFolder], name: str) -> None:
    metrics = _metrics(runs[name])
    lines = _shown(fold_table(metrics)).splitlines()
    rows = [line.split() for line in lines if line.split() and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == [str(fold["fold"]) for fold in metrics["folds"]]
    assert [row[-1] for row in rows] == [f"{fold['temperature']:.2f}" for fold in metrics["folds"]]


def test_names_are_no_markup(runs: dict[str, RunFolder]) -> None:
    metrics = _metrics(runs["hostile names"])
    for table in (per_class_table(metrics), confusion_table(metrics)):
        assert "_[bold]a|b[/bold]_" in _words(table, width=400)


def test_plan_table_gives_every_choice_its_reason(run: RunFolder) -> None:
    plan = Plan.read(run.plan)
    words = _words(plan_table(plan), width=2000)
    assert len(plan.reasons) > 8
    for choice, reason in plan.reasons.items():
        assert f"{choice} " in words
        assert reason in words


def test_data_table(run: RunFolder) -> None:
    table = data_table(
        Fingerprint.read(run.fingerprint), class_counts={"[red]benign": 30, "malignant": 12}, num_patients=37
    )
    words = _words(table, width=200)
    assert "class [red]benign 30 scans class malignant 12 scans patients 37" in words
    assert "spacing in mm 1 × 0.7 × 0.7" in words
