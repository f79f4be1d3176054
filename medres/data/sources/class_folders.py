"""A folder of class folders, or of ``train``, ``val`` and ``test`` folders that hold class folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from medres.data.readers.formats import SUPPORTED
from medres.data.sources.columns import split_of
from medres.data.sources.delimited import TABLE_SUFFIXES
from medres.data.sources.draft import Draft
from medres.data.sources.scan_files import FolderContent, relative_name, sample_ids, walk_scans
from medres.data.table import Scan, Split
from medres.data.wording import counted, first_of
from medres.errors import DataError

_ARRANGE = (
    "Arrange the data as one folder a class (scans/benign/*.nii.gz, scans/malignant/*.nii.gz), "
    "or put a labels.csv with the columns path,label beside the scans."
)


def read_class_folders(root: Path) -> Draft:
    """Read a folder of class folders of any depth; where all of them are splits, the folders below are the classes.

    Raises:
        DataError: There are no scans, or no class folders.
    """
    content = walk_scans(root)
    names = {path: PurePosixPath(relative_name(path, root)) for path in content.scans}
    if not names:
        _refuse_without_scans(root, content)
    splits = _split_folders(root, list(names.values()))
    depth = 2 if splits else 1  # folders that carry a meaning: split/class or class
    labelled = {path: name for path, name in names.items() if len(name.parts) > depth}
    if not labelled:
        raise DataError(
            f"{root} holds {counted(len(names), 'scan')}, but no class folders and no labels.csv.", fix=_ARRANGE
        )
    notes = content.note() + _outside_note(names, labelled) + _nesting_note(list(labelled.values()), depth)
    scans = _scans(labelled, splits)
    _refuse_one_class(root, scans, content)
    return Draft(root=root, source="class folders", scans=scans, notes=notes)


def _scans(labelled: Mapping[Path, PurePosixPath], splits: Mapping[str, Split]) -> tuple[Scan, ...]:
    ids = sample_ids([(name.as_posix(), None) for name in labelled.values()])
    return tuple(
        Scan(
            sample_id=sample_id,
            patient_id="",
            path=path,
            label=name.parts[1] if splits else name.parts[0],
            split=splits.get(name.parts[0]),
        )
        for sample_id, (path, name) in zip(ids, labelled.items(), strict=True)
    )


def _split_folders(root: Path, names: Sequence[PurePosixPath]) -> dict[str, Split]:
    """Return the split of every top folder; empty where the top folders are classes.

    Raises:
        DataError: Some top folders are splits, and others are not.
    """
    tops = sorted({name.parts[0] for name in names if len(name.parts) > 1})
    splits = {top: split for top in tops if (split := split_of(top))}
    if "train" not in splits.values():  # a class may be called "test"
        return {}
    others = [top for top in tops if top not in splits]
    if others:
        raise DataError(
            f"{root} mixes split folders ({first_of(list(splits))}) with others that hold scans ({first_of(others)}).",
            fix="Keep only train, val and test there, or only class folders.",
        )
    return splits


def _refuse_without_scans(root: Path, content: FolderContent) -> None:
    kinds = sorted({path.suffix.lower() or path.name for path in content.unsupported})
    found = (
        f" ({counted(len(content.unsupported), 'file')} of other kinds: {first_of(kinds, limit=5)})" if kinds else ""
    )
    raise DataError(f"{root} holds no scans{found}; looked for {SUPPORTED}.", fix=_ARRANGE)


def _refuse_one_class(root: Path, scans: Sequence[Scan], content: FolderContent) -> None:
    labels = {scan.label for scan in scans}
    if len(labels) > 1:
        return
    tables = [path for path in content.unsupported if path.suffix.lower() in TABLE_SUFFIXES]
    hint = f" If {tables[0].name} holds the labels, name it with --labels." if tables else ""
    raise DataError(f"{root} holds one class folder with scans, '{labels.pop()}'; two are needed.", fix=_ARRANGE + hint)


def _outside_note(names: Mapping[Path, PurePosixPath], labelled: Mapping[Path, PurePosixPath]) -> tuple[str, ...]:
    outside = [name for path, name in names.items() if path not in labelled]
    if not outside:
        return ()
    return (f"{counted(len(outside), 'scan')} outside the class folders were left out: {first_of(outside, limit=3)}.",)


def _nesting_note(names: Sequence[PurePosixPath], depth: int) -> tuple[str, ...]:
    """Return a hint where files lie in subfolders of their class that hold several: these may be patients."""
    by_folder: dict[PurePosixPath, int] = defaultdict(int)
    for name in names:
        if len(name.parts) > depth + 1:
            by_folder[PurePosixPath(*name.parts[: depth + 1])] += 1
    if max(by_folder.values(), default=0) < 2:
        return ()
    pattern = "^" + "[^/]+/" * depth + "([^/]+)/"
    example = next(iter(by_folder))
    return (f"Scans lie in subfolders such as {example}; if these are patients, give --patient-pattern '{pattern}'.",)
