"""``predictions.csv``: one row a scored scan, pseudonyms only, numbers in full precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medres.data.table import Scan, ScanTable
from medres.finetuning.cross_validation import Scored
from medres.runs.csv_files import write_csv
from medres.runs.pseudonyms import Pseudonyms


def write_predictions(
    path: Path, table: ScanTable, scored: Sequence[tuple[str, Scored]], pseudonyms: Pseudonyms
) -> None:
    """Write predictions.

    Args:
        path: The CSV.
        table: The scans that the rows count in.
        scored: Pairs of (``held-out`` or ``test``, predictions).
        pseudonyms: Of the run.
    """
    rows = (row for split, part in scored for row in _rows(table, split, part, pseudonyms))
    write_csv(path, prediction_columns(table.classes), rows)


def prediction_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns, in order."""
    probabilities = [f"prob_{name}" for name in classes]
    logits = [f"logit_{name}" for name in classes]
    return ["sample", "patient", "unit", "fold", "split", "label", *probabilities, *logits, "predicted", "decision"]


def unit_of(scan: Scan, pseudonyms: Pseudonyms) -> str:
    """Return the pseudonym of what the scan is scored as: its unit, or the scan itself."""
    return pseudonyms.sample(scan.sample_id) if scan.unit is None else pseudonyms.unit(scan.unit)


def _rows(table: ScanTable, split: str, part: Scored, pseudonyms: Pseudonyms) -> Iterator[list[str]]:
    for index, row in enumerate(part.rows):
        scan = table.scans[int(row)]
        yield [
            pseudonyms.sample(scan.sample_id), pseudonyms.patient(scan.patient_id), unit_of(scan, pseudonyms),
            part.fold, split, scan.label or "",
            *(repr(float(value)) for value in part.probabilities[index]),
            *(repr(float(value)) for value in part.logits[index]),
            table.classes[int(part.probabilities[index].argmax())], table.classes[int(part.decisions[index])],
        ]  # fmt: skip


def write_folds(
    path: Path, table: ScanTable, folding_rows: Sequence[tuple[int, str, int]], pseudonyms: Pseudonyms
) -> None:
    """Write ``folds.csv``: for each fold, which scan plays which part.

    Args:
        path: The CSV.
        table: The scans.
        folding_rows: Triples of (fold, part such as ``train`` or ``held-out``, row).
        pseudonyms: Of the run.
    """
    named = ((fold, part, table.scans[row]) for fold, part, row in folding_rows)
    rows = (
        [fold, part, pseudonyms.sample(scan.sample_id), pseudonyms.patient(scan.patient_id)]
        for fold, part, scan in named
    )
    write_csv(path, ["fold", "part", "sample", "patient"], rows)
