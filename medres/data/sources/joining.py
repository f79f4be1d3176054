"""Rows without a path: joined to scans by an id: a patient's folder, the stem of a file, or an id of a DICOM header."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medres.data.readers.formats import scan_stem
from medres.data.sources.columns import find_column
from medres.data.sources.delimited import Row, TextTable
from medres.data.sources.draft import matched_patients
from medres.data.sources.items import Item, Stock, item_of
from medres.data.sources.scan_files import relative_name
from medres.data.spelling import hint_of, lookalike_key
from medres.data.wording import counted, first_of
from medres.errors import DataError

#: Columns whose cells may name a file or a folder, besides that of the patients.
ID_COLUMNS = ("id", "name", "case", "case_id", "image", "image_id", "scan", "scan_id", "sample", "sample_id")
#: Columns of DICOM identifiers, the most exact one first; where one of them fits, it decides.
UID_COLUMNS = (
    ("series_instance_uid", "series_uid", "series_id"),
    ("study_instance_uid", "study_uid", "study_id", "accession_number"),
)

_FIX = (
    "Add a column 'path' with each file's path below the data folder, or name the column of patients, whose folders or "
    "DICOM headers have these ids, with --patient-column."
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The scans of one row.

    Args:
        items: At least one.
        by_patient: Whether the row names a patient (his folder, or his id in the header), not a scan.
    """

    items: tuple[Item, ...]
    by_patient: bool


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What one row means.

    Args:
        row: The row.
        items: Its scans; none where `problem` says why.
        patient_id: The patient that it names, or empty.
        key: The id by which it was looked up.
        column: Where that id stands.
        problem: Why nothing was found, or empty.
    """

    row: Row
    items: tuple[Item, ...] = ()
    patient_id: str = ""
    key: str = ""
    column: str = ""
    problem: str = ""


class ItemIndex:
    """Scans by the names that a row may call them by.

    Args:
        stock: All scans below the root.
        pattern: Finds the patient in a path; what it finds counts before names of folders and files.
    """

    def __init__(self, stock: Stock, *, pattern: str | None = None) -> None:
        self._by_name: dict[str, list[Item]] = defaultdict(list)
        self._by_folder: dict[str, dict[PurePosixPath, list[Item]]] = defaultdict(lambda: defaultdict(list))
        self._by_patient: dict[str, list[Item]] = defaultdict(list)
        self._by_uid: dict[str, list[Item]] = defaultdict(list)
        self._by_pattern: dict[str, list[Item]] = defaultdict(list)
        self._by_lookalike: dict[str, set[str]] = defaultdict(set)
        if pattern is not None:
            patients = matched_patients(pattern, [item.name_below(stock.root) for item in stock.items])
            for patient, item in zip(patients, stock.items, strict=True):
                self._by_pattern[patient].append(item)
        for item in stock.items:
            self._add_paths(item, stock.root)
            self._add_header(item, usable=stock.headers.finding is None)

    def find(self, key: str) -> Found | str:
        """Return the scans that a key means, or what is wrong with it."""
        if key and key in self._by_pattern:
            return Found(items=tuple(self._by_pattern[key]), by_patient=True)
        named, folders = self._by_name.get(key, []), self._by_folder.get(key, {})
        patient, uid = self._by_patient.get(key, []), self._by_uid.get(key, [])
        within = [item for items in folders.values() for item in items]
        places = [f"{folder}/" for folder in folders] + [item.path.name for item in named]
        if len(folders) > 1 or len(named) > 1 or (folders and not _all_in(named, within)):
            return f"matches {counted(len(places), 'place')} ({first_of(places, limit=3)})"
        by_path = within or named
        if by_path and not _all_in(patient, by_path):
            return f"matches {places[0]} and the patient id of other DICOM files"
        if by_path:
            return Found(items=tuple(by_path), by_patient=bool(folders))
        if patient or uid:
            return Found(items=tuple(uid or patient), by_patient=not uid)
        hint = hint_of(key, self._alike(key))
        return "matches no folder and no file" + (f" ({hint})" if hint else "")

    def _alike(self, key: str) -> list[str]:
        """Return names that look like a key, for the message."""
        names = (*self._by_pattern, *self._by_folder, *self._by_name, *self._by_patient)
        if not self._by_lookalike and names:
            for name in names:
                self._by_lookalike[lookalike_key(name)].add(name)
        return sorted(self._by_lookalike.get(lookalike_key(key), set()) - {key})

    def _add_paths(self, item: Item, root: Path) -> None:
        relative = PurePosixPath(relative_name(item.path, root))
        if not item.is_folder:
            for name in {scan_stem(relative), relative.name}:
                self._by_name[name].append(item)
        for name, folder in _outermost_folders(relative / "*" if item.is_folder else relative):
            self._by_folder[name][folder].append(item)

    def _add_header(self, item: Item, *, usable: bool) -> None:
        if usable and item.header_id:
            self._by_patient[item.header_id].append(item)
        if item.study is None:
            return
        if item.study.study_uid:
            self._by_uid[item.study.study_uid].append(item)
        for series in item.study.series:
            # a series that a row names is the scan, whichever one would have been chosen
            named = replace(item.study, chosen=series, series=(series,), name=item.study.name or item.name)
            own = item if item.study.chosen is series else item_of(named, patient_id=item.patient_id)
            self._by_uid[series.series_uid].append(own)


def join_rows(
    table: TextTable, *, patient_column: str | None, stock: Stock, pattern: str | None = None
) -> list[Joined]:
    """Return the scans that each row means.

    An id that names a folder means all scans below it and is a patient; so is a patient id of DICOM headers. An id
    that is the stem of a file, or its whole name, or a DICOM uid, means that scan. A pattern for patients finds them in
    the names of files. Of several columns of ids the one
    that fits all rows counts; where none does, that which fits most of them.

    Args:
        table: Without a column of paths.
        patient_column: Column of the patients, or None.
        stock: All scans below the root.
        pattern: Finds the patient in a path, or None.

    Raises:
        DataError: No column of ids fits, or two fit in different ways.
    """
    uids = [column for names in UID_COLUMNS if (column := find_column(table, names))]
    columns = [*uids, *(column for column in (find_column(table, ID_COLUMNS), patient_column) if column)]
    if not columns:
        raise DataError(
            f"{table.path} has no column 'path' and none of ids; it has {', '.join(table.columns)}.", fix=_FIX
        )
    index = ItemIndex(stock, pattern=pattern)
    attempts = [_attempt(table, column, index) for column in dict.fromkeys(columns)]
    return _rows(table, _best(table, attempts, uids=uids))


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """What comes of joining by one column: of each row what it means, or why not."""

    column: str
    found: tuple[Found | str, ...]

    @property
    def good(self) -> tuple[Found, ...]:
        return tuple(item for item in self.found if isinstance(item, Found))

    @property
    def num_failed(self) -> int:
        return len(self.found) - len(self.good)

    @property
    def claimed_twice(self) -> bool:
        keys = [item.key for found in self.good for item in found.items]
        return len(keys) > len(set(keys))

    @property
    def ambiguous(self) -> bool:
        return any(isinstance(item, str) and "matches no" not in item for item in self.found)

    def problem(self, rows: Sequence[Row]) -> str:
        pairs = zip(rows, self.found, strict=True)
        failed = [f"'{row.text(self.column)}' (row {row.name}) {why}" for row, why in pairs if isinstance(why, str)]
        return f"by '{self.column}', {len(failed)} of {len(self.found)} fail: {first_of(failed)}"


def _attempt(table: TextTable, column: str, index: ItemIndex) -> _Attempt:
    return _Attempt(column=column, found=tuple(index.find(row.text(column)) for row in table.rows))


def _best(table: TextTable, attempts: Sequence[_Attempt], *, uids: Sequence[str]) -> _Attempt:
    fits = [attempt for attempt in attempts if not attempt.num_failed and not attempt.claimed_twice]
    exact = [attempt for attempt in fits if attempt.column in uids]
    if exact:
        return exact[0]
    if len({tuple(item.key for found in attempt.good for item in found.items) for attempt in fits}) > 1:
        names = " and ".join(f"'{attempt.column}'" for attempt in fits)
        raise DataError(f"{table.path} has no column 'path', and {names} both name files, but not the same.", fix=_FIX)
    partial = [attempt for attempt in attempts if attempt.good and not attempt.ambiguous]
    usable = fits or sorted(partial, key=lambda attempt: (attempt.num_failed, attempt.claimed_twice))
    if not usable:
        problems = "; ".join(attempt.problem(table.rows) for attempt in attempts)
        raise DataError(f"{table.path} has no column 'path' and cannot be joined to the files: {problems}.", fix=_FIX)
    return usable[0]


def _rows(table: TextTable, chosen: _Attempt) -> list[Joined]:
    by_patient = any(found.by_patient for found in chosen.good)
    joined = []
    for row, found in zip(table.rows, chosen.found, strict=True):
        key = row.text(chosen.column)
        patient = key if by_patient else ""
        if isinstance(found, Found):
            joined.append(Joined(row=row, items=found.items, patient_id=patient, key=key, column=chosen.column))
        else:
            problem = f"'{key}' {found}"
            joined.append(Joined(row=row, patient_id=patient, key=key, column=chosen.column, problem=problem))
    return joined


def _all_in(some: Iterable[Item], others: Sequence[Item]) -> bool:
    keys = {item.key for item in others}
    return all(item.key in keys for item in some)


def _outermost_folders(relative: PurePosixPath) -> list[tuple[str, PurePosixPath]]:
    """Return each different name of a folder above the file, with the outermost folder of that name."""
    folders = {folder.name: folder for folder in relative.parents if folder.name}  # parents run outwards
    return list(folders.items())
