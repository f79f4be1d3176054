"""`Options` and `Draft`: what the user said about the data, and what a source hands on to `assembly`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medres.data.table import Scan
from medres.data.wording import first_of
from medres.errors import DataError, UsageError

#: The note where the data names no patients.
EACH_ITS_OWN_PATIENT = (
    "No patient ids were given: each file is taken as its own patient; give --patient-column or --patient-pattern."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the user says the data is to be understood; None lets medres look.

    Args:
        label_column: Column of the label.
        patient_column: Column of the patient.
        patient_pattern: Regular expression with one group, searched in each file's path below the root.
        unit_column: Column of the unit of scoring.
        positive: The positive one of two classes.
    """

    label_column: str = "label"
    patient_column: str | None = None
    patient_pattern: str | None = None
    unit_column: str | None = None
    positive: str | None = None

    def require_no_columns(self, source: str) -> None:
        """Refuse options that name columns, where there is no table.

        Raises:
            DataError: Naming the option.
        """
        given = {
            "--label-column": self.label_column if self.label_column != "label" else None,
            "--patient-column": self.patient_column,
            "--unit-column": self.unit_column,
        }
        for option, value in given.items():
            if value is not None:
                raise DataError(
                    f"{option} {value} names a column, but {source} has no table of labels.",
                    fix="Put a labels.csv into the folder, or name a table with --labels FILE.",
                )


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a source found, not yet checked as a whole.

    Args:
        root: Folder that paths are written relative to.
        source: What was understood, such as ``class folders``.
        scans: Rows with label; `Scan.patient_id` is empty where the source names none.
        notes: For the user.
        unit_column: Column of the units, or None.
        patient_note: What to say where the source names no patients.
    """

    root: Path
    source: str
    scans: tuple[Scan, ...]
    notes: tuple[str, ...] = ()
    unit_column: str | None = None
    patient_note: str = EACH_ITS_OWN_PATIENT


def patients_by_pattern(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the patient of every file, as the pattern finds it in the file's path.

    Args:
        pattern: Regular expression with a group named ``patient``, or whose first group is the patient.
        names: Paths below the root, with forward slashes.

    Raises:
        UsageError: The pattern is not valid or has no group.
        DataError: It does not match every file.

    Example:
        >>> patients_by_pattern(r"^[^/]+/(p[0-9]+)_", ["benign/p01_a.png", "malignant/p02_a.png"])
        ['p01', 'p02']
    """
    compiled = _compiled(pattern)
    group: str | int = "patient" if "patient" in compiled.groupindex else 1
    found = [compiled.search(name) for name in names]
    patients = [(match[group] or "").strip() if match else "" for match in found]
    unmatched = [name for name, patient in zip(names, patients, strict=True) if not patient]
    if unmatched:
        raise DataError(
            f"--patient-pattern {pattern!r} finds no patient in {len(unmatched)} of {len(names)} files: "
            f"{first_of(unmatched)}.",
            fix="Change the pattern so that it matches every path below the data folder.",
        )
    return patients


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--patient-pattern {pattern!r} is not a regular expression: {error}.",
            fix="Mend it, e.g. '^[^/]+/([^/]+)/'.",
        ) from None
    if compiled.groups < 1:
        raise UsageError(
            f"--patient-pattern {pattern!r} has no group.", fix="Put the patient into parentheses: '^[^/]+/([^/]+)/'."
        )
    return compiled
