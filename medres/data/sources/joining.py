"""Rows without a path: joined to files by an id, which is the name of a patient's folder or the stem of a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medres.data.readers.formats import scan_stem
from medres.data.sources.columns import find_column
from medres.data.sources.delimited import Row, TextTable
from medres.data.sources.scan_files import relative_name
from medres.data.wording import counted, first_of
from medres.errors import DataError

#: Columns whose cells may name a file or a folder, besides that of the patients.
ID_COLUMNS = ("id", "name", "case", "case_id", "image", "image_id", "scan", "scan_id", "sample", "sample_id")

_FIX = "Add a column 'path' with each file's path below the data folder."


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files of one row.

    Args:
        files: At least one.
        by_folder: Whether the row names their folder.
    """

    files: tuple[Path, ...]
    by_folder: bool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What comes of joining by one column.

    Args:
        column: Its name.
        found: What each row means, in their order; empty where there is a problem.
        problem: Why the column does not fit, or empty.
    """

    column: str
    found: tuple[Found, ...] = ()
    problem: str = ""


class FileIndex:
    """Scans by the names that a row may call them by.

    Args:
        files: All scans below the root.
        root: The data folder.
    """

    def __init__(self, files: Sequence[Path], root: Path) -> None:
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_folder: dict[str, dict[PurePosixPath, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for path in files:
            relative = PurePosixPath(relative_name(path, root))
            for name in {scan_stem(relative), relative.name}:
                self._by_name[name].append(path)
            for name, folder in _outermost_folders(relative):
                self._by_folder[name][folder].append(path)

    def find(self, key: str) -> Found | str:
        """Return the files that a key means, or what is wrong with it."""
        named, folders = self._by_name.get(key, []), self._by_folder.get(key, {})
        places = [str(folder) + "/" for folder in folders] + [path.name for path in named]
        if not places:
            return "matches no folder and no file"
        if len(folders) > 1 or len(named) > 1 or (folders and set(named) - set(*folders.values())):
            return f"matches {counted(len(places), 'place')} ({first_of(places, limit=3)})"
        files = next(iter(folders.values())) if folders else named
        return Found(files=tuple(files), by_folder=bool(folders))


def join_files(
    table: TextTable, *, patient_column: str | None, files: Sequence[Path], root: Path
) -> list[tuple[int, Path, str]]:
    """Return (position of the row, file, patient) for every file that a row means.

    An id that names a folder means all scans below it and is a patient; an id that is the stem of a file, or its
    whole name, means that file. The patient is empty where only files are named.

    Args:
        table: Without a column of paths.
        patient_column: Column of the patients, or None.
        files: All scans below the root.
        root: The data folder.

    Raises:
        DataError: No column of ids fits every row, or two fit in different ways.
    """
    columns = [column for column in (find_column(table, ID_COLUMNS), patient_column) if column]
    if not columns:
        raise DataError(
            f"{table.path} has no column 'path' and none of ids; it has {', '.join(table.columns)}.", fix=_FIX
        )
    index = FileIndex(files, root)
    attempts = [_attempt(table, column, index) for column in dict.fromkeys(columns)]
    chosen = _only_fit(table, attempts)
    by_folder = any(found.by_folder for found in chosen.found)
    return [
        (position, path, row.text(chosen.column) if by_folder else "")
        for position, (row, found) in enumerate(zip(table.rows, chosen.found, strict=True))
        for path in found.files
    ]


def _attempt(table: TextTable, column: str, index: FileIndex) -> Attempt:
    found = [index.find(row.text(column)) for row in table.rows]
    pairs = list(zip(table.rows, found, strict=True))
    failed = [f"'{row.text(column)}' (row {row.number}) {why}" for row, why in pairs if isinstance(why, str)]
    if failed:
        return Attempt(column=column, problem=f"by '{column}', {len(failed)} of {len(found)} fail: {first_of(failed)}")
    fine = tuple(item for item in found if isinstance(item, Found))
    twice = _claimed_twice(table.rows, fine)
    if twice:
        return Attempt(column=column, problem=f"by '{column}', several rows mean one file: {first_of(twice)}")
    return Attempt(column=column, found=fine)


def _claimed_twice(rows: Sequence[Row], found: Sequence[Found]) -> list[str]:
    claims: dict[Path, list[int]] = defaultdict(list)
    for row, item in zip(rows, found, strict=True):
        for path in item.files:
            claims[path].append(row.number)
    return [
        f"{path.name} (rows {', '.join(map(str, numbers))})" for path, numbers in claims.items() if len(numbers) > 1
    ]


def _only_fit(table: TextTable, attempts: Sequence[Attempt]) -> Attempt:
    fits = [attempt for attempt in attempts if not attempt.problem]
    if not fits:
        problems = "; ".join(attempt.problem for attempt in attempts)
        raise DataError(f"{table.path} has no column 'path' and cannot be joined to the files: {problems}.", fix=_FIX)
    if len({tuple(item.files for item in attempt.found) for attempt in fits}) > 1:
        names = " and ".join(f"'{attempt.column}'" for attempt in fits)
        raise DataError(f"{table.path} has no column 'path', and {names} both name files, but not the same.", fix=_FIX)
    return fits[0]


def _outermost_folders(relative: PurePosixPath) -> list[tuple[str, PurePosixPath]]:
    """Return each different name of a folder above the file, with the outermost folder of that name."""
    folders = {folder.name: folder for folder in relative.parents if folder.name}  # parents run outwards
    return list(folders.items())
