"""From a `Draft` to the `ScanTable`: patients, classes, units, order; what holds for every source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medres.data.findings import Finding
from medres.data.sources.columns import sorted_classes
from medres.data.sources.draft import Draft, Options, patients_by_pattern
from medres.data.sources.labels import label_findings
from medres.data.sources.names import names_not_text
from medres.data.sources.problems import found
from medres.data.sources.scan_files import relative_name
from medres.data.spelling import quoted_apart
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of
from medres.errors import DataError, UsageError

_MOST_ERRORS = 3
_TOO_FEW_FIX = "Add scans of another class, or name the column of the labels with --label-column."


def assemble(draft: Draft, options: Options) -> ScanTable:
    """Return the table of a source's rows, in the order of their sample ids.

    Raises:
        DataError: There are fewer than two classes, or units and patients contradict each other.
        UsageError: Options contradict each other.
    """
    scans, patients_given = _with_patients(draft, options)
    if draft.unit_column:
        _check_units(scans, draft, patients_given=patients_given)
    named, mismatches = _mismatches(scans, draft)
    return ScanTable(
        root=draft.root,
        scans=tuple(sorted(scans, key=lambda scan: scan.sample_id)),
        classes=_classes(scans, draft, options.positive),
        source=draft.source,
        notes=draft.notes + named + (() if patients_given else (draft.patient_note,)),
        patients_given=patients_given,
        unit_column=draft.unit_column,
        findings=(*draft.findings, *mismatches, *label_findings(scans, draft.source), *names_not_text(scans)),
    )


def _with_patients(draft: Draft, options: Options) -> tuple[Sequence[Scan], bool]:
    scans: Sequence[Scan] = draft.scans
    if options.patient_pattern is not None:
        if options.patient_column is not None:
            raise UsageError("--patient-column and --patient-pattern are both given.", fix="Give one of them.")
        missing = {finding.sample_id for finding in draft.findings if finding.code == "file-missing"}
        named = [scan for scan in scans if scan.sample_id not in missing]  # a file that is not there has no name
        ids = patients_by_pattern(options.patient_pattern, [_name_for_pattern(scan, draft.root) for scan in named])
        by_sample = dict(zip((scan.sample_id for scan in named), ids, strict=True))
        unknown = [scan.patient_id or scan.sample_id for scan in scans]
        return [
            replace(scan, patient_id=by_sample.get(scan.sample_id, other))
            for scan, other in zip(scans, unknown, strict=True)
        ], True
    given = any(scan.patient_id for scan in scans)
    # a scan whose patient is unknown is a patient of its own; that it is unknown is a finding or a note
    return [scan if scan.patient_id else replace(scan, patient_id=scan.sample_id) for scan in scans], given


def _name_for_pattern(scan: Scan, root: Path) -> str:
    """Return the path that a pattern is searched in; of a DICOM series that of a file, which has a patient's folder."""
    return relative_name(scan.files[0] if scan.files else scan.path, root) + ("/" if scan.path.is_dir() else "")


def _classes(scans: Sequence[Scan], draft: Draft, positive: str | None) -> tuple[str, ...]:
    classes = sorted_classes(scan.label for scan in scans if scan.label is not None)
    if len(classes) < 2:
        raise DataError(_too_few(classes, scans, draft), fix=_TOO_FEW_FIX)
    return classes if positive is None else _positive_last(classes, positive)


def _too_few(classes: Sequence[str], scans: Sequence[Scan], draft: Draft) -> str:
    where = f"{draft.root} ({draft.source})"
    if not classes:
        return f"{where} has no label in any of {counted(len(scans), 'row')}."
    blank = sum(scan.label is None for scan in scans)
    without = f", {blank:,} without a label" if blank else ""
    text = f"{where} has one class, '{classes[0]}' ({counted(len(scans), 'scan')}{without}); a classifier needs two."
    errors = [finding.value for finding in draft.findings if finding.severity == "error"]
    return " ".join([text, *errors[:_MOST_ERRORS]])  # what is wrong with rows may be why


def _mismatches(scans: Sequence[Scan], draft: Draft) -> tuple[tuple[str, ...], list[Finding]]:
    """Return a note where ids were only renamed, or findings where table and header divide the scans differently."""
    pairs = [(scan, draft.headers[scan.sample_id]) for scan in scans if scan.sample_id in draft.headers]
    wrong = [(scan, header) for scan, header in pairs if scan.patient_id != header]
    if not wrong:
        return (), []
    different = {(scan.patient_id, header) for scan, header in pairs}
    renamed = len({given for given, _ in different}) == len({header for _, header in different}) == len(different)
    if renamed and len(wrong) == len(pairs):
        return ("The patient ids of DICOM headers have other names, one for one, than those given, which count.",), []
    return (), [
        found(
            "patient-mismatch",
            f"{scan.sample_id}: the patient given is '{scan.patient_id}', the DICOM header says '{header}'.",
            fix="The one given counts. Correct it if the header is right.",
            sample_id=scan.sample_id,
            file=scan.path,
        )
        for scan, header in wrong
    ]


def _positive_last(classes: tuple[str, ...], positive: str) -> tuple[str, ...]:
    if len(classes) != 2:
        raise DataError(
            f"--positive {positive} needs exactly two classes; there are {len(classes)}: {first_of(classes)}.",
            fix="Leave it out: with more classes each one is scored against the rest.",
        )
    if positive not in classes:
        raise DataError(f"--positive {positive} is not a class.", fix=f"Choose {' or '.join(quoted_apart(classes))}.")
    return (*(label for label in classes if label != positive), positive)


def _check_units(scans: Sequence[Scan], draft: Draft, *, patients_given: bool) -> None:
    by_unit: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_unit[scan.unit or ""].append(scan)
    labelled = {unit: [scan for scan in members if scan.label] for unit, members in by_unit.items()}
    two_labels = _units_with_several(labelled, lambda scan: scan.label or "")
    if two_labels:
        raise DataError(
            f"{counted(len(two_labels), 'unit')} ('{draft.unit_column}') with two labels: {first_of(two_labels)}.",
            fix="A unit is scored as one and has one label: correct the labels, or choose a finer --unit-column.",
        )
    _check_patients_of_units(by_unit, draft, patients_given=patients_given)


def _check_patients_of_units(by_unit: Mapping[str, Sequence[Scan]], draft: Draft, *, patients_given: bool) -> None:
    if not patients_given and any(len(scans) > 1 for scans in by_unit.values()):
        raise DataError(
            f"Units ('{draft.unit_column}') hold several scans, but no patient ids were given, so that a split could "
            "tear a unit apart.",
            fix=f"Name the column of the patients with --patient-column ({draft.unit_column}, if it is the patient).",
        )
    two_patients = _units_with_several(by_unit, lambda scan: scan.patient_id)
    if two_patients:
        raise DataError(
            f"{counted(len(two_patients), 'unit')} ('{draft.unit_column}') of two patients: {first_of(two_patients)}.",
            fix="Make unit ids unique, for example by putting the patient's id before them.",
        )


def _units_with_several(by_unit: Mapping[str, Sequence[Scan]], key: Callable[[Scan], str]) -> list[str]:
    found = ((unit, sorted({key(scan) for scan in scans})) for unit, scans in by_unit.items())
    return sorted(f"{unit} ({' and '.join(values)})" for unit, values in found if len(values) > 1)
