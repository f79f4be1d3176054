"""The leakage audit: what would let a score be read from scans that were learnt from.

Patients on two sides of the given splits, copies (the same voxels, or nearly the same picture) under other names,
labels that contradict each other, and ids that may be one patient (`identifiers`). Each function yields findings; none
raises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medres.data.catalogue import Severity, kind_of
from medres.data.findings import Finding
from medres.data.identifiers import identifier_findings
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of

if TYPE_CHECKING:
    from medres.data.near_duplicates import NearGroup

Group = Sequence[Scan]

# What is scored comes first: of a group of copies it is the one to keep.
_SPLIT_ORDER = {"test": 0, "val": 1, "train": 2, None: 3}
_MAX_NAMED = 10


def leakage_findings(table: ScanTable, *, near: Iterable[NearGroup] = ()) -> Iterator[Finding]:
    """Yield what the audit found; groups of copies one by one, the copy to keep as `sample_id`, the others as `others`.

    Args:
        table: With content hashes, and with groups of near duplicates as `Scan.alike`.
        near: The same groups, for how similar they are; may be left out.

    Example:
        >>> from pathlib import Path
        >>> scans = [Scan(sample_id=s, patient_id=p, path=Path(s), content_hash="h", label="benign")
        ...          for s, p in (("1.nii", "ann"), ("2.nii", "bob"))]
        >>> table = ScanTable(root=Path("."), scans=tuple(scans), classes=("benign",), source="", patients_given=True)
        >>> [(finding.code, finding.severity) for finding in leakage_findings(table)]
        [('identical-scans', 'warning')]
    """
    yield from _patients_across_splits(table)
    yield from _identical(table)
    yield from _near(table, {group.members: group for group in near})
    yield from _two_labels(table)
    yield from identifier_findings(table)


def _patients_across_splits(table: ScanTable) -> Iterator[Finding]:
    for patient, scans in _grouped(table, lambda scan: scan.patient_id).items():
        splits = _splits_of(scans)
        if len(splits) > 1:
            yield _about(
                "patient-across-splits",
                scans,
                f"Patient {patient} is in {' and '.join(splits)}: {_names(scans)}.",
                "Keep each patient in one split, or remove the split column to have medres divide the patients.",
            )


def _identical(table: ScanTable) -> Iterator[Finding]:
    for same in _grouped(table, lambda scan: scan.content_hash).values():
        # several lesions of one scan are rows of one file: no copies, and never to be left out as such
        scans = [same[0], *(scan for scan in same[1:] if _file_of(scan) != _file_of(same[0]))]
        if len(scans) < 2:
            continue
        patients = _patients_of(table, scans)
        yield _about(
            "identical-scans",
            scans,
            f"The same voxels: {_names(scans, ' = ')}{_of_patients(patients)}.",
            "Copies are kept on one side of every split. If they are one patient, give both the same patient id.",
            severity="warning" if len(patients) > 1 else "info",
        )
        yield from _across_splits("identical-across-splits", scans, "the same voxels")
        if len(_labels_of(scans)) > 1:
            yield _about(
                "contradicting-labels",
                scans,
                f"The same voxels with different labels: {_names(scans, ' = ', label=True)}.",
                "Correct the labels, or leave these scans out.",
            )


def _file_of(scan: Scan) -> tuple[Path, str | None]:
    return scan.path, scan.member


def _near(table: ScanTable, known: dict[tuple[str, ...], NearGroup]) -> Iterator[Finding]:
    for scans in _grouped(table, lambda scan: scan.alike).values():
        if len({scan.content_hash or scan.sample_id for scan in scans}) < 2:  # copies of one scan are identical
            continue
        how = _how(known.get(tuple(sorted(scan.sample_id for scan in scans))))
        labels = " Their labels differ." if len(_labels_of(scans)) > 1 else ""
        yield _about(
            "near-duplicates",
            scans,
            f"Nearly the same picture{how}: {_names(scans, ', ', label=bool(labels))}"
            f"{_of_patients(_patients_of(table, scans))}.{labels}",
            "Look at them. They are kept on one side of every split. If they are one patient, give them one id.",
        )
        yield from _across_splits("near-duplicates-across-splits", scans, "nearly the same picture")


def _across_splits(code: str, scans: Group, what: str) -> Iterator[Finding]:
    splits = _splits_of(scans)
    if len(splits) > 1:
        where = ", ".join(f"{scan.sample_id} ({scan.split})" for scan in scans[:_MAX_NAMED])
        more = f" and {len(scans) - _MAX_NAMED} more" if len(scans) > _MAX_NAMED else ""
        yield _about(
            code,
            scans,
            f"{what.capitalize()} in {' and '.join(splits)}: {where}{more}.",
            "Copies of scored scans are left out of training. Correct the splits to keep them.",
        )


def _two_labels(table: ScanTable) -> Iterator[Finding]:
    if not table.patients_given:
        return
    patients = _grouped(table, lambda scan: scan.patient_id)
    mixed = {patient: scans for patient, scans in patients.items() if len(_labels_of(scans)) > 1}
    if mixed:
        examples = [f"{patient} ({', '.join(_labels_of(scans))})" for patient, scans in mixed.items()]
        yield _about(
            "patient-two-labels",
            [scan for scans in mixed.values() for scan in scans],
            f"{counted(len(mixed), 'patient')} of {len(patients):,} with scans of more than one class: "
            f"{first_of(examples, limit=3)}.",
            "Legal where lesions or visits are labelled; a mistake where patients are.",
            whole=True,
        )


def _about(
    code: str, scans: Group, value: str, fix: str, *, severity: Severity | None = None, whole: bool = False
) -> Finding:
    kind = kind_of(code)
    ids = [scan.sample_id for scan in scans]
    return Finding(
        code=code,
        severity=severity or kind.severity,
        sample_id=None if whole else ids[0],
        file=None if whole else str(scans[0].path),
        rule=kind.rule,
        value=value,
        fix=fix,
        others=tuple(ids if whole else ids[1:]),
    )


def _grouped(table: ScanTable, key: Callable[[Scan], str]) -> dict[str, list[Scan]]:
    """Return the scans by a key that is not empty, in the order of their ids; within each, what is scored first."""
    groups: dict[str, list[Scan]] = defaultdict(list)
    for scan in sorted(table, key=lambda scan: scan.sample_id):
        if key(scan):
            groups[key(scan)].append(scan)
    return {name: sorted(scans, key=lambda scan: _SPLIT_ORDER[scan.split]) for name, scans in groups.items()}


def _names(scans: Group, separator: str = ", ", *, label: bool = False) -> str:
    names = [f"{scan.sample_id} ({scan.label})" if label and scan.label else scan.sample_id for scan in scans]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return separator.join(names[:_MAX_NAMED]) + more


def _how(group: NearGroup | None) -> str:
    if group is None:
        return ""
    return f" (correlation {group.similarity:.2f}{', flipped or rotated' if group.turned else ''})"


def _splits_of(scans: Group) -> list[str]:
    return sorted({scan.split for scan in scans if scan.split})


def _labels_of(scans: Group) -> list[str]:
    return sorted({scan.label for scan in scans if scan.label})


def _patients_of(table: ScanTable, scans: Group) -> list[str]:
    """Return the patients of some scans; none where each file was taken as a patient of its own."""
    return sorted({scan.patient_id for scan in scans}) if table.patients_given else []


def _of_patients(patients: Sequence[str]) -> str:
    return f", of {len(patients)} patients ({first_of(patients, limit=3)})" if len(patients) > 1 else ""
