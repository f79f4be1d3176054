"""The same scans in all runs: pseudonyms differ by run, so scans are found by sample id and content.

What is compared are the *units* that all runs scored from the same scans, with the same label. Patients are connected
over all runs: whom one run knows to share a scan (or a near copy) are one for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from medres.data.folds import patient_groups
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of
from medres.errors import DataError
from medres.evaluation.intervals import MIN_PATIENTS_PER_CLASS
from medres.evaluation.units import Predictions, predictions_of
from medres.finetuning.scoring import main_block
from medres.reporting.comparison.recorded import RecordedRun

#: A scan: its id and the hash of its voxels.
Key = tuple[str, str]
#: A unit: its name and its scans.
Unit = tuple[str, frozenset[Key]]


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Runs on their common units.

    Args:
        scored: ``pooled`` or ``test``: the block that all runs are judged by.
        classes: In the order of all columns.
        unit: ``scan``, or the column that names what is scored as one.
        num_units: That are compared.
        num_patients: Independent patients among them.
        class_counts: Units of each class.
        predictions: Of each run, all of the same units in the same order.
        left_out: Units of each run that are not compared, since another run lacks them.
        foldings: Number of each run's division into folds; runs with one number have the same folds.
        notes: Sentences for the user.
    """

    scored: str
    classes: tuple[str, ...]
    unit: str
    num_units: int
    num_patients: int
    class_counts: dict[str, int]
    predictions: tuple[Predictions, ...]
    left_out: tuple[int, ...]
    foldings: tuple[int, ...]
    notes: tuple[str, ...]


def pair_runs(runs: Sequence[RecordedRun]) -> Pairing:
    """Find the units that all runs scored.

    Raises:
        DataError: Classes, the kind of score, the unit of scoring or labels contradict each other, or too little is
            common.
    """
    scored = _require_comparable(runs)
    rows = [_rows_of_units(run) for run in runs]
    common = set.intersection(*(set(of_run) for of_run in rows))
    _require_enough(runs, rows, common)
    _require_labels(runs, rows, common)
    groups = _groups(runs)
    units = sorted(common, key=lambda unit: unit[0])
    predictions = tuple(_predictions(run, of_run, units, groups) for run, of_run in zip(runs, rows, strict=True))
    first = predictions[0]
    _require_patients(runs[0].classes, first)
    left_out = tuple(len(of_run) - len(common) for of_run in rows)
    foldings = _foldings(runs, rows, common)
    return Pairing(
        scored=scored,
        classes=runs[0].classes,
        unit=runs[0].metrics["unit"],
        num_units=len(units),
        num_patients=len(np.unique(first.patients)),
        class_counts={name: int((first.class_indices == k).sum()) for k, name in enumerate(runs[0].classes)},
        predictions=predictions,
        left_out=left_out,
        foldings=foldings,
        notes=(*_left_out_notes(runs, left_out), *_fold_notes(runs, foldings, scored), *_copy_notes(runs)),
    )


def _require_comparable(runs: Sequence[RecordedRun]) -> str:
    first = runs[0]
    for run in runs[1:]:
        if run.classes != first.classes:
            _refuse_classes(first, run)
        if run.metrics["unit"] != first.metrics["unit"]:
            _contradict(first, run, "are scored by different units", first.metrics["unit"], run.metrics["unit"])
        if _block(run) != _block(first):
            _contradict(
                first, run, "are judged by different scores, held-out folds and a given test split",
                f"{first.metrics['kind']}, {_block(first)}", f"{run.metrics['kind']}, {_block(run)}",
            )  # fmt: skip
    return _block(first)


def _block(run: RecordedRun) -> str:
    return main_block(dict(run.metrics))[0]


def _refuse_classes(first: RecordedRun, run: RecordedRun) -> NoReturn:
    if set(first.classes) == set(run.classes):
        raise DataError(
            f"{first.name} and {run.name} have different positive classes: {first.classes[-1]} and {run.classes[-1]}.",
            fix="Train them with the same --positive.",
        )
    _contradict(first, run, "have different classes", ", ".join(first.classes), ", ".join(run.classes))


def _contradict(first: RecordedRun, run: RecordedRun, what: str, one: str, other: str) -> NoReturn:
    raise DataError(
        f"{first.name} and {run.name} {what}: {one} against {other}.",
        fix="Compare runs of the same scans, labels and kind of division.",
    )


def _rows_of_units(run: RecordedRun) -> dict[Unit, list[int]]:
    """Return the rows of each scored unit of a run."""
    rows: dict[str, list[int]] = {}
    scans = run.scored.scans
    for row, scan in enumerate(scans):
        rows.setdefault(_unit_name(scan), []).append(row)
    return {(name, frozenset(_key(scans[row]) for row in of_unit)): of_unit for name, of_unit in rows.items()}


def _unit_name(scan: Scan) -> str:
    return scan.sample_id if scan.unit is None else scan.unit


def _key(scan: Scan) -> Key:
    return scan.sample_id, scan.content_hash


def _require_enough(runs: Sequence[RecordedRun], rows: Sequence[dict[Unit, list[int]]], common: set[Unit]) -> None:
    if common:
        return
    hashes = [{scan.content_hash for scan in run.scored.scans} for run in runs]
    renamed = bool(set.intersection(*hashes))
    why = "They hold scans of the same content under other sample ids." if renamed else "They scored different scans."
    sizes = ", ".join(f"{run.name} {len(of_run)}" for run, of_run in zip(runs[:6], rows, strict=False))
    raise DataError(
        f"The {len(runs)} runs have no scored unit in common ({sizes}). {why}",
        fix="Train them with the same --data, in the same layout.",
    )


