"""From a `Draft` to the `ScanTable`: patients, classes, units, order; what holds for every source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from medres.data.sources.columns import lookalike_ids, refuse_case_twins, sorted_classes
from medres.data.sources.draft import Draft, Options, patients_by_pattern
from medres.data.sources.scan_files import relative_name
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of
from medres.errors import DataError, UsageError


def assemble(draft: Draft, options: Options) -> ScanTable:
    """Return the table of a source's rows, in the order of their sample ids.

    Raises:
        DataError: There are fewer than two classes, or units and patients contradict each other.
        UsageError: Options contradict each other.
    """
    scans, patients_given = _with_patients(draft, options)
    if draft.unit_column:
        _check_units(scans, draft, patients_given=patients_given)
    notes = draft.notes + (_id_notes(scans) if patients_given else (draft.patient_note,))
    return ScanTable(
        root=draft.root,
        scans=tuple(sorted(scans, key=lambda scan: scan.sample_id)),
        classes=_classes(scans, draft, options.positive),
        source=draft.source,
        notes=notes,
        patients_given=patients_given,
        unit_column=draft.unit_column,
    )


def _with_patients(draft: Draft, options: Options) -> tuple[Sequence[Scan], bool]:
    if options.patient_pattern is not None:
        if options.patient_column is not None:
            raise UsageError("--patient-column and --patient-pattern are both given.", fix="Give one of them.")
        names = [relative_name(scan.path, draft.root) for scan in draft.scans]
        found = patients_by_pattern(options.patient_pattern, names)
        return [replace(scan, patient_id=patient) for scan, patient in zip(draft.scans, found, strict=True)], True
    if all(scan.patient_id for scan in draft.scans):
        return draft.scans, True
    return [replace(scan, patient_id=scan.sample_id) for scan in draft.scans], False


def _id_notes(scans: Sequence[Scan]) -> tuple[str, ...]:
    return lookalike_ids(scan.patient_id for scan in scans)


def _classes(scans: Sequence[Scan], draft: Draft, positive: str | None) -> tuple[str, ...]:
    labels = [scan.label or "" for scan in scans]
    refuse_case_twins(labels, source=f"{draft.root} ({draft.source})")
    classes = sorted_classes(labels)
    if len(classes) < 2:
        raise DataError(
            f"{draft.root} ({draft.source}) has one class, '{classes[0]}' ({counted(len(scans), 'scan')}); "
            "a classifier needs two.",
            fix="Add scans of another class, or name the column of the labels with --label-column.",
        )
    return classes if positive is None else _positive_last(classes, positive)


def _positive_last(classes: tuple[str, ...], positive: str) -> tuple[str, ...]:
    if len(classes) != 2:
        raise DataError(
            f"--positive {positive} needs exactly two classes; there are {len(classes)}: {first_of(classes)}.",
            fix="Leave it out: with more classes each one is scored against the rest.",
        )
    if positive not in classes:
        raise DataError(f"--positive {positive} is not a class.", fix=f"Choose {classes[0]} or {classes[1]}.")
    return (*(label for label in classes if label != positive), positive)


def _check_units(scans: Sequence[Scan], draft: Draft, *, patients_given: bool) -> None:
    by_unit: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_unit[scan.unit or ""].append(scan)
    two_labels = _units_with_several(by_unit, lambda scan: scan.label or "")
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
