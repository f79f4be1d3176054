"""`list_scans`: any files and folders, without labels, as one sorted table of different scans, to be looked through."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medres.data.findings import Finding
from medres.data.readers.formats import SUPPORTED
from medres.data.sources.delimited import TABLE_SUFFIXES, WORKBOOK_SUFFIXES, read_table, workbook_refused
from medres.data.sources.draft import Options
from medres.data.sources.items import Item, Stock, ids_of_items, numbered_ids, take_stock
from medres.data.sources.label_table import TableUse, draft_of_table
from medres.data.sources.medmnist import SPLITS, member_scans, shapes_of
from medres.data.sources.names import names_not_text
from medres.data.sources.scan_files import FolderContent, absolute, kind_of_file, walk_scans
from medres.data.table import Scan, ScanTable
from medres.data.wording import first_of
from medres.errors import DataError


def list_scans(paths: Sequence[Path], *, series: str | None = None, sequences: Sequence[str] = ()) -> ScanTable:
    """Return the scans of files and folders, without labels; a file that is named twice is listed once.

    A folder is searched at any depth for scans; DICOM files in it, and DICOM files that are named one by one, become
    one scan a study. A file is taken whatever its suffix: its content decides when it is read. A table is read for
    its columns of paths (or ids), patients, sequences, masks and centres. A MedMNIST ``.npz`` gives its test images,
    which are what a model trained on the file may be asked about (all images where it has none).

    To be predicted, scans are listed in the order in which they are given: `scans_as_given`.

    Args:
        paths: At least one.
        series: Regular expression that chooses among the DICOM series of a study.
        sequences: Columns of images that become channels; they need a table.

    Raises:
        DataError: A path does not exist, or there is no scan at all.
        UsageError: ``series`` is no regular expression.
    """
    given = [absolute(Path(path)) for path in paths]
    missing = [path for path in given if not path.exists()]
    if missing:
        raise DataError(f"{len(missing)} of {len(given)} paths do not exist: {first_of(missing)}.", fix="Check them.")
    options = Options(series=series, sequences=tuple(sequences))
    root = root_of(given)
    listed = [_of_table(path, options, root) for path in given if is_table(path)]
    plain = [path for path in given if not is_table(path)]
    if plain:
        require_table_for(plain, options)
        listed.append(_of_files(plain, root, options))
    scans, findings = _once_each(listed)
    if not scans:
        raise DataError(f"{first_of(given)} holds no scans; looked for {SUPPORTED}.", fix="Check the path.")
    return ScanTable(
        root=root,
        scans=tuple(replace(scan, patient_id=scan.patient_id or scan.sample_id) for scan in scans),
        classes=(),
        source="files",
        notes=tuple(dict.fromkeys(note for part in listed for note in part.notes)),
        patients_given=all(scan.patient_id for scan in scans),
        findings=(*findings, *names_not_text(scans)),
    )


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """Scans of some of the paths, with ids relative to the root of all."""

    scans: tuple[Scan, ...]
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def is_table(path: Path) -> bool:
    """Return whether a file is a table by its suffix.

    Raises:
        DataError: It is a workbook.
    """
    if path.suffix.lower() in WORKBOOK_SUFFIXES:
        raise workbook_refused(path)
    return path.is_file() and path.suffix.lower() in TABLE_SUFFIXES


def require_table_for(plain: Sequence[Path], options: Options) -> None:
    """Refuse files and folders where several sequences are wanted.

    Raises:
        DataError: Naming the sequences.
    """
    if len(options.sequences) > 1:
        names = ", ".join(options.sequences)
        raise DataError(
            f"{first_of(plain, limit=3)}: which files are {names} of one scan cannot be told.",
            fix=f"Give a table (CSV) with the columns {names} and one row a scan.",
        )


def _of_table(path: Path, options: Options, root: Path) -> _Listed:
    use = TableUse(root=path.parent, labelled=False, names_root=root)
    draft = draft_of_table(read_table(path), options, use)
    return _Listed(scans=draft.scans, notes=draft.notes, findings=draft.findings)


def _of_files(plain: Sequence[Path], root: Path, options: Options) -> _Listed:
    folders = [path for path in plain if path.is_dir()]
    single = [path for path in plain if not path.is_dir() and not any(folder in path.parents for folder in folders)]
    archives = [path for path in single if path.suffix.lower() == ".npz"]
    loose = [path for path in single if path not in archives]
    outermost = [folder for folder in folders if not any(other in folder.parents for other in folders)]
    contents = [walk_scans(folder) for folder in outermost]  # what was named as two folders is not one study
    stocks = [take_stock(root, content=content, pattern=options.series, many=False) for content in contents]
    items = [item for stock in stocks for item in stock.items] + _loose(loose, root, options)
    scans = [scan for path in archives for scan in _of_archive(path, root)]
    findings = [finding for stock in stocks for finding in stock.masks.findings(root)]
    for sample_id, item in zip(ids_of_items(items, root), items, strict=True):
        scans.append(item.scan(sample_id, patient_id=item.patient_id))
        findings += item.findings(sample_id)
    return _Listed(scans=tuple(scans), notes=_stock_notes(stocks), findings=tuple(findings))


def _loose(files: Sequence[Path], root: Path, options: Options) -> list[Item]:
    """Return the scans of files that were named one by one: slices become studies, other files are scans."""
    slices = tuple(sorted({path for path in files if kind_of_file(path) == "dicom"}))
    if len(slices) < 2:  # one file is what was asked for, whatever it holds
        return [Item(path=path) for path in dict.fromkeys(files)]
    content = FolderContent(
        scans=tuple(sorted(set(files) - set(slices))), num_hidden=0, unsupported=(), dicom=slices
    )  # fmt: skip
    stock = take_stock(root, content=content, pattern=options.series, many=False)
    return [*stock.items, *(Item(path=path) for path in stock.content.unsupported)]


def _stock_notes(stocks: Sequence[Stock]) -> tuple[str, ...]:
    return tuple(note for stock in stocks for note in (*stock.content.note(), *stock.notes))


def _of_archive(path: Path, root: Path) -> list[Scan]:
    items = items_of_archive(path)
    ids = ids_of_items(items, root)
    return [item.scan(sample_id) for item, sample_id in zip(items, ids, strict=True)]


def items_of_archive(path: Path) -> list[Item]:
    """Return the images of an ``.npz``, of MedMNIST those of the test split; the file itself where it is another one.

    Raises:
        DataError: It is no ``.npz``; naming the file.
    """
    shapes = shapes_of(path)
    splits = [split for split in SPLITS if f"{split}_images" in shapes]
    return [
        Item(path=path, member=scan.member)
        for split in [split for split in splits if split == "test"] or splits
        for scan in member_scans(path, split, shapes[f"{split}_images"][0])
    ] or [Item(path=path)]


def _once_each(listed: Sequence[_Listed]) -> tuple[list[Scan], list[Finding]]:
    """Return scans that were named twice once, with ids that are unique over all paths."""
    unique: dict[object, tuple[Scan, _Listed]] = {}
    for part in listed:
        for scan in part.scans:
            key = (scan.path, scan.member, scan.files, scan.mask, scan.center_ras_mm, tuple(scan.sequences.items()))
            unique.setdefault(key, (scan, part))
    ordered = sorted(unique.values(), key=lambda pair: (pair[0].sample_id, str(pair[0].path)))
    ids = numbered_ids([scan.sample_id for scan, _ in ordered])
    scans = [replace(scan, sample_id=name) for name, (scan, _) in zip(ids, ordered, strict=True)]
    names = {(id(part), scan.sample_id): name for name, (scan, part) in zip(ids, ordered, strict=True)}
    findings = []
    for part in listed:
        for finding in part.findings:
            if finding.sample_id is None or (id(part), finding.sample_id) in names:
                name = finding.sample_id and names[id(part), finding.sample_id]
                findings.append(finding.model_copy(update={"sample_id": name}))
    return scans, findings


def root_of(given: Sequence[Path]) -> Path:
    """Return the deepest folder above all paths; of a folder alone, itself."""
    folders = [path if os.path.isdir(path) else path.parent for path in given]
    return Path(os.path.commonpath(folders))
