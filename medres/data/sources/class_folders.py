"""A folder of class folders, or of ``train``, ``val`` and ``test`` folders that hold class folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medres.data.findings import Finding
from medres.data.readers.formats import SUPPORTED
from medres.data.sources.columns import split_of
from medres.data.sources.delimited import TABLE_SUFFIXES
from medres.data.sources.draft import Draft, Options
from medres.data.sources.items import Item, Stock, ids_of_items, take_stock
from medres.data.sources.scan_files import FolderContent, relative_name, walk_scans
from medres.data.table import Scan, Split
from medres.data.wording import counted, first_of
from medres.errors import DataError, NoLabelsError

_ARRANGE = (
    "Arrange the data as one folder a class (scans/benign/*.nii.gz, scans/malignant/*.nii.gz), "
    "or put a labels.csv with the columns path,label beside the scans."
)

# names of files that say that a folder has labels
_SAYS_LABELS = ("labels", "participants", "dataset_description")


def read_class_folders(root: Path, options: Options) -> Draft:
    """Read a folder of class folders of any depth; where all of them are splits, the folders below are the classes.

    DICOM files below a class are studies, whatever folders they lie in: one scan each (see `studies`).

    Raises:
        NoLabelsError: There are no class folders, and nothing else says that there are labels.
        DataError: There are no scans, or something does.
    """
    content = walk_scans(root)
    names = [PurePosixPath(relative_name(path, root)) for path in content.files]
    if not names:
        _refuse_without_scans(root, content)
    splits = _split_folders(root, names)
    depth = 2 if splits else 1  # folders that carry a meaning: split/class or class
    if all(len(name.parts) <= depth for name in names):
        problem = f"{root} holds {counted(len(names), 'scan')}, but no class folders and no labels.csv."
        raise _no_labels(root, content, splits)(problem, fix=_ARRANGE)
    stock = take_stock(root, content=_below_classes(content, root, depth), depth=depth, pattern=options.series)
    items = [item for item in stock.items if _parts(item, root)[depth:] or item.is_folder]
    if not items:
        _refuse_without_scans(root, stock.content)
    scans, findings = _scans(items, root, splits)
    findings += stock.masks.findings(root)
    kind = _no_labels(root, content, splits)
    _refuse_one_class(root, scans, content, num_masks=len(stock.masks.images), kind=kind)
    if stock.headers.finding and options.patient_pattern is None:
        findings += (stock.headers.finding,)
    return Draft(
        root=root,
        source="class folders of DICOM studies" if all(item.study for item in items) else "class folders",
        scans=scans,
        notes=_notes(root, content, stock, depth, scans),
        findings=findings,
        headers=_headers(items, scans) if options.patient_pattern and stock.headers.finding is None else {},
    )


def _below_classes(content: FolderContent, root: Path, depth: int) -> FolderContent:
    def inside(path: Path) -> bool:
        return len(PurePosixPath(relative_name(path, root)).parts) > depth

    return FolderContent(
        scans=tuple(filter(inside, content.scans)), num_hidden=content.num_hidden, unsupported=content.unsupported,
        dicom=tuple(filter(inside, content.dicom)),
    )  # fmt: skip


def _parts(item: Item, root: Path) -> tuple[str, ...]:
    return PurePosixPath(relative_name(item.path, root)).parts


def _scans(
    items: Sequence[Item], root: Path, splits: Mapping[str, Split]
) -> tuple[tuple[Scan, ...], tuple[Finding, ...]]:
    scans: list[Scan] = []
    findings: list[Finding] = []
    for sample_id, item in zip(ids_of_items(items, root), items, strict=True):
        parts = _parts(item, root)
        scan = item.scan(sample_id, patient_id=item.patient_id)
        scans.append(replace(scan, label=parts[1] if splits else parts[0], split=splits.get(parts[0])))
        findings += item.findings(sample_id)
    return tuple(scans), tuple(findings)


def _headers(items: Sequence[Item], scans: Sequence[Scan]) -> dict[str, str]:
    pairs = zip(items, scans, strict=True)
    return {scan.sample_id: item.header_id for item, scan in pairs if item.header_id}


def _notes(root: Path, content: FolderContent, stock: Stock, depth: int, scans: Sequence[Scan]) -> tuple[str, ...]:
    outside = [path for path in content.files if len(PurePosixPath(relative_name(path, root)).parts) <= depth]
    files = [PurePosixPath(relative_name(path, root)) for path in stock.content.scans]
    unknown = sum(not scan.patient_id for scan in scans)
    notes = stock.content.note() + _outside_note([relative_name(path, root) for path in outside])
    notes += stock.notes + _nesting_note(files, depth)
    if 0 < unknown < len(scans):
        text = f"{'names' if unknown == 1 else 'name'} no patient: each is taken as its own; give --patient-pattern."
        notes += (f"{counted(unknown, 'scan')} of {len(scans)} {text}",)
    return notes


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


def _no_labels(root: Path, content: FolderContent, splits: Mapping[str, Split]) -> type[DataError]:
    """Return what folders without classes are: scans without labels, or a mistake where something speaks of labels."""
    files = (path for path in content.unsupported if path.parent == root and path.stem.lower() in _SAYS_LABELS)
    says = splits or any(path.suffix.lower() in (*TABLE_SUFFIXES, ".json") for path in files)
    return DataError if says else NoLabelsError


def _refuse_one_class(
    root: Path, scans: Sequence[Scan], content: FolderContent, *, num_masks: int, kind: type[DataError]
) -> None:
    labels = {scan.label for scan in scans}
    if len(labels) > 1:
        return
    tables = [path for path in content.unsupported if path.suffix.lower() in TABLE_SUFFIXES]
    hint = f" If {tables[0].name} holds the labels, name it with --labels." if tables else ""
    masks = f" ({counted(num_masks, 'mask')} of these scans left out)" if num_masks else ""
    problem = f"{root} holds one class folder with scans, '{labels.pop()}'{masks}; two are needed."
    raise kind(problem, fix=_ARRANGE + hint)


def _outside_note(outside: Sequence[str]) -> tuple[str, ...]:
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
