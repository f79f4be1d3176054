"""`Item`: one scan on the disk, before a table or a folder says what it is. `Stock`: all of them below a folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medres.data.findings import Finding
from medres.data.sources.mask_files import MaskFiles, masks_among
from medres.data.sources.scan_files import FolderContent, relative_name, sample_ids, walk_scans
from medres.data.sources.studies import FoundStudies, HeaderPatients, Study, find_studies, is_patient_id
from medres.data.table import Scan
from medres.data.wording import counted
from medres.runs.parallel import map_in_threads


@dataclass(frozen=True, kw_only=True)
class Item:
    """One scan on the disk.

    Args:
        path: Its file; of a DICOM series, the folder (or zip file) of its files.
        member: Which image inside the file, or which series of the folder.
        files: The files of a DICOM series.
        name: What its sample id is made of where that is not its path.
        patient_id: Patient by the DICOM header (or by the folder that stands for it), or empty.
        header_id: Patient by the DICOM header, where headers tell patients apart, or empty.
        study: The DICOM study that it was chosen from, or None.
    """

    path: Path
    member: str | None = None
    files: tuple[Path, ...] = ()
    name: str = ""
    patient_id: str = ""
    header_id: str = ""
    study: Study | None = None

    @property
    def all_files(self) -> tuple[Path, ...]:
        """Every file that it covers, those of the series that were not chosen included."""
        return self.study.all_files if self.study else (self.files or (self.path,))

    @property
    def first_file(self) -> Path:
        """A file of it, whose path names its folders."""
        return self.files[0] if self.files else self.path

    @property
    def is_folder(self) -> bool:
        """Whether its path is the folder of several files."""
        several = self.study is not None and len(self.study.all_files) > 1
        return bool(self.files) or (self.study is not None and self.study.chosen is None and several)

    @property
    def key(self) -> tuple[Path, str, str, str]:
        """Equal for equal items."""
        return (self.path, self.member or "", self.name, str(self.all_files[0]))

    def name_below(self, root: Path) -> str:
        """Return the path that ``--patient-pattern`` is searched in; of a DICOM series that of a file."""
        return relative_name(self.first_file, root) + ("/" if self.is_folder and not self.files else "")

    def scan(self, sample_id: str, *, patient_id: str = "") -> Scan:
        """Return the row of it, without a label."""
        return Scan(
            sample_id=sample_id, patient_id=patient_id, path=self.path, member=self.member, files=self.files
        )  # fmt: skip

    def findings(self, sample_id: str) -> tuple[Finding, ...]:
        """Return which series was chosen, where there were several, or why none could be."""
        return self.study.findings(sample_id) if self.study else ()


@dataclass(frozen=True, kw_only=True)
class Stock:
    """All scans below a folder.

    Args:
        root: The folder.
        items: One a file, or one a DICOM study; in the order of their paths.
        content: All files by kind.
        headers: What DICOM headers say of patients.
        masks: Files that are masks of others, which are no items.
        notes: For the user.
    """

    root: Path
    items: tuple[Item, ...]
    content: FolderContent
    headers: HeaderPatients
    masks: MaskFiles = field(default_factory=MaskFiles)
    notes: tuple[str, ...] = ()

    @property
    def studies(self) -> tuple[Study, ...]:
        """The DICOM studies."""
        return tuple(item.study for item in self.items if item.study is not None)


def take_stock(
    root: Path, *, content: FolderContent | None = None, depth: int = 0, pattern: str | None = None, many: bool = True
) -> Stock:
    """Return the scans below a folder; DICOM files are read as far as their headers, and become one scan a study.

    Args:
        root: The folder.
        content: What lies below it (or a part of that), where it is known already.
        depth: How many outermost folders carry a meaning (class; split and class): studies are not joined across.
        pattern: Chooses among the series of a study.
        many: Whether this is a data set, in which one patient id for all is no patient id.

    Raises:
        DataError: A folder cannot be read.
    """
    content = walk_scans(root) if content is None else content
    found_studies = find_studies(content.dicom, root, depth=depth, pattern=pattern, many=many)
    masks = masks_among(content.scans, root)
    content = replace(content, scans=tuple(path for path in content.scans if path not in masks.images))
    zipped = _patients_of_zips(content.scans, found_studies, many=many)
    items = [Item(path=path, patient_id=zipped.get(path, ""), header_id=zipped.get(path, "")) for path in content.scans]
    items += [item_of(study, patient_id=found_studies.headers.patient_of(study)) for study in found_studies.studies]
    items += _unreadable(found_studies.unreadable, root)
    not_dicom = found_studies.others
    content = replace(content, unsupported=tuple(sorted((*content.unsupported, *not_dicom))))
    return Stock(
        root=root,
        items=tuple(sorted(items, key=lambda item: (item.first_file, item.member or ""))),
        content=content,
        headers=found_studies.headers,
        masks=masks,
        notes=_dicom_note(found_studies.studies) + found_studies.notes,
    )


def _patients_of_zips(files: Sequence[Path], beside: FoundStudies, *, many: bool) -> dict[Path, str]:
    """Return the patients of zipped studies by their headers; none where headers do not tell patients apart."""
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    if not zips or beside.headers.finding is not None:
        return {}
    from medres.data.readers.dicom import patient_of_zip

    patients = dict(zip(zips, map_in_threads(patient_of_zip, zips), strict=True))
    everyone = [*patients.values(), *(study.patient_id for study in beside.studies)]
    if many and len(everyone) > 1 and len(set(everyone)) == 1:  # the id of nobody
        return {}
    return {path: patient for path, patient in patients.items() if is_patient_id(patient)}


def item_of(study: Study, *, patient_id: str = "") -> Item:
    """Return the scan that stands for a study."""
    files = study.chosen.files if study.chosen else study.all_files
    item = Item(path=files[0], patient_id=patient_id, header_id=study.patient_id, study=study)
    if len(study.all_files) == 1:
        return item  # called by its file
    if study.chosen is None:  # what reads it says why; beside other studies its files keep it from reading those
        return replace(item, path=study.folder, name=study.name, files=() if study.alone else files)
    if len(files) == 1:
        return replace(item, name=study.name)
    return replace(item, path=study.chosen.folder, member=study.chosen.key, files=files, name=study.name)


def _unreadable(files: Sequence[Path], root: Path) -> list[Item]:
    """Return one row a folder for DICOM files whose header cannot be read; reading them says why."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        by_folder[file.parent].append(file)
    single = [Item(path=group[0]) for group in by_folder.values() if len(group) == 1]
    return single + [
        Item(path=folder, files=tuple(group), name=f"{relative_name(folder, root)}/unreadable")
        for folder, group in by_folder.items()
        if len(group) > 1
    ]


