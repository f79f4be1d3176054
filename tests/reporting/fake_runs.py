"""Run folders as a training would leave them, from simulated predictions: no network is trained here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medres.data.findings import Finding, write_findings
from medres.evaluation.evaluate import evaluate_predictions
from medres.planning.planner import make_plan
from medres.runs.atomic import atomic_write_json
from medres.runs.folder import RunFolder
from tests.planning.examples import CPU, backbone, chest_ct, fingerprint

#: What must never be on the page: paths, patients and files of the hospital.
CANARIES = ("/mnt/hospital", "Doe^John", "canary_scan.nii.gz", "MRN-0042", "canary_column")
RESAMPLES = 200


def make_run(
    folder: Path, *, classes: Sequence[str] = ("benign", "malignant"), patients: int = 60, scans_each: int = 1,
    units: bool = False, folds: int = 3, test: bool = False, kind: str = "cross-validation", signal: float = 1.2,
    epochs: int = 8, seed: int = 0,
) -> RunFolder:  # fmt: skip
    """Write the documents of a finished run and return its folder."""
    run = RunFolder(folder)
    predictions = _simulate(classes, patients, scans_each, units, folds, signal, seed)
    extra = _simulate(classes, 30, scans_each, units, 1, signal, seed + 1) if test else None
    _write_metrics(run, predictions, extra, classes, units, folds, kind)
    _write_predictions(run, predictions, extra, classes, kind)
    _write_documents(run)
    _write_events(run, predictions, classes, folds, epochs)
    return run


def _simulate(
    classes: Sequence[str], patients: int, scans_each: int, units: bool, folds: int, signal: float, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(patients) % len(classes), scans_each)
    people = np.repeat(np.arange(patients), scans_each)
    logits = rng.normal(size=(len(labels), len(classes))) + signal * np.eye(len(classes))[labels]
    weights = np.exp(logits)
    return {
        "labels": labels, "people": people, "fold": people % folds, "logits": logits,
        "probabilities": weights / weights.sum(axis=1, keepdims=True),
        "unit": [f"u-{seed:02d}{person:010x}" for person in people] if units else None,
    }  # fmt: skip


def _block(part: dict[str, Any], classes: Sequence[str], rows: Any) -> dict[str, Any]:
    return evaluate_predictions(
        part["probabilities"][rows], part["labels"][rows], classes=classes,
        patients=[f"p-{person:012x}" for person in part["people"][rows]],
        units=[part["unit"][row] for row in rows] if part["unit"] else None, num_resamples=RESAMPLES,
    )  # fmt: skip


def _write_metrics(
    run: RunFolder, part: dict[str, Any], extra: dict[str, Any] | None, classes: Sequence[str], units: bool, folds: int,
    kind: str,
) -> None:  # fmt: skip
    everyone = np.arange(len(part["labels"]))
    pooled = _block(part, classes, everyone)
    tested = _block(extra, classes, np.arange(len(extra["labels"]))) if extra else None
    given = kind == "given-split"
    document = {
        "format": 1, "kind": kind, "classes": list(classes), "positive": classes[-1] if len(classes) == 2 else None,
        "unit": "lesion_id" if units else "scan", "num_scans": len(everyone), "pooled": None if given else pooled,
        "folds": [_fold(part, classes, index) for index in range(folds)], "test": pooled if given else tested,
    }  # fmt: skip
    atomic_write_json(run.metrics, document)


def _fold(part: dict[str, Any], classes: Sequence[str], index: int) -> dict[str, Any]:
    rows = np.flatnonzero(part["fold"] == index)
    offset = [0.0] * len(classes)
    return {
        "fold": index, "temperature": 1.25 + index / 10, "logit_offset": offset, "num_train_scans": 40,
        "seconds": 61.5, **_block(part, classes, rows),
    }  # fmt: skip


def _write_predictions(
    run: RunFolder, part: dict[str, Any], extra: dict[str, Any] | None, classes: Sequence[str], kind: str
) -> None:
    columns = [f"{what}_{name}" for what in ("prob", "logit") for name in classes]
    with run.predictions.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "patient", "unit", "fold", "split", "label", *columns, "predicted", "decision"])
        writer.writerows(_rows(part, classes, "test" if kind == "given-split" else "held-out"))
        if extra:
            writer.writerows(_rows(extra, classes, "test"))


def _rows(part: dict[str, Any], classes: Sequence[str], split: str) -> list[list[str]]:
    rows = []
    for index, label in enumerate(part["labels"]):
        sample = f"s-{index:012x}"
        best = classes[int(part["probabilities"][index].argmax())]
        numbers = [*part["probabilities"][index].tolist(), *part["logits"][index].tolist()]
        rows.append([
            sample, f"p-{part['people'][index]:012x}", part["unit"][index] if part["unit"] else sample,
            str(part["fold"][index]), split, classes[label], *map(repr, numbers), best, best,
        ])  # fmt: skip
    return rows


def _write_documents(run: RunFolder) -> None:
    scans = fingerprint(chest_ct())
    plan = make_plan(scans, backbone=backbone(3), machine=CPU, num_training_scans=40)
    plan.write_yaml(run.plan)
    scans.write_json(run.fingerprint)
    write_findings(run.findings, [
        Finding(code="identical-scans", severity="warning", sample_id="MRN-0042",
                file="/mnt/hospital/canary_scan.nii.gz",
                rule="Every scan is there once.", value="Doe^John", fix="Remove /mnt/hospital/canary_scan.nii.gz."),
        Finding(code="identical-scans", severity="warning", rule="Every scan is there once.", value="MRN-0042"),
        Finding(code="no-spacing", severity="info", rule="Spacing is known.", value="unknown"),
    ])  # fmt: skip


def _write_events(run: RunFolder, part: dict[str, Any], classes: Sequence[str], folds: int, epochs: int) -> None:
    log = run.event_log()
    log.append(
        "run_started", name=run.name, versions={"medres": "0.1.0", "torch": "2.15.0", "device": "cpu", "threads": "2"},
        parameters={"arch": "resnet18", "weights": "resnet18.safetensors", "folds": folds, "seed": 0,
                    "data": "/mnt/hospital/Doe^John", "patient_column": "canary_column"},
    )  # fmt: skip
    counts = np.bincount(part["labels"], minlength=len(classes))
    log.append(
        "data", digest="0" * 32, num_scans=len(part["labels"]), num_patients=len(set(part["people"].tolist())),
        classes=dict(zip(classes, counts.tolist(), strict=True)), source="canary_column.csv", unit="scan",
    )  # fmt: skip
    for fold in range(folds):
        for epoch in range(1, epochs + 1):
            loss = float(0.7 * np.exp(-epoch / 6) + 0.02 * fold)
            stage = "head" if epoch <= 2 else "fine-tune"
            log.append("epoch", fold=fold, stage=stage, epoch=epoch, metrics={"loss": loss, "lr": 3e-4, "seconds": 1.5})
