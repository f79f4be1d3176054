from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from rich.console import Console

from medres.errors import OutputError
from medres.reporting.result import Run
from medres.runs.folder import RunFolder
from tests.reporting.conftest import RUNS


@pytest.mark.parametrize("name", RUNS)
def test_summary_is_json_and_holds_what_the_run_is_judged_by(runs: dict[str, RunFolder], name: str) -> None:
    run = Run(runs[name])
    summary = json.loads(json.dumps(run.summary(), allow_nan=False))
    expected = "test" if RUNS[name].get("kind") == "given-split" else "pooled"
    assert summary["scored"] == expected
    assert summary["scores"] == run.metrics[expected]["scores"]


def test_run_reads_its_folder(run: RunFolder) -> None:
    opened = Run(str(run.path))
    assert len(opened.predictions) == 3 * (60 + 30)
    assert opened.predictions["fold"].map(type).eq(str).all()
    with run.predictions.open(encoding="utf-8", newline="") as file:
        exact = [float(row["logit_malignant"]) for row in csv.DictReader(file)]
    assert opened.predictions["logit_malignant"].tolist() == exact
    assert opened.plan.spatial_dims == 3
    assert repr(opened) == f"Run({str(run.path)!r})"


def test_screen_shows_scores_and_where_things_are(run: RunFolder) -> None:
    console = Console(record=True, width=200, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    console.print(Run(run).screen())
    text = console.export_text()
    assert "AUROC" in text
    assert str(run.report) in text
    assert "medres predict" in text


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"metrics\.json is missing"):
        _ = Run(tmp_path).metrics
