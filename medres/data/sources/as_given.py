"""`scans_as_given`: what is to be predicted, one row for each thing that was given, in the order of the giving."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medres.data.findings import Finding
from medres.data.readers.formats import SUPPORTED
from medres.data.sources.delimited import read_table
from medres.data.sources.draft import Options
from medres.data.sources.items import Item, ids_of_items, item_of, numbered_ids, take_stock
from medres.data.sources.label_table import TableUse, match_rows
from medres.data.sources.problems import found
from medres.data.sources.rows import RowScan, scans_of_rows
from medres.data.sources.scan_files import FolderContent, absolute, kind_of_file, walk_scans
from medres.data.sources.studies import Study
from medres.data.sources.unlabelled import is_table, items_of_archive, require_table_for, root_of
from medres.data.spelling import visible
from medres.data.table import Scan
from medres.data.wording import counted
from medres.errors import DataError, UnreadableScanError

if TYPE_CHECKING:
    from medres.data.readers.dicom import DicomSeries


@dataclass(frozen=True, kw_only=True)
class GivenScan:
    """One row to be answered.

    Args:
        scan: The scan; its path may not exist.
        given: What it belongs to: the path as it was written, of a table with the row.
        file: Its file, spelled as it was given where it was given by itself.
        findings: What is wrong with it, or was decided about it.
        notes: What else its answer should say.
    """

    scan: Scan
    given: str
    file: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def problem(self) -> UnreadableScanError | None:
        """Why it cannot be read, or None."""
        error = next((finding for finding in self.findings if finding.severity == "error"), None)
        return None if error is None else UnreadableScanError(error.value, fix=error.fix, code=error.code)

    @property
    def said(self) -> tuple[str, ...]:
        """What was decided about it, as sentences."""
        return (*self.notes, *(f"{one.code}: {one.value}" for one in self.findings if one.severity != "error"))

    @property
    def identity(self) -> Hashable:
        """Equal for rows that ask for the same scan."""
        scan = self.scan
        return (scan.path, scan.member, scan.files, scan.mask, scan.center_ras_mm, tuple(scan.sequences.items()))

    @property
    def question(self) -> Hashable:
        """Equal for rows that have the same answer: one scan may be named by a good row of a table and by a bad one."""
        return (self.identity, str(self.problem or ""))


def scans_as_given(
    paths: Sequence[Path | str],
    *,
    series: str | None = None,
    sequences: Sequence[str] = (),
    stacks: bool = True,
    tell: Callable[[Finding], object] = lambda finding: None,
) -> tuple[GivenScan, ...]:
    """Return a row for each path, in the order given; what is given twice is there twice.

    - A file is one row, whatever its suffix: its content decides when it is read.
    - A folder stands for the scans in it at any depth, in sorted order, at its place; DICOM files in it are one scan a
      study. A folder without a scan is one row, refused.
    - A table (CSV) stands for its rows, in their order; an ``.npz`` for its images, of MedMNIST for the test images.
    - DICOM files that are named one by one are a row each. Where several of them are slices of one series, each of
      their rows asks for that series (``stacks``), and says so.
    - What does not exist, or is no scan, is a row whose findings say so: nothing is raised for one path, since the
      others are to be answered.

    Args:
        paths: Files, folders and tables; none gives no row.
        series: Regular expression that chooses among the DICOM series of a study.
        sequences: Columns of images that become channels; several need a table.
        stacks: Whether slices that were named one by one are put together; False for models of single images.
        tell: Called with each finding about files in folders that are no scans: masks beside their images.

    Raises:
        UsageError: ``series`` is no regular expression.
    """
    options = Options(series=series, sequences=tuple(sequences))
    given = [_Given(written=str(path), path=_located(Path(path))) for path in paths]
    if not given:
        return ()
    root = root_of([one.path for one in given if visible(one.written)] or [Path.cwd()])
    slices = _Slices([one.path for one in given], root, options) if stacks else None
    rows = [row for one in given for row in _rows_of(one, root, options, slices, tell)]
    return tuple(_uniquely_named(_named_by_files(rows, root)))


@dataclass(frozen=True, kw_only=True)
class _Given:
    """One path as it was written, and where it is."""

    written: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row before it has an id: what a path stands for, or a row of a table, which has its own."""

    given: str
    file: str
    item: Item
    in_table: RowScan | None = None
    notes: tuple[str, ...] = ()
    refusal: DataError | None = None


class _Slices:
    """DICOM files that were named one by one, and which of them are slices of one series."""

    def __init__(self, paths: Sequence[Path], root: Path, options: Options) -> None:
        files = tuple(sorted({path for path in paths if os.path.isfile(path) and kind_of_file(path) == "dicom"}))
        self._series: dict[Path, Item] = {}
        if len(files) < 2:  # one file is what was asked for, whatever it holds
            return
        content = FolderContent(scans=(), num_hidden=0, unsupported=(), dicom=files)
        for study in take_stock(root, content=content, pattern=options.series, many=False).studies:
            for series in study.series:
                if len(series.files) > 1:
                    item = item_of(_only(study, series, options), patient_id=study.patient_id)
                    self._series |= dict.fromkeys(series.files, item)

    def of(self, path: Path) -> Item | None:
        """Return the series that a file is a slice of, or None where it stands for itself."""
        return self._series.get(path)


