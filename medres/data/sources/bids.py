"""BIDS: ``sub-*/[ses-*/]<datatype>/*_<suffix>.nii.gz``, labelled by ``participants.tsv`` or the tables of sessions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medres.data.findings import Finding
from medres.data.readers.formats import scan_stem
from medres.data.sources.columns import PATH_COLUMNS, find_column
from medres.data.sources.delimited import Row, TextTable, read_table
from medres.data.sources.disk import Disk
from medres.data.sources.draft import Draft, Options
from medres.data.sources.items import Item
from medres.data.sources.label_table import with_mask
from medres.data.sources.mask_files import is_mask_word
from medres.data.sources.problems import found
from medres.data.sources.rows import Match, Problem, label_scans
from medres.data.sources.scan_files import relative_name, walk_scans
from medres.data.sources.table_columns import Columns, find_columns
from medres.data.spelling import hint_of, lookalike_key
from medres.data.wording import counted, first_of
from medres.errors import DataError

PARTICIPANTS = "participants.tsv"
DESCRIPTION = "dataset_description.json"

_PARTICIPANT = ("participant_id",)
_SESSION = ("session_id", "session", "ses")
# series over time and directions, and what belongs to them: not a scan each
_OVER_TIME = frozenset({"func", "dwi", "fmap", "perf", "eeg", "meg", "ieeg", "beh", "nirs", "motion", "mrs"})


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a BIDS data set.

    Args:
        path: Its file.
        subject: ``sub-01``.
        session: ``ses-1``, or empty.
        datatype: Folder, such as ``anat``.
        parts: Of its name, the suffix last: ``("sub-01", "acq-a", "T1w")``.
    """

    path: Path
    subject: str
    session: str
    datatype: str
    parts: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """What it shows: ``T1w``."""
        return self.parts[-1]

    @property
    def place(self) -> tuple[str, str]:
        """Subject and session."""
        return (self.subject, self.session)

    def is_a(self, wanted: str) -> bool:
        """Return whether it is what ``--suffix`` asks for: ``T1w``, or with entities, ``acq-a_T1w``."""
        *entities, suffix = wanted.split("_")
        return suffix == self.suffix and set(entities) <= set(self.parts)


def is_bids(root: Path) -> bool:
    """Return whether a folder is a BIDS data set."""
    marked = (root / DESCRIPTION).is_file() or (root / PARTICIPANTS).is_file()
    return marked and next(root.glob("sub-*/"), None) is not None


def labels_bids(table: TextTable) -> bool:
    """Return whether a table is about participants, not about files."""
    return find_column(table, _PARTICIPANT) is not None and find_column(table, PATH_COLUMNS) is None


def read_bids(root: Path, options: Options, *, labels: Path | None = None) -> Draft:
    """Read a BIDS data set: one scan an image of the suffix that is asked for, or that there is.

    Every session and every run is a scan of its own of the same patient, who is ``sub-<id>``. ``derivatives``,
    ``sourcedata`` and ``code`` are not looked at.

    Args:
        root: The data set.
        options: With `Options.suffix`, or `Options.sequences` for several suffixes that become channels.
        labels: Table of participants (and sessions), where it is not ``participants.tsv``.

    Raises:
        DataError: There are no images or no labels, or which images are the scans is not clear.
    """
    images = _images(root)
    table = _labels(root, options, labels)
    disk = Disk(table, root, options, whole=False)
    plain = replace(options, sequences=())
    columns = find_columns(table, plain, lambda row, name: disk.path(row, name) is not None)
    columns = _without_ids(table, columns, options)
    scans, notes = _scans(images, options, root)
    matches = [with_mask(table, columns, match, disk) for match in _matches(table, scans)]
    labelled = label_scans(table, columns, matches, root)
    return Draft(
        root=root,
        source="BIDS",
        scans=labelled.scans,
        notes=table.notes + columns.notes + notes,
        unit_column=columns.unit,
        findings=labelled.findings + _absent(table, scans) + _not_listed(scans, matches, table, root),
    )


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """One image, or several suffixes of one session."""

    place: tuple[str, str]
    path: Path
    sequences: Mapping[str, Path] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def _images(root: Path) -> list[Image]:
    images = []
    for subject in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        for path in walk_scans(subject).scans:
            parts = tuple(scan_stem(path).split("_"))
            if parts[0] == subject.name and len(parts) > 1:
                session = next((part for part in parts if part.startswith("ses-")), "")
                images.append(
                    Image(path=path, subject=subject.name, session=session, datatype=path.parent.name, parts=parts)
                )
    if not images:
        raise DataError(
            f"{root} is a BIDS data set, but its folders sub-* hold no images.",
            fix="Fetch them (git annex get, datalad get), or give another folder.",
        )
    return images


