"""A table of labels (``labels.csv``): which scans each row means, and what its other columns say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medres.data.findings import Finding
from medres.data.missing_words import is_blank, is_missing
from medres.data.sources.columns import PATIENT_COLUMNS, find_column
from medres.data.sources.delimited import Row, TextTable, read_table
from medres.data.sources.disk import Disk
from medres.data.sources.draft import Draft, Options
from medres.data.sources.items import Item, Stock, ids_of_items
from medres.data.sources.joining import join_rows
from medres.data.sources.mask_files import listed_masks
from medres.data.sources.problems import found
from medres.data.sources.rows import Match, Problem, label_scans
from medres.data.sources.scan_files import absolute, kind_of_file, relative_name
from medres.data.sources.table_columns import Columns, find_columns
from medres.data.spelling import hint_of
from medres.data.wording import first_of
from medres.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TableUse:
    """How a table is to be read.

    Args:
        root: Folder that its paths are relative to.
        search: Whether all that lies below the root belongs to the data: scans that no row names are findings.
        labelled: Whether it must have labels.
        source: What to call it; its name where empty.
        names_root: Folder that sample ids are relative to; None: the root.
        each_row: Whether each row is asked for by itself, as in prediction: what is wrong with it is told of it alone.
    """

    root: Path
    search: bool = False
    labelled: bool = True
    source: str = ""
    names_root: Path | None = None
    each_row: bool = False


@dataclass(frozen=True, kw_only=True)
class MatchedTable:
    """The scans of a table's rows, before labels are looked at.

    Args:
        columns: Which columns have a meaning.
        matches: One or more a row, in the order of the rows.
        disk: What the cells name.
        notes: By which column the scans were found.
    """

    columns: Columns
    matches: tuple[Match, ...]
    disk: Disk
    notes: tuple[str, ...] = ()


def read_label_table(path: Path, *, root: Path, options: Options, search_root: bool) -> Draft:
    """Read a table of labels.

    Args:
        path: The table.
        root: Folder that its paths are relative to.
        options: Columns that the user named.
        search_root: Whether to look for scans below the root that the table does not name.

    Raises:
        DataError: It is no table, has no column of labels, or its rows mean no files at all.
    """
    return draft_of_table(read_table(path), options, TableUse(root=root, search=search_root))


def draft_of_table(table: TextTable, options: Options, use: TableUse) -> Draft:
    """Return the scans of a table of any origin.

    Raises:
        DataError: It has no column of labels, or its rows mean no files at all.
    """
    matched = match_rows(table, options, use)
    columns, matches, disk = matched.columns, matched.matches, matched.disk
    labelled = label_scans(table, columns, matches, use.names_root or use.root)
    listed = listed_masks(labelled.scans, table.path.name, use.root)
    stock = disk.stock() if use.search or any(match.item.header_id or match.item.study for match in matches) else None
    by_header = not columns.patient and options.patient_pattern is None and not any(m.patient_id for m in matches)
    return Draft(
        root=use.root,
        source=_source(use.source or table.path.name, matches),
        scans=labelled.scans,
        notes=table.notes + columns.notes + matched.notes + (stock.notes if stock else ()),
        unit_column=columns.unit,
        findings=labelled.findings + listed + _of_stock(stock, matches, table, search=use.search, by_header=by_header),
        headers=labelled.headers if stock and stock.headers.finding is None and not by_header else {},
    )


def match_rows(table: TextTable, options: Options, use: TableUse) -> MatchedTable:
    """Return the scans that each row of a table means.

    Raises:
        DataError: A column that was named is not there, or the rows cannot be joined to files; unless `each_row`,
            also where rows name no file.
    """
    disk = Disk(table, use.root, options, whole=use.search, many=use.labelled)
    columns = find_columns(table, options, lambda row, name: disk.path(row, name) is not None, labelled=use.labelled)
    if columns.path is None and not columns.sequences:
        disk = Disk(table, use.root, options, whole=True, many=use.labelled)
        matches, how = _joined(table, columns, disk, options.patient_pattern)
    else:
        matches, how = _named(table, columns, disk, each_row=use.each_row), ()
    matches = [with_mask(table, columns, match, disk) for match in matches]
    return MatchedTable(columns=columns, matches=tuple(matches), disk=disk, notes=how)


def _of_stock(
    stock: Stock | None, matches: Sequence[Match], table: TextTable, *, search: bool, by_header: bool
) -> tuple[Finding, ...]:
    """Return what is wrong with the files as a whole: some are in no row, headers do not tell patients apart."""
    if stock is None:
        return ()
    shared = stock.headers.finding
    used = by_header and any(match.item.header_id or match.item.study for match in matches)
    # a row that names a file means it; one that names a patient, whatever lies in his folder
    meant = {match.item.path for match in matches if match.patient_id}
    masks = stock.masks.used(masks=_named_files(matches), scans=meant).findings(stock.root)
    return (_not_listed(stock, matches, table) if search else ()) + masks + ((shared,) if shared and used else ())


def _source(name: str, matches: Sequence[Match]) -> str:
    return f"{name} of DICOM studies" if matches and all(match.item.study for match in matches) else name


def _joined(table: TextTable, columns: Columns, disk: Disk, pattern: str | None) -> tuple[list[Match], tuple[str, ...]]:
    """Return the scans of the rows, and by which column they were found."""
    patients = columns.patient or (find_column(table, PATIENT_COLUMNS) if pattern is not None else None)
    rows = join_rows(table, patient_column=patients, stock=disk.stock(), pattern=pattern)
    matches = []
    for position, joined in enumerate(rows):
        problems: tuple[Problem, ...] = ()
        items: Sequence[Item] = joined.items
        if joined.problem:
            items = [Item(path=absolute(disk.root / (joined.key or "?")), name=joined.key or "?")]
            problems = (("file-missing", joined.problem, "Correct the id, or leave this row out."),)
        matches += [
            Match(position=position, item=item, patient_id=joined.patient_id, problems=problems) for item in items
        ]
    if not rows:
        return matches, ()
    what = "names patients, whose scans its rows label" if any(row.patient_id for row in rows) else "names the scans"
    return matches, (f"There is no column of paths: '{rows[0].column}' {what}.",)


def _named(table: TextTable, columns: Columns, disk: Disk, *, each_row: bool) -> list[Match]:
    wanted = list(columns.sequences.values()) or [columns.path or ""]
    paths = [{column: disk.path(row, column) for column in wanted} for row in table.rows]
    if not each_row:
        _refuse_blank(table, wanted)
        _refuse_all_missing(table, wanted, [path for row in paths for path in row.values()], disk)
    if not columns.sequences:
        named = {path for row in paths for path in row.values() if path}
        folders = {path for path in named if path.is_dir()}
        slices = {path for path in named - folders if kind_of_file(path) == "dicom"}
        if folders or slices:
            disk.stock(folders, slices)
        return [
            _match_of(table, position, columns, row[wanted[0]], wanted[0], disk) for position, row in enumerate(paths)
        ]
    return [_match_of_sequences(table, position, columns, row, disk) for position, row in enumerate(paths)]


def _match_of(table: TextTable, position: int, columns: Columns, path: Path | None, column: str, disk: Disk) -> Match:
    row = table.rows[position]
    member = row.text(columns.member) or None if columns.member else None
    if path is None:
        return Match(
            position=position, item=Item(path=_absent(row, column, disk), member=member),
            problems=(_missing(row, column, disk),),
        )  # fmt: skip
    named = disk.named(path, member)
    problems = ((named.code, named.problem, "Name the folder of one scan, or a file."),) if named.code else ()
    return Match(position=position, item=named.item, problems=problems)


def _match_of_sequences(
    table: TextTable, position: int, columns: Columns, paths: dict[str, Path | None], disk: Disk
) -> Match:
    row = table.rows[position]
    named = {name: column for name, column in columns.sequences.items() if not is_blank(row.text(column))}
    sequences = {name: paths[column] or _absent(row, column, disk) for name, column in named.items()}
    missing = [_missing(row, column, disk) for column in named.values() if paths[column] is None]
    blank = [name for name in columns.sequences if name not in named]
    problems: list[Problem] = list(missing)
    if blank:
        text = f"no image in {' and '.join(repr(columns.sequences[name]) for name in blank)}"
        problems.append(("sequence-missing", text, "Fill it in, or leave this row out."))
    first = next(iter(sequences.values()), disk.root)
    return Match(position=position, item=Item(path=first), sequences=sequences, problems=tuple(problems))


def with_mask(table: TextTable, columns: Columns, match: Match, disk: Disk) -> Match:
    """Return a match with the mask that its row names, or with the finding that it does not exist."""
    row = table.rows[match.position]
    if columns.mask is None or not row.text(columns.mask):
        return match
    path = disk.path(row, columns.mask)
    if path is None and is_blank(row.text(columns.mask)):
        return match
    if path is None:
        absent = _absent(row, columns.mask, disk)
        return replace(match, mask=absent, problems=(*match.problems, _missing(row, columns.mask, disk)))
    return replace(match, mask=path)


def _absent(row: Row, column: str, disk: Disk) -> Path:
    return absolute(disk.root / row.text(column).replace("\\", "/").replace("\0", ""))


def _file_name(row: Row, column: str) -> str:
    return row.text(column).replace("\\", "/").rpartition("/")[2]


def _missing(row: Row, column: str, disk: Disk) -> Problem:
    if not row.text(column):
        return "file-missing", f"no path in '{column}'", "Fill it in, or leave this row out."
    fix = f"Correct the path (it is relative to {disk.root}), or leave this row out."
    if alike := disk.alike(row, column):
        fix = f"Write it as the file is called: {hint_of(_file_name(row, column), alike)}."
    return "file-missing", f"'{row.text(column)}' does not exist", fix


def _refuse_blank(table: TextTable, columns: Sequence[str]) -> None:
    blank = [row.name for row in table.rows if all(is_missing(row.text(column)) for column in columns)]
    if blank:
        names = " or ".join(f"'{column}'" for column in columns)
        raise DataError(f"{table.path} has no {names} in row {first_of(blank)}.", fix="Fill it in.")


def _refuse_all_missing(table: TextTable, columns: Sequence[str], found: Sequence[Path | None], disk: Disk) -> None:
    if any(path is not None for path in found):
        return
    missing = [f"{row.text(column)} (row {row.name})" for row in table.rows for column in columns if row.text(column)]
    hints = (
        hint_of(_file_name(row, column), alike)
        for row in table.rows
        for column in columns
        if row.text(column) and (alike := disk.alike(row, column))
    )
    first = next(hints, "")
    case = f"{first}. " if first else ""
    raise DataError(
        f"{table.path} names {len(missing)} of {len(missing)} files that do not exist: {first_of(missing)}.",
        fix=f"{case}Correct the paths (they are relative to {disk.root}), or give the folder that they are relative to "
        "as --data.",
    )


def _not_listed(stock: Stock, matches: Sequence[Match], table: TextTable) -> tuple[Finding, ...]:
    """Return a finding for each scan below the root that no row names."""
    named, others = _named_files(matches), {path for match in matches for path in _beside(match)}
    left = [
        item for item in stock.items
        if not any(file in named for file in item.all_files)
        and not any(folder in others for folder in item.first_file.parents)
    ]  # fmt: skip
    return tuple(
        found(
            "file-not-listed",
            f"{relative_name(item.path, stock.root)}{_called(item, name)} is not in {table.path.name}: left out.",
            fix="Add a row for it, or take it out of the folder.",
            file=item.path,
        )
        for item, name in zip(left, ids_of_items(left, stock.root), strict=True)
    )


def _named_files(matches: Sequence[Match]) -> set[Path]:
    return {file for match in matches for file in (*match.item.all_files, *_beside(match))}


def _beside(match: Match) -> tuple[Path, ...]:
    return (*match.sequences.values(), *([match.mask] if match.mask else []))


def _called(item: Item, name: str) -> str:
    return f" (study {name})" if item.study else ""
