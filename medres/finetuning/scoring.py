"""``metrics.json``: what the scored predictions are worth, each number with its n and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medres.data.folds import Folding, patient_groups
from medres.data.table import ScanTable
from medres.evaluation.evaluate import evaluate_predictions
from medres.evaluation.training_fit import signs_of_no_learning
from medres.finetuning.cross_validation import Scored
from medres.finetuning.outcomes import FoldOutcome

#: Resamples of an interval; the intervals of single folds are read at a glance and take fewer.
POOLED_RESAMPLES = 2000
FOLD_RESAMPLES = 500


def score_run(
    table: ScanTable, folding: Folding, outcomes: Sequence[FoldOutcome], temperatures: Sequence[float],
    held_out: Sequence[Scored], test: Scored | None, *, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Return the document ``metrics.json``.

    Args:
        table: All scans.
        folding: How they were divided; a single model on a given split is scored under ``test``, cross-validation
            and a single split under ``pooled``.
        outcomes: The trained folds.
        temperatures: One a fold.
        held_out: One a fold.
        test: The ensemble's predictions of a test split.
        seed: Of the bootstrap.
    """
    pooled = _block(table, held_out, seed=seed, num_resamples=POOLED_RESAMPLES)
    given = folding.kind == "given-split"
    tested = _block(table, [test], seed=seed, num_resamples=POOLED_RESAMPLES) if test else None
    return {
        "format": 1,
        "kind": folding.kind,
        "classes": list(table.classes),
        "positive": table.classes[-1] if len(table.classes) == 2 else None,
        "unit": table.unit_column or "scan",
        "num_scans": int(sum(len(part.rows) for part in held_out)),
        "pooled": None if given else pooled,
        "folds": [_fold(table, *members, seed=seed) for members in zip(outcomes, temperatures, held_out, strict=True)],
        "test": pooled if given else tested,
    }


def main_block(metrics: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the block of the scores that a run is judged by: ``pooled``, or ``test`` of a given split."""
    name = "test" if metrics["pooled"] is None else "pooled"
    return name, metrics[name]


def members_without_learning(metrics: dict[str, Any]) -> dict[int, tuple[str, ...]]:
    """Return the folds whose member learned nothing, each with the signs of it.

    Args:
        metrics: The document ``metrics.json``.
    """
    return {fold["fold"]: tuple(fold["no_learning"]) for fold in metrics["folds"] if fold.get("no_learning")}


def flat_scores(metrics: dict[str, Any]) -> dict[str, float]:
    """Return every score that has a value as ``pooled/auroc``, ``pooled/auroc_low``, ..., for tracking."""
    flat: dict[str, float] = {}
    for part in ("pooled", "test"):
        for name, score in (metrics[part] or {"scores": {}})["scores"].items():
            bounds = {"": "value", "_low": "low", "_high": "high"}
            flat |= {f"{part}/{name}{end}": score[key] for end, key in bounds.items() if score[key] is not None}
    return flat


def _fold(table: ScanTable, outcome: FoldOutcome, temperature: float, part: Scored, *, seed: int) -> dict[str, Any]:
    return {
        "fold": outcome.fold.index,
        "temperature": temperature,
        "logit_offset": [float(value) for value in outcome.offset],
        "num_train_scans": len(outcome.fold.train),
        "seconds": round(outcome.seconds, 1),
        "training_fit": outcome.training_fit.to_mapping(),
        "no_learning": signs_of_no_learning(
            outcome.training_fit, temperature=temperature, probabilities=part.probabilities
        ),
        **_block(table, [part], seed=seed, num_resamples=FOLD_RESAMPLES),
    }


def _block(table: ScanTable, parts: Sequence[Scored], *, seed: int, num_resamples: int) -> dict[str, Any]:
    rows = np.concatenate([part.rows for part in parts])
    scans = [table.scans[int(row)] for row in rows]
    block: dict[str, Any] = evaluate_predictions(
        np.concatenate([part.probabilities for part in parts]),
        table.class_indices[rows],
        classes=table.classes,
        # patients who share a scan (or a near copy) are no two independent people: they are drawn together
        patients=[str(group) for group in patient_groups(table)[rows]],
        units=None if table.unit_column is None else [scan.unit or scan.sample_id for scan in scans],
        priors=np.concatenate([np.tile(part.priors, (len(part.rows), 1)) for part in parts]),
        seed=seed,
        num_resamples=num_resamples,
    )
    return block
