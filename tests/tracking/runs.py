"""A made-up run for tests: a run folder with files, and the events that training would write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medres.runs.events import EventLog
from medres.runs.folder import RunFolder

PUBLIC = (
    "metrics.json", "report.html", "predictions.csv", "plan.yaml", "fingerprint.json", "weights.json", "folds.csv",
)  # fmt: skip
LOCAL = ("scans.csv", "config.yaml", "findings.json", "pseudonyms.json")
CANARY = "Doe^John_1953_canary"


def make_run_folder(output: Path, name: str = "ct-nodules") -> RunFolder:
    """A run folder whose local files hold what must never leave."""
    folder = RunFolder(output / name)
    folder.path.mkdir(parents=True)
    for file in PUBLIC:
        (folder.path / file).write_text(f"public {file}\n")
    for file in LOCAL:
        (folder.path / file).write_text(f"{CANARY} /data/{CANARY}/scan.nii.gz\n")
    return folder


def training_events(
    *, folds: int = 2, epochs: int = 3, status: str = "finished"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a whole run, as (kind, fields)."""
    parameters = {"arch": "resnet18", "seed": 0, "folds": folds, "weights": None, "long": "x" * 7000}
    yield "run_started", {"name": "ct-nodules", "parameters": parameters, "versions": {"torch": "2.15.0"}}
    yield "data", {
        "digest": "ab" * 16, "num_scans": 40, "num_patients": 20, "classes": {"benign": 25, "malignant": 15},
        "source": "class folders", "unit": "scan",
    }  # fmt: skip
    yield "plan", {"digest": "cd" * 32, "reasons": {"shape": "because"}}
    for fold in range(folds):
        yield "fold_started", {"fold": fold, "num_train": 30, "num_held_out": 10}
        yield "stage_started", {
            "fold": fold, "stage": "head", "train_from": "head", "trainable_parameters": 1026,
            "frozen_parameters": 11_000_000, "epochs": epochs,
        }  # fmt: skip
        for epoch in range(1, epochs + 1):
            yield "epoch", {
                "fold": fold, "stage": "head", "epoch": epoch,
                "metrics": {"loss": fold + 1 / epoch, "lr": 1e-3, "seconds": None},
            }  # fmt: skip
        yield "fold_finished", {"fold": fold, "seconds": 1.5, "scores": {"auroc": 0.8 + fold / 100}}
    yield "scores", {"scores": {"pooled/auroc": 0.81, "pooled/auroc (95%)": 0.7, "pooled/auroc_low": None}}
    for file in (*PUBLIC, *LOCAL):
        yield "artifact", {"path": file}
    yield "run_finished", {"status": status}


def play(log: EventLog, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Write events as training does."""
    for kind, fields in events:
        log.append(kind, **fields)
