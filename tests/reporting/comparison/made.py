"""Finished runs as training leaves them, from simulated logits: real folds, scores and files, but no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from medres.config import FinetuneConfig
from medres.data.folds import make_folds
from medres.data.table import Scan, ScanTable
from medres.evaluation.operating_point import OperatingPoint
from medres.evaluation.training_fit import TrainingFit
from medres.finetuning import scoring
from medres.finetuning.cross_validation import score_held_out
from medres.finetuning.fold_training import FoldOutcome
from medres.finetuning.predictions import write_folds, write_predictions
from medres.planning.planner import make_plan
from medres.runs.atomic import atomic_write_json
from medres.runs.folder import RunFolder
from medres.runs.pseudonyms import write_mapping
from tests.planning.examples import CPU, backbone, chest_ct, fingerprint

#: What must never be on a page.
CANARY = "Doe^John"
PLAN = make_plan(fingerprint(chest_ct(8)), backbone=backbone(3), machine=CPU, num_training_scans=40)


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set.

    Args:
        classes: In order.
        patients: Number of them; a patient has one class.
        scans: Scans a patient.
        units: Whether the scans of a patient are scored as one (a column ``lesion_id``).
        copies: Pairs of patients of one class whose first scans are near copies.
        split: Whether a train/val/test split came with it.
        first: Number of the first patient.
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    patients: int = 60
    scans: int = 1
    units: bool = False
    copies: int = 0
    split: bool = False
    first: int = 0

    def table(self) -> ScanTable:
        rows = [
            self._scan(self.first + patient, scan) for patient in range(self.patients) for scan in range(self.scans)
        ]
        for copy in range(self.copies):
            block, place = divmod(copy, len(self.classes))
            first = 2 * len(self.classes) * block + place
            for place in (first, first + len(self.classes)):
                rows[place * self.scans] = replace(rows[place * self.scans], alike=f"near-{copy}")
        return ScanTable(
            root=Path("/mnt/hospital"), scans=tuple(sorted(rows, key=lambda scan: scan.sample_id)),
            classes=self.classes, source="labels.csv", patients_given=True,
            unit_column="lesion_id" if self.units else None,
        )  # fmt: skip

    def _scan(self, patient: int, scan: int) -> Scan:
        name = f"{CANARY}-{patient:03d}"
        split = ("test", "val", "train", "train")[patient // len(self.classes) % 4] if self.split else None
        return Scan(
            sample_id=f"{name}/{scan}", patient_id=name, path=Path(f"/mnt/hospital/{name}/{scan}.nii.gz"), split=split,
            label=self.classes[patient % len(self.classes)], unit=f"{name}-lesion" if self.units else None,
            content_hash=f"hash-{patient:03d}-{scan}",
        )  # fmt: skip


def make_run(
    folder: Path, *, data: Data | ScanTable | None = None, seed: int = 0, folds: int | None = None, signal: float = 1.0,
    noise_seed: int | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Write the files of a finished run that a comparison reads; options are those of `FinetuneConfig`."""
    given = Data() if data is None else data
    table = given.table() if isinstance(given, Data) else given
    run = RunFolder(folder)
    options = {"arch": "resnet18", "weights": "none", "recipe": "full", "epochs": 4, **options}
    config = FinetuneConfig.build(data=Path("/mnt/hospital"), seed=seed, folds=folds, name=folder.name, **options)
    folding = make_folds(table, num_folds=folds, seed=seed)
    logits = _logits(table, signal, 100 * seed + 1 if noise_seed is None else noise_seed)
    outcomes = [_outcome(table, fold, logits, folding.test) for fold in folding.folds]
    temperatures = [1.0] * len(outcomes)
    scored = [score_held_out(outcome, 1.0) for outcome in outcomes]
    folder.mkdir(parents=True)
    config.write_yaml(run.config)
    PLAN.write_yaml(run.plan)
    table.write_csv(run.scans)
    pseudonyms = run.pseudonyms()
    write_mapping(run.mapping, [("sample", pseudonyms.sample(scan.sample_id), scan.sample_id) for scan in table])
    parts = [
        (fold.index, part, int(row))
        for fold in folding.folds
        for part, rows in (("train", fold.train), ("val", fold.val), ("held-out", fold.held_out))
        for row in rows
    ]
    write_folds(run.folds, table, parts, pseudonyms)
    split = "test" if folding.kind == "given-split" else "held-out"
    write_predictions(run.predictions, table, [(split, part) for part in scored], pseudonyms)
    with patch.multiple(scoring, POOLED_RESAMPLES=20, FOLD_RESAMPLES=20):  # the intervals are not read
        metrics = scoring.score_run(table, folding, outcomes, temperatures, scored, None, seed=seed)
    atomic_write_json(run.metrics, metrics)
    _write_events(run, config, len(folding.folds))
    return folder


def _logits(table: ScanTable, signal: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    # what is hard for one run is hard for all: half of the noise belongs to the scan
    own = np.random.default_rng(99).normal(size=(len(table), len(table.classes)))
    noise = own + rng.normal(size=own.shape)
    return (0.7 * noise + signal * np.eye(len(table.classes))[table.class_indices]).astype(np.float32)


def _outcome(table: ScanTable, fold: Any, logits: Any, test: Any) -> FoldOutcome:
    counts = np.bincount(table.class_indices[fold.train], minlength=len(table.classes))
    return FoldOutcome(
        fold=fold, weights_file=Path("none"), offset=np.zeros(len(table.classes)),
        operating_point=OperatingPoint(priors=tuple((counts / counts.sum()).tolist())),
        held_out_logits=logits[fold.held_out], val_logits=logits[fold.val], test_logits=logits[test], seconds=10.5,
        training_fit=TrainingFit.of(logits[fold.train], table.class_indices[fold.train]),
    )  # fmt: skip


def _write_events(run: RunFolder, config: FinetuneConfig, folds: int) -> None:
    log = run.event_log()
    parameters = {**config.to_parameters(), "recipe": config.recipe, "weights": Path(config.weights).name}
    versions = {"device": "cpu", "threads": "1", "system": "Linux"}
    log.append("run_started", name=run.name, parameters=parameters, versions=versions)
    log.append("plan", digest=PLAN.digest())
    for fold in range(folds):
        log.append("fold_started", fold=fold)
        log.append("stage_started", fold=fold, stage="full", train_from="stem", epochs=config.epochs or 0,
                   trainable_parameters=11_170_000, frozen_parameters=0)  # fmt: skip


def make_runs(folder: Path, seeds: Sequence[int], **options: Any) -> list[Path]:
    """Write one run a seed: ``<folder>-s<seed>``."""
    return [make_run(folder.with_name(f"{folder.name}-s{seed}"), seed=seed, **options) for seed in seeds]