def _require_labels(runs: Sequence[RecordedRun], rows: Sequence[dict[Unit, list[int]]], common: set[Unit]) -> None:
    first = _labels(runs[0], rows[0], common)
    for run, of_run in zip(runs[1:], rows[1:], strict=True):
        labels = _labels(run, of_run, common)
        differing = sorted(unit[0] for unit in common if labels[unit] != first[unit])
        if differing:
            raise DataError(
                f"{runs[0].name} and {run.name} have other labels for {counted(len(differing), 'unit')} of "
                f"{len(common)}: {first_of(differing, limit=5)}.",
                fix="Compare runs that were trained with the same labels.",
            )


def _labels(run: RecordedRun, rows: dict[Unit, list[int]], common: set[Unit]) -> dict[Unit, int]:
    return {unit: int(run.scored.class_indices[rows[unit][0]]) for unit in common}


def _groups(runs: Sequence[RecordedRun]) -> dict[Key, int]:
    """Return the patient of every scan, connected over all runs."""
    scans = list({(_key(scan), scan.patient_id, scan.alike): scan for run in runs for scan in run.scans}.values())
    groups = patient_groups(ScanTable(root=Path(), scans=tuple(scans), classes=(), source=""))
    return {_key(scan): int(group) for scan, group in zip(scans, groups, strict=True)}


def _predictions(
    run: RecordedRun, rows: dict[Unit, list[int]], units: Sequence[Unit], groups: dict[Key, int]
) -> Predictions:
    chosen = [row for unit in units for row in rows[unit]]
    scans = [run.scored.scans[row] for row in chosen]
    return predictions_of(
        run.scored.probabilities[chosen],
        run.scored.class_indices[chosen],
        classes=run.classes,
        patients=[str(groups[_key(scan)]) for scan in scans],
        units=[_unit_name(scan) for scan in scans],
        priors=run.scored.priors[chosen],
    )


def _require_patients(classes: Sequence[str], first: Predictions) -> None:
    """Refuse what no interval can be made of: every score needs two classes with enough patients."""
    patients = {name: len(np.unique(first.patients[first.class_indices == k])) for k, name in enumerate(classes)}
    if sorted(patients.values())[-2] >= MIN_PATIENTS_PER_CLASS:
        return
    counts = ", ".join(f"{name} {number}" for name, number in patients.items())
    raise DataError(
        f"The runs have too few scored patients in common: {counts}; two classes need {MIN_PATIENTS_PER_CLASS} each.",
        fix="Compare runs that were scored on the same scans: cross-validation, or the same given test split.",
    )


def _foldings(runs: Sequence[RecordedRun], rows: Sequence[dict[Unit, list[int]]], common: set[Unit]) -> tuple[int, ...]:
    numbers: dict[frozenset[frozenset[Unit]], int] = {}
    found = []
    for run, of_run in zip(runs, rows, strict=True):
        folds: dict[str, set[Unit]] = {}
        for unit in common:
            folds.setdefault(run.scored.folds[of_run[unit][0]], set()).add(unit)
        division = frozenset(frozenset(units) for units in folds.values())
        found.append(numbers.setdefault(division, len(numbers)))
    return tuple(found)


def _left_out_notes(runs: Sequence[RecordedRun], left_out: Sequence[int]) -> Iterator[str]:
    lost = [f"{run.name} {number}" for run, number in zip(runs, left_out, strict=True) if number]
    if lost:
        yield (
            "The runs did not score the same units; only what all of them scored is compared. Left out: "
            f"{first_of(lost)}."
        )


def _fold_notes(runs: Sequence[RecordedRun], foldings: Sequence[int], scored: str) -> Iterator[str]:
    if scored == "test":
        return
    number = len(set(foldings))
    if number == 1:
        yield "All runs have the same folds."
        return
    by_seed: dict[int, set[int]] = {}
    for run, folding in zip(runs, foldings, strict=True):
        by_seed.setdefault(run.seed, set()).add(folding)
    if all(len(of_seed) == 1 for of_seed in by_seed.values()):
        yield f"The scans were divided into folds in {number} ways, one a seed; runs of one seed have the same folds."
    else:
        yield (
            f"The scans were divided into folds in {number} ways, also among runs of one seed: differences hold the "
            "noise of the division as well."
        )


def _copy_notes(runs: Sequence[RecordedRun]) -> Iterator[str]:
    """Say where a run counted fewer patients than its files still tell: near copies are not in an old scans.csv."""
    for run in runs:
        groups = patient_groups(ScanTable(root=Path(), scans=run.scans, classes=(), source=""))
        of_scan = {scan.sample_id: int(group) for scan, group in zip(run.scans, groups, strict=True)}
        known = len({of_scan[scan.sample_id] for scan in run.scored.scans})
        counted_then = main_block(dict(run.metrics))[1]["scores"]["accuracy"]["n_patients"]
        if known > counted_then:
            yield (
                f"{run.name} counted {counted_then} independent patients, its scans.csv tells {known}: it was written "
                "before near copies were in it. Intervals may be a little too narrow."
            )
