"""`Disk`: what the cells of a table name, looked up once a table."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medres.data.sources.delimited import Row, TextTable
from medres.data.sources.draft import Options
from medres.data.sources.items import Item, Stock, item_of, take_stock
from medres.data.sources.scan_files import FolderContent, absolute, walk_scans
from medres.data.spelling import lookalike_key
from medres.data.wording import counted, first_of


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a cell names.

    Args:
        item: The scan; its path may not exist.
        code: Code of the finding where something is wrong, or empty.
        problem: What is wrong, as the rest of a sentence about the cell.
    """

    item: Item
    code: str = ""
    problem: str = ""


class Disk:
    """The files that a table is about.

    Args:
        table: The table.
        root: Folder that its paths are relative to; where they are not there, its own folder counts.
        options: `Options.series` chooses among series.
        whole: Whether all that lies below the root belongs to the data.
        many: Whether this is a data set (see `take_stock`).
    """

    def __init__(self, table: TextTable, root: Path, options: Options, *, whole: bool, many: bool = True) -> None:
        self.root = root
        self._folders = (root, absolute(table.path.parent))
        self._options = options
        self._whole = whole
        self._many = many
        self._stock: Stock | None = None
        self._by_file: dict[Path, Item] = {}
        self._names: dict[Path, dict[str, list[str]]] = {}
        self._by_folder: defaultdict[Path, list[Item]] = defaultdict(list)

    def path(self, row: Row, column: str) -> Path | None:
        """Return the file or folder that a cell names, or None."""
        text = row.text(column)
        if not text:
            return None
        spellings = [text, text.replace("\\", "/"), row.cells[column]]
        # macOS writes accents as two characters, others as one: the same name on the screen, another on the disk
        spellings += [unicodedata.normalize(form, spelling) for form in ("NFC", "NFD") for spelling in spellings[:2]]
        candidates = (absolute(folder / spelling) for folder in self._folders for spelling in dict.fromkeys(spellings))
        return next((path for path in candidates if _exists(path)), None)

    def alike(self, row: Row, column: str) -> list[str]:
        """Return the names of files that a cell would name but for case, leading zeros and the like."""
        path = absolute(self.root / row.text(column).replace("\\", "/").replace("\0", ""))
        if path.parent not in self._names:
            names = self._names[path.parent] = defaultdict(list)
            try:
                for name in sorted(os.listdir(path.parent)):
                    names[lookalike_key(name)].append(name)
            except OSError:  # there is no such folder
                pass
        return self._names[path.parent].get(lookalike_key(path.name), [])

    def stock(self, folders: Iterable[Path] = (), slices: Iterable[Path] = ()) -> Stock:
        """Return all scans below the root, or below the folders that a table names; looked up once.

        Args:
            folders: Folders that belong to the data as well, where the root does not as a whole.
            slices: DICOM files that belong to it as well.
        """
        if self._stock is None:
            wanted = ({self.root} if self._whole else set()) | set(folders)
            outermost = sorted(folder for folder in wanted if not any(other in wanted for other in folder.parents))
            content = _merged([walk_scans(folder) for folder in outermost])
            content = replace(content, dicom=tuple(sorted({*content.dicom, *slices})))
            self._stock = take_stock(self.root, content=content, pattern=self._options.series, many=self._many)
        return self._stock

    def named(self, path: Path, member: str | None) -> Named:
        """Return the scan at a path: a file, or the one scan in a folder."""
        if not path.is_dir():
            return Named(item=self._file(path, member))
        inside = [_restricted(item, path, self._options.series) for item in self._below(path)]
        if member is not None:
            inside = [named for item in inside if (named := _series_named(item, member)) is not None]
        if len(inside) == 1:
            return Named(item=inside[0])
        problem, code = _not_one(inside, member)
        return Named(item=Item(path=path), code=code, problem=problem)

    def _file(self, path: Path, member: str | None) -> Item:
        """Return the scan that is a file; of a DICOM file the header says whose it is."""
        if self._stock is not None and not self._by_file:
            self._by_file = {file: item for item in self._stock.items if item.study for file in item.all_files}
        study = self._by_file.get(path)
        if study is None:
            return Item(path=path, member=member)
        return Item(path=path, member=member, patient_id=study.patient_id, header_id=study.header_id)

    def _below(self, folder: Path) -> Sequence[Item]:
        if not self._by_folder:
            for item in self.stock().items:
                for parent in {above for file in item.all_files for above in file.parents}:
                    self._by_folder[parent].append(item)
        return self._by_folder.get(folder, ())


def _not_one(inside: Sequence[Item], member: str | None) -> tuple[str, str]:
    if not inside:
        return ("holds no scan" if member is None else "does not hold the series that is named"), "no-series"
    patients = {item.header_id for item in inside if item.study is not None}
    names = first_of([item.first_file.name for item in inside], limit=3)
    if len(patients) > 1:
        return f"holds scans of {len(patients)} patients ({names})", "several-patients"
    return f"holds {counted(len(inside), 'scan')} ({names})", "several-series"


def _restricted(item: Item, folder: Path, pattern: str | None) -> Item:
    """Return what of a study lies in a folder: a row that names the folder of one series means that series."""
    study = item.study
    if study is None:
        return item
    series = tuple(one for one in study.series if one.folder.is_relative_to(folder))
    if len(series) in (0, len(study.series)):
        return item
    from medres.data.readers.dicom import choose_series

    choice = choose_series(series, pattern=pattern)
    part = replace(
        study, series=series, chosen=choice.chosen, reason=choice.reason, problem=choice.problem, folder=folder,
        name=study.name and f"{study.name}/{folder.name}",
    )  # fmt: skip
    return item_of(part, patient_id=item.patient_id)


def _series_named(item: Item, member: str) -> Item | None:
    if item.study is None:
        return None
    series = next((one for one in item.study.series if one.key == member), None)
    if series is None or series is item.study.chosen:
        return item if series is not None else None
    return item_of(replace(item.study, series=(series,), chosen=series), patient_id=item.patient_id)


def _merged(contents: Sequence[FolderContent]) -> FolderContent:
    return FolderContent(
        scans=tuple(sorted(path for content in contents for path in content.scans)),
        num_hidden=sum(content.num_hidden for content in contents),
        unsupported=tuple(sorted(path for content in contents for path in content.unsupported)),
        dicom=tuple(sorted(path for content in contents for path in content.dicom)),
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a cell that is no path: far too long, or with a null character
        return False