def _only(study: Study, series: DicomSeries, options: Options) -> Study:
    """Return a study of one series: it was named, so that no other one is looked at."""
    from medres.data.readers.dicom import choose_series

    choice = choose_series((series,), pattern=options.series)
    return replace(study, series=(series,), chosen=choice.chosen, reason=choice.reason, problem=choice.problem)


def _located(path: Path) -> Path:
    """Return the absolute path; ``..`` behind a link leads elsewhere than its text says, and is followed."""
    short, written = absolute(path), path.absolute()
    if ".." not in written.parts or os.path.realpath(short) == os.path.realpath(written):
        return short
    return Path(os.path.realpath(written))


def _rows_of(
    one: _Given, root: Path, options: Options, slices: _Slices | None, tell: Callable[[Finding], object]
) -> list[_Row]:
    """Return the rows of one path; what is wrong with it as a whole is one refused row."""
    try:
        if not visible(one.written):  # Python takes an empty path for the folder one is in
            raise UnreadableScanError("Nothing stands in the place of a path.", fix="Give a path.", code="file-missing")
        if not one.path.exists():
            raise UnreadableScanError(f"{one.written} does not exist.", fix="Check the path.", code="file-missing")
        if is_table(one.path):
            return _of_table(one, root, options)
        require_table_for([one.path], options)
        if one.path.is_dir():
            return _of_folder(one, root, options, tell)
        return _of_archive(one) if one.path.suffix.lower() == ".npz" else [_of_file(one, slices)]
    except DataError as error:
        return [_refused(one, error)]
    except (OSError, ValueError) as error:  # a path that cannot even be looked up: too long, or a loop of links
        problem = f"{one.written!r} cannot be looked up: {error}."
        return [_refused(one, UnreadableScanError(problem, fix="Check the path.", code="file-missing"))]


def _of_table(one: _Given, root: Path, options: Options) -> list[_Row]:
    """Return a row for each row; one that names a slice means that slice alone, as in training."""
    table = read_table(one.path)
    use = TableUse(root=one.path.parent, labelled=False, names_root=root, each_row=True)
    try:
        matched = match_rows(table, options, use)
        rows = scans_of_rows(table, matched.columns, matched.matches, root)
    except DataError as error:  # wrong as a whole: each row was asked for, each is answered
        return [replace(_refused(one, error), given=f"{one.written}, row {row.name}") for row in table.rows]
    return [
        _Row(given=f"{one.written}, row {row.row}", file=str(row.scan.path), item=Item(path=one.path), in_table=row)
        for row in rows
    ]


def _of_folder(one: _Given, root: Path, options: Options, tell: Callable[[Finding], object]) -> list[_Row]:
    stock = take_stock(root, content=walk_scans(one.path), pattern=options.series, many=False)
    items = stock.items
    for finding in stock.masks.findings(root):
        tell(finding)
    if not items:
        problem = f"{one.written} holds no scans; looked for {SUPPORTED}."
        raise UnreadableScanError(problem, fix="Check the path.", code="file-missing")
    below = (os.path.relpath(item.path, one.path) for item in items)
    return [
        _Row(given=one.written, file=os.path.normpath(Path(one.written, name)), item=item)
        for item, name in zip(items, below, strict=True)
    ]


def _of_archive(one: _Given) -> list[_Row]:
    return [_Row(given=one.written, file=one.written, item=item) for item in items_of_archive(one.path)]


def _of_file(one: _Given, slices: _Slices | None) -> _Row:
    series = slices.of(one.path) if slices else None
    if series is None:
        return _Row(given=one.written, file=one.written, item=Item(path=one.path))
    count = counted(len(series.all_files), "slice")
    note = f"This file is one of {count} that were named one by one: the answer is that of their series."
    return _Row(given=one.written, file=one.written, item=series, notes=(note,))


def _refused(one: _Given, error: DataError) -> _Row:
    return _Row(given=one.written, file=one.written, item=Item(path=one.path), refusal=error)


def _named_by_files(rows: Sequence[_Row], root: Path) -> Iterator[GivenScan]:
    ids = ids_of_items([row.item for row in rows], root)
    for row, sample_id in zip(rows, ids, strict=True):
        if row.in_table is not None:
            scan, findings = row.in_table.scan, row.in_table.findings
        else:
            scan = row.item.scan(sample_id, patient_id=row.item.patient_id)
            findings = (*row.item.findings(sample_id), *_refusal(row, sample_id))
        yield GivenScan(scan=scan, given=row.given, file=row.file, findings=findings, notes=row.notes)


def _refusal(row: _Row, sample_id: str) -> tuple[Finding, ...]:
    error = row.refusal
    if error is None:
        return ()
    code = error.code if isinstance(error, UnreadableScanError) else "unreadable"
    return (found(code, error.problem, fix=error.fix, sample_id=sample_id, file=row.item.path),)


def _uniquely_named(rows: Iterator[GivenScan]) -> Iterator[GivenScan]:
    """Yield rows whose ids tell different scans apart; the same scan has the same id, however often it is given."""
    known = list(rows)
    first: dict[Hashable, str] = {}
    for row in known:
        first.setdefault(row.identity, row.scan.sample_id)
    ordered = sorted(first, key=lambda identity: (first[identity], repr(identity)))
    names = dict(zip(ordered, numbered_ids([first[identity] for identity in ordered]), strict=True))
    for row in known:
        yield replace(row, scan=replace(row.scan, sample_id=names[row.identity]))
