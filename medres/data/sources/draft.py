"""`Options` and `Draft`: what the user said about the data, and what a source hands on to `assembly`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medres.data.findings import Finding
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
        series: Regular expression that chooses among the DICOM series of a study.
        sequences: Columns of images (in BIDS: suffixes) that become channels; empty: one image a scan, or as found.
        mask_column: Column of the masks of the regions of interest; None looks for ``mask``.
        suffix: In BIDS, which images are the scans, such as ``T1w``.
    """

    label_column: str = "label"
    patient_column: str | None = None
    patient_pattern: str | None = None
    unit_column: str | None = None
    positive: str | None = None
    series: str | None = None
    sequences: tuple[str, ...] = ()
    mask_column: str | None = None
    suffix: str | None = None

    def __post_init__(self) -> None:
        if self.series is not None:
            _require_expression("--series", self.series, example="'axial|T1'")
        repeated = sorted({name for name in self.sequences if self.sequences.count(name) > 1})
        if repeated:
            raise UsageError(f"--sequences names {', '.join(repeated)} twice.", fix="Name each column once.")

    def require_no_columns(self, source: str) -> None:
        """Refuse options that name columns, where there is no table.

        Raises:
            DataError: Naming the option.
        """
        given = {
            "--label-column": self.label_column if self.label_column != "label" else None,
            "--patient-column": self.patient_column,
            "--unit-column": self.unit_column,
            "--sequences": ",".join(self.sequences) or None,
            "--mask-column": self.mask_column,
        }
        for option, value in given.items():
            if value is not None:
                raise DataError(
                    f"{option} {value} names a column, but {source} has no table of labels.",
                    fix="Put a labels.csv into the folder, or name a table with --labels FILE.",
                )

    def require_no_suffix(self, source: str) -> None:
        """Refuse ``--suffix`` where the data is not BIDS.

        Raises:
            DataError: Naming what the data is.
        """
        if self.suffix is not None:
            raise DataError(
                f"--suffix {self.suffix} is for BIDS, but {source} was found.",
                fix="Leave it out, or give the folder that holds participants.tsv and the folders sub-*.",
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
        findings: What is wrong with single rows and files.
        headers: Patient in the DICOM header by sample id, where headers tell patients apart.
    """

    root: Path
    source: str
    scans: tuple[Scan, ...]
    notes: tuple[str, ...] = ()
    unit_column: str | None = None
    patient_note: str = EACH_ITS_OWN_PATIENT
    findings: tuple[Finding, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


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
    patients = matched_patients(pattern, names)
    unmatched = [name for name, patient in zip(names, patients, strict=True) if not patient]
    if unmatched:
        raise DataError(
            f"--patient-pattern {pattern!r} finds no patient in {len(unmatched)} of {len(names)} files: "
            f"{first_of(unmatched)}.",
            fix="Change the pattern so that it matches every path below the data folder.",
        )
    return patients


def matched_patients(pattern: str, names: Sequence[str]) -> list[str]:
    """Return what a pattern finds in each path; an empty text where it finds nothing.

    Raises:
        UsageError: The pattern is not valid or has no group.
    """
    compiled = _compiled(pattern)
    group: str | int = "patient" if "patient" in compiled.groupindex else 1
    found = [compiled.search(name) for name in names]
    return [(match[group] or "").strip() if match else "" for match in found]


def _compiled(pattern: str) -> re.Pattern[str]:
    compiled = _require_expression("--patient-pattern", pattern, example="'^[^/]+/([^/]+)/'")
    if compiled.groups < 1:
        raise UsageError(
            f"--patient-pattern {pattern!r} has no group.", fix="Put the patient into parentheses: '^[^/]+/([^/]+)/'."
        )
    return compiled


def _require_expression(option: str, pattern: str, *, example: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        problem = f"{option} {pattern!r} is not a regular expression: {error}."
        raise UsageError(problem, fix=f"Mend it, e.g. {example}.") from None
