"""`list_scans`: any files and folders, without labels, for prediction."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from medres.data.readers.formats import SUPPORTED
from medres.data.sources.columns import PATH_COLUMNS, PATIENT_COLUMNS, find_column, ids_of
from medres.data.sources.delimited import TABLE_SUFFIXES, read_table
from medres.data.sources.label_table import existing_files
from medres.data.sources.medmnist import SPLITS, member_scans, shapes_of
from medres.data.sources.scan_files import absolute, relative_name, sample_ids, walk_scans
from medres.data.table import Scan, ScanTable
from medres.data.wording import first_of
from medres.errors import DataError


def list_scans(paths: Sequence[Path]) -> ScanTable:
    """Return the scans of files and folders, without labels; a file that is named twice is listed once.

    A folder is searched at any depth for the suffixes of scans. A file is taken whatever its suffix: its content
    decides when it is read. A table is read for its column of paths (and of patients). A MedMNIST ``.npz`` gives its
    test images, which are what a model trained on the file may be asked about (all images where it has none).

    Args:
        paths: At least one.

    Raises:
        DataError: A path does not exist, or there is no scan at all.
    """
    given = [absolute(Path(path)) for path in paths]
    missing = [path for path in given if not path.exists()]
    if missing:
        raise DataError(f"{len(missing)} of {len(given)} paths do not exist: {first_of(missing)}.", fix="Check them.")
    found = {(scan.path, scan.member): scan for path in given for scan in _scans_of(path)}
    if not found:
        raise DataError(f"{first_of(given)} holds no scans; looked for {SUPPORTED}.", fix="Check the path.")
    root = _root(given)
    scans = sorted(_identified(list(found.values()), root), key=lambda scan: scan.sample_id)
    patients_given = all(scan.patient_id for scan in scans)
    return ScanTable(
        root=root,
        scans=tuple(replace(scan, patient_id=scan.patient_id or scan.sample_id) for scan in scans),
        classes=(),
        source="files",
        notes=tuple(note for path in given if path.is_dir() for note in walk_scans(path).note()),
        patients_given=patients_given,
    )


def _scans_of(path: Path) -> Iterator[Scan]:
    if path.is_dir():
        yield from (_scan(file) for file in walk_scans(path).scans)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        yield from _scans_of_table(path)
    elif path.suffix.lower() == ".npz":
        yield from _scans_of_archive(path)
    else:
        yield _scan(path)


def _scan(path: Path, patient_id: str = "") -> Scan:
    return Scan(sample_id="", patient_id=patient_id, path=path)


def _scans_of_table(path: Path) -> Iterator[Scan]:
    table = read_table(path)
    column = find_column(table, PATH_COLUMNS)
    if column is None:
        raise DataError(f"{path} has no column 'path'; it has {', '.join(table.columns)}.", fix="Add one.")
    patient_column = find_column(table, PATIENT_COLUMNS)
    patients = ids_of(table, patient_column) if patient_column else [""] * len(table.rows)
    for file, patient in zip(existing_files(table, column, path.parent), patients, strict=True):
        yield _scan(file, patient)


def _scans_of_archive(path: Path) -> Iterator[Scan]:
    shapes = shapes_of(path)
    splits = [split for split in SPLITS if f"{split}_images" in shapes]
    if not splits:
        yield _scan(path)
    for split in [split for split in splits if split == "test"] or splits:
        yield from member_scans(path, split, shapes[f"{split}_images"][0])


def _identified(scans: Sequence[Scan], root: Path) -> list[Scan]:
    ids = sample_ids([(relative_name(scan.path, root), scan.member) for scan in scans])
    return [replace(scan, sample_id=sample_id, split=None) for scan, sample_id in zip(scans, ids, strict=True)]


def _root(given: Sequence[Path]) -> Path:
    folders = [path if path.is_dir() else path.parent for path in given]
    return Path(os.path.commonpath(folders))