def _labels(root: Path, options: Options, labels: Path | None) -> TextTable:
    """Return the table that has the labels: that which was given, that of the participants, or those of sessions."""
    path = labels or root / PARTICIPANTS
    if not path.is_file():
        raise DataError(f"{root} is a BIDS data set without {PARTICIPANTS}.", fix="Name a table with --labels.")
    table = read_table(path)
    if find_column(table, _PARTICIPANT) is None:
        raise DataError(f"{path} has no column 'participant_id'.", fix="Add it: it names the folders sub-*.")
    if find_column(table, [options.label_column]) is not None:
        return table
    sessions = sorted(root.glob("sub-*/sub-*_sessions.tsv"))
    tables = {path.parent.name: read_table(path) for path in sessions}
    if any(find_column(one, [options.label_column]) for one in tables.values()):
        return _with_sessions(table, tables)
    columns = dict.fromkeys(column for one in tables.values() for column in one.columns)
    elsewhere = f", the tables of sessions {', '.join(columns)}" if columns else ""
    raise DataError(
        f"{path} has no column '{options.label_column}'; it has {', '.join(table.columns)}{elsewhere}.",
        fix="Name the column of the labels with --label-column, or a table such as phenotype/*.tsv with --labels.",
    )


def _with_sessions(table: TextTable, sessions: Mapping[str, TextTable]) -> TextTable:
    """Return one row a session, with what the participant's row says behind."""
    participant = find_column(table, _PARTICIPANT) or ""
    people = {_prefixed(row.text(participant), "sub-"): row.cells for row in table.rows}
    columns = tuple(dict.fromkeys((*(name for one in sessions.values() for name in one.columns), *table.columns)))
    rows = []
    for subject, one in sessions.items():
        for row in one.rows:
            cells = {**dict.fromkeys(columns, ""), **people.get(subject, {}), **row.cells, participant: subject}
            rows.append(Row(number=row.number, cells=cells, place=f"{row.number} of {one.path.name}"))
    note = f"Labels are taken from {counted(len(sessions), 'table')} of sessions (sub-*_sessions.tsv)."
    return TextTable(path=table.path, columns=columns, rows=tuple(rows), notes=(*table.notes, note), delimiter="\t")


def _without_ids(table: TextTable, columns: Columns, options: Options) -> Columns:
    """Return the columns as BIDS means them: the patient is the folder sub-*, unless a column was named."""
    ids = (find_column(table, _PARTICIPANT), find_column(table, _SESSION))
    patient = columns.patient if options.patient_column else None
    named = f"Patients are taken from the column '{columns.patient}' "
    notes = tuple(note for note in columns.notes if patient or not note.startswith(named))
    made = (*columns.made, *(name for name in ids if name and name not in (columns.label, columns.unit)))
    return replace(columns, patient=patient, path=None, sequences={}, made=made, notes=notes)


def _scans(images: Sequence[Image], options: Options, root: Path) -> tuple[list[_Scan], tuple[str, ...]]:
    if options.sequences:
        return _sequences(images, options.sequences, root)
    suffix, note = (options.suffix, ()) if options.suffix else _only_suffix(images, root)
    taken = _of_suffix(images, suffix, root)
    scans = [_Scan(place=image.place, path=image.path) for image in taken]
    repeated = sum(number > 1 for number in Counter(scan.place for scan in scans).values())
    if repeated:
        note += (f"{counted(repeated, 'session')} with several {suffix} (runs): each is a scan of the same patient.",)
    if len(taken) < len(images):
        note += (f"{counted(len(images) - len(taken), 'image')} other than {suffix} were left out.",)
    return scans, note


def _of_suffix(images: Sequence[Image], suffix: str, root: Path) -> list[Image]:
    taken = [image for image in images if image.is_a(suffix)]
    if not taken:
        raise DataError(f"{root} has no images '{suffix}'; it has {_counts(images)}.", fix="Name one with --suffix.")
    return taken


