"""The checks of a whole data set, once all scans are read. Each returns findings; none raises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from medres.data.catalogue import Severity, kind_of
from medres.data.findings import Finding
from medres.data.survey_memory import Remembered
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of
from medres.errors import UnreadableScanError

Known = Mapping[str, Remembered]


def check_scans(table: ScanTable, known: Known) -> Iterator[Finding]:
    """Yield the findings about scans that could be read.

    Args:
        table: With content hashes.
        known: Statistics and notes by sample id; scans that could not be read are not in it.
    """
    yield from _constant(table, known)
    yield from _mixed_dimensions(known)
    yield from _mixed_modalities(known)
    yield from _mixed_colors(known)
    yield from _identical(table)
    yield from _reader_notes(known)


def unreadable(scan: Scan, error: UnreadableScanError | None) -> Finding:
    """Return the finding about a scan that cannot be read."""
    code = error.code if error else "unreadable"
    return Finding(
        code=code,
        severity="error",
        sample_id=scan.sample_id,
        file=str(scan.path),
        rule=kind_of(code).rule,
        value=error.problem if error else f"{scan.path} cannot be read.",
        fix=error.fix if error else "",
    )


def _constant(table: ScanTable, known: Known) -> Iterator[Finding]:
    for scan in table:
        entry = known.get(scan.sample_id)
        if entry is None or entry.statistics.minimum < entry.statistics.maximum:
            continue
        place = str(scan.path) if scan.member is None else f"{scan.path} ({scan.member})"
        yield Finding(
            code="constant",
            severity="error",
            sample_id=scan.sample_id,
            file=str(scan.path),
            rule="A scan shows something.",
            value=f"{place} has the value {entry.statistics.minimum:g} everywhere.",
            fix="Leave it out, or export it again.",
        )


def _mixed_dimensions(known: Known) -> Iterator[Finding]:
    by_dims = _grouped(known, lambda entry: f"{len(entry.statistics.spatial_shape)}D")
    if len(by_dims) > 1:
        counts = " and ".join(f"{len(ids)} {dims}" for dims, ids in sorted(by_dims.items()))
        fewest = min(by_dims.values(), key=len)
        yield _about_all(
            "mixed-dimensions",
            "error",
            "All scans are images or all are volumes.",
            f"The data set mixes images and volumes: {counts} ({first_of(fewest, limit=3)}).",
            "Train on one kind: keep the others in a folder of their own.",
        )


def _mixed_modalities(known: Known) -> Iterator[Finding]:
    by_modality = _grouped(known, lambda entry: entry.statistics.modality)
    if len(by_modality) > 1:
        counts = ", ".join(f"{len(ids)} {name}" for name, ids in sorted(by_modality.items()))
        fewest = min(by_modality.values(), key=len)
        yield _about_all(
            "mixed-modality",
            "warning",
            "All scans look like one modality.",
            f"Found {counts} (e.g. {first_of(fewest, limit=3)}).",
            "Check that they are what you think; the plan treats mixed data as already scaled.",
        )


def _mixed_colors(known: Known) -> Iterator[Finding]:
    by_color = _grouped(known, lambda entry: "colour" if entry.statistics.num_channels == 3 else "grey")
    colored, grey = by_color.get("colour", []), by_color.get("grey", [])
    if colored and grey:
        yield _about_all(
            "mixed-color",
            "warning",
            "Scans are grey: colour is a screenshot, an overlay or a compression artefact.",
            f"{len(colored)} of {len(known)} are true colour (e.g. {first_of(colored, limit=3)}).",
            "Look at them: a coloured mark that goes with a class is what a network learns first.",
        )


def _identical(table: ScanTable) -> Iterator[Finding]:
    by_hash: dict[str, list[Scan]] = defaultdict(list)
    for scan in table:
        if scan.content_hash:
            by_hash[scan.content_hash].append(scan)
    groups = [scans for scans in by_hash.values() if len(scans) > 1]
    if groups:
        yield _identical_scans(table, groups)
    contradicting = [scans for scans in groups if len({scan.label for scan in scans if scan.label}) > 1]
    if contradicting:
        yield _contradicting_labels(contradicting)


def _identical_scans(table: ScanTable, groups: Sequence[Sequence[Scan]]) -> Finding:
    extra = sum(len(scans) - 1 for scans in groups)
    across = sum(len({scan.patient_id for scan in scans}) > 1 for scans in groups)
    names = [" = ".join(scan.sample_id for scan in scans) for scans in groups]
    where = f", {counted(across, 'group')} across patients" if across and table.patients_given else ""
    return _about_all(
        "identical-scans",
        "warning" if across and table.patients_given else "info",
        "Every scan is there once.",
        f"{counted(extra, 'extra copy', 'extra copies')} with the same voxels as another scan, "
        f"{counted(len(groups), 'group')}{where}: {first_of(names, limit=3)}.",
        "Copies are kept on one side of every split. If they are one patient, give both the same patient id.",
    )


def _contradicting_labels(groups: Sequence[Sequence[Scan]]) -> Finding:
    names = [" = ".join(f"{scan.sample_id} ({scan.label})" for scan in scans) for scans in groups]
    return _about_all(
        "contradicting-labels",
        "warning",
        "Scans with the same voxels have the same label.",
        f"{counted(len(groups), 'group')} of identical scans with different labels: {first_of(names)}.",
        "Correct the labels, or leave these scans out.",
    )


def _reader_notes(known: Known) -> Iterator[Finding]:
    by_note: dict[str, list[str]] = defaultdict(list)
    for sample_id, entry in known.items():
        for note in entry.notes:
            by_note[note].append(sample_id)
    for note, ids in sorted(by_note.items()):
        code, _, sentence = note.partition(": ")
        yield Finding(
            code=code,
            severity="warning" if code in _NOTES_TO_LOOK_AT else "info",
            sample_id=ids[0] if len(ids) == 1 else None,
            rule="Files say what medres needs to know.",
            value=f"{counted(len(ids), 'scan')}: {sentence} (e.g. {ids[0]}).",
        )


# these change what the network sees
_NOTES_TO_LOOK_AT = frozenset({"orientation-unknown", "sform-qform-differ", "qform-damaged", "depth-reduced"})


def _grouped(known: Known, key: Callable[[Remembered], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for sample_id, entry in known.items():
        groups[key(entry)].append(sample_id)
    return groups


def _about_all(code: str, severity: Severity, rule: str, value: str, fix: str) -> Finding:
    return Finding(code=code, severity=severity, rule=rule, value=value, fix=fix)
