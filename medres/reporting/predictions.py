"""What the report reads from ``predictions.csv``: the units that were scored, their probabilities, the worst errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medres.runs.csv_files import read_csv

Floats = npt.NDArray[np.float64]

_PSEUDONYM = re.compile(r"[spu]-[0-9a-f]{12}")
WITHHELD = "(withheld)"


@dataclass(frozen=True, kw_only=True)
class ScoredUnit:
    """One unit: the mean of its scans' probabilities.

    Args:
        unit: Pseudonym.
        patient: Pseudonym.
        fold: Member that scored it.
        label: Its class.
        num_scans: Scans of the unit.
        probabilities: By class, in the order of the classes, ``(K,)``.
    """

    unit: str
    patient: str
    fold: str
    label: str
    num_scans: int
    probabilities: Floats


@dataclass(frozen=True, kw_only=True)
class WorstError:
    """A unit whose most probable class is wrong.

    Args:
        unit: Pseudonym.
        patient: Pseudonym.
        fold: Member that scored it.
        label: Its class.
        predicted: The most probable class.
        probability: Of the most probable class.
        label_probability: Of the label.
    """

    unit: str
    patient: str
    fold: str
    label: str
    predicted: str
    probability: float
    label_probability: float


def read_units(path: Path, classes: Sequence[str], *, split: str) -> list[ScoredUnit]:
    """Return the scored units of one split of ``predictions.csv``, in the order of the file; none without the file.

    Args:
        path: The CSV.
        classes: In the order of ``metrics.json``.
        split: ``held-out`` or ``test``.
    """
    if not path.is_file():
        return []
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_csv(path):
        if row["split"] == split:
            rows.setdefault(row["unit"], []).append(row)
    return [_unit(scans, classes) for scans in rows.values()]


def class_probabilities(units: Sequence[ScoredUnit], classes: Sequence[str], index: int) -> tuple[Floats, Floats]:
    """Return the probability of a class in the units that are of it, and in those that are not."""
    values = np.array([unit.probabilities[index] for unit in units], dtype=np.float64)
    inside = np.array([unit.label == classes[index] for unit in units], dtype=bool)
    return values[inside], values[~inside]


def worst_errors(units: Sequence[ScoredUnit], classes: Sequence[str], *, most: int = 10) -> list[WorstError]:
    """Return the units that were most confidently wrong, the worst first."""
    errors = [_error(unit, classes) for unit in units if classes[int(unit.probabilities.argmax())] != unit.label]
    return sorted(errors, key=lambda error: (-error.probability, error.unit))[:most]


def _unit(scans: Sequence[dict[str, str]], classes: Sequence[str]) -> ScoredUnit:
    probabilities = np.array([[float(scan[f"prob_{name}"]) for name in classes] for scan in scans])
    first = scans[0]
    return ScoredUnit(
        unit=_pseudonym(first["unit"]),
        patient=_pseudonym(first["patient"]),
        fold=first["fold"],
        label=first["label"],
        num_scans=len(scans),
        probabilities=probabilities.mean(axis=0),
    )


def _error(unit: ScoredUnit, classes: Sequence[str]) -> WorstError:
    best = int(unit.probabilities.argmax())
    return WorstError(
        unit=unit.unit, patient=unit.patient, fold=unit.fold, label=unit.label, predicted=classes[best],
        probability=float(unit.probabilities[best]),
        label_probability=float(unit.probabilities[list(classes).index(unit.label)]),
    )  # fmt: skip


def _pseudonym(value: str) -> str:
    """Let pseudonyms through and nothing else: a file that was edited by hand must not carry a name into the report."""
    return value if _PSEUDONYM.fullmatch(value) else WITHHELD