def _only_suffix(images: Sequence[Image], root: Path) -> tuple[str, tuple[str, ...]]:
    """Return the suffix of the scans: the only one, or the only one that is there once in every session.

    Raises:
        DataError: There are several; naming them with their numbers.
    """
    pictures = [image for image in images if not is_mask_word(image.suffix.lower())] or list(images)
    candidates = [image for image in pictures if image.datatype not in _OVER_TIME] or pictures
    suffixes = sorted({image.suffix for image in candidates})
    places = {image.place for image in candidates}
    counts = {name: Counter(image.place for image in candidates if image.suffix == name) for name in suffixes}
    everywhere = [name for name in suffixes if all(counts[name][place] == 1 for place in places)]
    chosen = suffixes if len(suffixes) == 1 else everywhere
    if len(chosen) != 1:
        raise DataError(
            f"{root} has images of several kinds: {_counts(candidates)}.",
            fix="Say with --suffix which are the scans, e.g. --suffix T1w.",
        )
    others = len({image.suffix for image in images}) > 1
    return chosen[0], (f"The scans are the images {chosen[0]} (--suffix chooses others).",) if others else ()


def _sequences(images: Sequence[Image], names: Sequence[str], root: Path) -> tuple[list[_Scan], tuple[str, ...]]:
    by_place: dict[tuple[str, str], dict[str, list[Path]]] = defaultdict(dict)
    for name in names:
        for image in _of_suffix(images, name, root):
            by_place[image.place].setdefault(name, []).append(image.path)
    scans = []
    for place, found_here in sorted(by_place.items()):
        sequences = {name: found_here[name][0] for name in names if name in found_here}
        missing = [name for name in names if name not in found_here]
        problem = ("sequence-missing", f"no {' and no '.join(missing)}", "Leave it out, or name other --sequences.")
        path = next(iter(sequences.values()))
        scans.append(_Scan(place=place, path=path, sequences=sequences, problems=(problem,) if missing else ()))
    several = sum(any(len(paths) > 1 for paths in found_here.values()) for found_here in by_place.values())
    note = f"{counted(several, 'session')} with several runs of a sequence: the first by name was taken."
    return scans, (note,) if several else ()


def _matches(table: TextTable, scans: Sequence[_Scan]) -> list[Match]:
    by_subject: dict[str, list[_Scan]] = defaultdict(list)
    for scan in scans:
        by_subject[scan.place[0]].append(scan)
    matches = []
    for position, row in enumerate(table.rows):
        subject, visit = _place(table, row)
        matches += [_match(position, scan) for scan in by_subject[subject] if visit in ("", scan.place[1])]
    return matches


def _place(table: TextTable, row: Row) -> tuple[str, str]:
    """Return subject and session of a row; an empty session means all of them."""
    participant, session = find_column(table, _PARTICIPANT) or "", find_column(table, _SESSION)
    visit = _prefixed(row.text(session), "ses-") if session and row.text(session) else ""
    return _prefixed(row.text(participant), "sub-"), visit


def _match(position: int, scan: _Scan) -> Match:
    subject, session = scan.place
    return Match(
        position=position, item=Item(path=scan.path), patient_id=subject, sequences=scan.sequences,
        problems=scan.problems, metadata={"session": session} if session else {},
    )  # fmt: skip


def _absent(table: TextTable, scans: Sequence[_Scan]) -> tuple[Finding, ...]:
    """Return a finding for each row without an image: data sets list all participants, whatever was scanned of them."""
    have = {scan.place for scan in scans} | {(scan.place[0], "") for scan in scans}
    by_key: dict[str, set[str]] = defaultdict(set)
    for subject, _ in have:
        by_key[lookalike_key(subject)].add(subject)
    findings = []
    for row in table.rows:
        if (place := _place(table, row)) not in have:
            hint = hint_of(place[0], sorted(by_key[lookalike_key(place[0])] - {place[0]}))
            name = "/".join(filter(None, place)) + (f" ({hint})" if hint else "")
            text = f"{table.path.name}, row {row.number}: {name} has no such image and was left out."
            fix = "Look whether it should have one, or choose other images with --suffix."
            findings.append(found("participant-without-scan", text, fix=fix))
    return tuple(findings)


def _not_listed(scans: Sequence[_Scan], matches: Sequence[Match], table: TextTable, root: Path) -> tuple[Finding, ...]:
    named = {match.item.path for match in matches}
    return tuple(
        found(
            "file-not-listed",
            f"{relative_name(scan.path, root)} is of no participant in {table.path.name} and was left out.",
            fix="Add a row for it, or take it out of the folder.",
            file=scan.path,
        )
        for scan in scans
        if scan.path not in named
    )


def _counts(images: Iterable[Image]) -> str:
    counts = Counter(image.suffix for image in images)
    return first_of([f"{name} {number}" for name, number in counts.most_common()])


def _prefixed(text: str, prefix: str) -> str:
    return text if text.startswith(prefix) else prefix + text