def ids_of_items(items: Sequence[Item], root: Path) -> list[str]:
    """Return unique, readable ids that do not depend on the order; equal items get equal ids.

    A file is called by its path without suffix, a DICOM study by its folder; what is still the same is numbered.
    """
    unique = {item.key: item for item in items}
    different = sorted(unique.values(), key=_order)
    plain = [item for item in different if not item.name]
    names = [(relative_name(item.path, root), item.member) for item in plain]
    ids = dict(zip((item.key for item in plain), sample_ids(names), strict=True))
    ids |= {item.key: item.name for item in different if item.name}
    numbered = numbered_ids([ids[item.key] for item in different])
    final = dict(zip((item.key for item in different), numbered, strict=True))
    return [final[item.key] for item in items]


def _order(item: Item) -> tuple[str, ...]:
    return item.study.order if item.study else (str(item.path), item.member or "")


def _dicom_note(studies: Sequence[Study]) -> tuple[str, ...]:
    if not studies:
        return ()
    num_files = sum(len(study.all_files) for study in studies)
    chosen = sum(study.chosen is not None and study.num_others > 0 for study in studies)
    several = f"; of {chosen} with several series one was chosen (findings series-chosen)" if chosen else ""
    return (f"{counted(num_files, 'DICOM file')} are {counted(len(studies), 'study', 'studies')}{several}.",)


def numbered_ids(names: Sequence[str]) -> list[str]:
    """Return the names, each one that occurs several times with its number behind it.

    Example:
        >>> numbered_ids(["a", "b", "a"])
        ['a#1', 'b', 'a#2']
    """
    times, taken, counts = Counter(names), set(names), Counter[str]()
    ids = []
    for name in names:
        unique = name
        while times[name] > 1 and unique in taken:
            counts[name] += 1
            unique = f"{name}#{counts[name]}"
        taken.add(unique)
        ids.append(unique)
    return ids
