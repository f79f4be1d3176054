"""DICOM files below a folder as studies: one scan of each study of each patient, however the folders are laid out."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from medres.data.findings import Finding
from medres.data.missing_words import is_missing, placeholder
from medres.data.sources.problems import found
from medres.data.sources.scan_files import relative_name
from medres.data.spelling import visible
from medres.data.wording import counted, first_of
from medres.errors import UnreadableScanError

if TYPE_CHECKING:
    from medres.data.readers.dicom import DicomSeries

Parts: TypeAlias = tuple[str, ...]
_Members: TypeAlias = "list[tuple[Place, DicomSeries]]"

# what programs that remove names put in their place
_PLACEHOLDER = re.compile(r"anon\w*|de-?id\w*|x{2,}", re.IGNORECASE)
_NO_PICTURES = frozenset({"no-pixels", "not-a-scan"})


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a DICOM file lies below the root.

    Args:
        scope: Folders that carry a meaning, such as the class; studies are not joined across.
        folder: The next folder, which may be a patient's; empty where files lie side by side.
    """

    scope: Parts
    folder: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study of one patient, and which of its series is the scan.

    Args:
        series: All of them.
        chosen: The scan, or None with a `problem`.
        reason: Why this one. Local only.
        problem: Why none was chosen.
        place: Where it lies.
        folder: Deepest common folder of its files.
        name: What its sample id is made of: its folder, with the patient where the folder holds several studies.
        alone: No other study lies in its folder.
    """

    series: tuple[DicomSeries, ...]
    chosen: DicomSeries | None
    reason: str
    problem: UnreadableScanError | None
    place: Place
    folder: Path
    name: str = ""
    alone: bool = True

    @property
    def patient_id(self) -> str:
        """Patient by the header, or empty."""
        return self.series[0].patient_id

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID, or empty."""
        return self.series[0].study_uid

    @property
    def all_files(self) -> tuple[Path, ...]:
        """The files of all its series."""
        return tuple(file for series in self.series for file in series.files)

    @property
    def num_others(self) -> int:
        """Series beside the chosen one; other parts of that one, which do not fit it, are none."""
        from medres.data.readers.dicom import parts_of

        parts = () if self.chosen is None else parts_of(self.chosen, self.series)
        return len(self.series) - 1 - len(parts)

    @property
    def order(self) -> tuple[str, ...]:
        """By which studies of one name are numbered: it does not depend on names of files."""
        key = self.chosen.key if self.chosen else ""
        return (self.name, self.patient_id, self.study_uid, key, str(self.series[0].files[0]))

    def findings(self, sample_id: str) -> tuple[Finding, ...]:
        """Return which series was chosen, where there were several, or why none could be."""
        if self.chosen is None:
            error = self.problem or UnreadableScanError("holds no series that is a scan", code="no-series")
            place = self.all_files[0] if len(self.all_files) == 1 else self.folder
            return (found(error.code, f"{place} {error.problem}.", fix=error.fix, sample_id=sample_id, file=place),)
        if not self.num_others:
            return self._left_out(sample_id)
        others = counted(self.num_others, "other series of the study was", "other series of the study were")
        value = f"{sample_id}: {self.reason} {others} left out."
        chosen = found("series-chosen", value, fix="--series chooses another.", sample_id=sample_id, file=self.folder)
        return (chosen, *self._left_out(sample_id))

    def _left_out(self, sample_id: str) -> tuple[Finding, ...]:
        """Return findings where slices of the chosen series itself were left out: which, and what is missing."""
        from medres.data.readers.dicom import left_out_of

        assert self.chosen is not None
        left_out = left_out_of(self.chosen, self.series)
        if left_out is None:
            return ()
        fix = "Look whether they are a localizer, or whether two acquisitions were sent as one series."
        divided = found("series-divided", f"{sample_id}: {left_out.what}.", fix=fix, sample_id=sample_id,
                        file=self.folder)  # fmt: skip
        if not left_out.missing:
            return (divided,)
        missing = found("missing-slices", f"{sample_id}: {left_out.lack}.", fix="Export the series again, whole.",
                        sample_id=sample_id, file=self.folder)  # fmt: skip
        return divided, missing


@dataclass(frozen=True, kw_only=True)
class HeaderPatients:
    """What DICOM headers say of patients.

    Args:
        finding: Why headers do not tell patients apart, or None where they do.
        by_place: The patient of each place, where folders stand for patients.
        some: Whether ids are missing in part only, so that those that are there count where no folders stand.
    """

    finding: Finding | None = None
    by_place: Mapping[Place, str] = field(default_factory=dict)
    some: bool = False

    def patient_of(self, study: Study) -> str:
        """Return the patient of a study, or an empty text."""
        if self.finding is None:
            return study.patient_id
        if self.some and not self.by_place:
            return study.patient_id if is_patient_id(study.patient_id) else ""
        return self.by_place.get(study.place, "")


@dataclass(frozen=True, kw_only=True)
class FoundStudies:
    """What DICOM files hold.

    Args:
        studies: In the order of their names.
        others: Files that are not DICOM after all.
        unreadable: DICOM files whose header cannot be read; reading them says why.
        headers: What headers say of patients.
        notes: For the user.
    """

    studies: tuple[Study, ...] = ()
    others: tuple[Path, ...] = ()
    unreadable: tuple[Path, ...] = ()
    headers: HeaderPatients = field(default_factory=HeaderPatients)
    notes: tuple[str, ...] = ()


def find_studies(
    files: Sequence[Path], root: Path, *, depth: int = 0, pattern: str | None = None, many: bool = True
) -> FoundStudies:
    """Read the headers of DICOM files and return their studies, with the series of each one that is the scan.

    Files of two patients are never in one study. Where headers do not tell patients apart (one id for all, ids that
    are empty), the folder below the class stands for the patient, and files of two folders are never in one study.

    Args:
        files: DICOM files below the root.
        root: The data folder.
        depth: How many outermost folders carry a meaning.
        pattern: Chooses among the series of a study.
        many: Whether this is a data set, in which one id for all is none.
    """
    if not files:
        return FoundStudies()
    from medres.data.readers.dicom import index_series

    places = _places(files, root, depth)
    by_scope = _grouped_files(files, places, with_folder=False)
    indexes = {place: index_series(group) for place, group in by_scope.items()}
    members = [(places[one.files[0]], one) for index in indexes.values() for one in index.series]
    problem = _not_told_apart(members, set(places.values())) if many else ""
    by_place: dict[Place, str] = {}
    if problem and _folders_stand(places):
        # a series uid that was removed may have joined the files of two folders
        regrouped = _grouped_files([file for _, one in members for file in one.files], places, with_folder=True)
        members = [(place, one) for place, group in regrouped.items() for one in index_series(group).series]
        by_place = _patients_by_folder(members)
    some = len({one.patient_id for _, one in members}) > 1
    headers = HeaderPatients(
        finding=_shared(problem, by_place, some=some) if problem else None, by_place=by_place, some=some
    )
    studies, notes = _studies(members, pattern, by_folder=bool(by_place))
    return FoundStudies(
        studies=tuple(sorted(_named(studies, root, depth), key=lambda study: study.order)),
        others=tuple(sorted(file for index in indexes.values() for file in index.others)),
        unreadable=tuple(sorted(file for index in indexes.values() for file, _ in index.problems)),
        headers=headers,
        notes=notes,
    )


def _places(files: Sequence[Path], root: Path, depth: int) -> dict[Path, Place]:
    """Return where each file lies; folders that all files share (``images/``) are no patients."""
    parts = {file: PurePosixPath(relative_name(file, root)).parts[:-1] for file in files}
    level = depth
    while len({folders[level : level + 1] for folders in parts.values()}) == 1 and all(
        len(folders) > level for folders in parts.values()
    ):
        level += 1
    return {
        file: Place(scope=folders[:depth], folder=folders[level] if len(folders) > level else "")
        for file, folders in parts.items()
    }


def _grouped_files(
    files: Sequence[Path], places: Mapping[Path, Place], *, with_folder: bool
) -> dict[Place, list[Path]]:
    groups: dict[Place, list[Path]] = defaultdict(list)
    for file in files:
        place = places[file]
        groups[place if with_folder else Place(scope=place.scope, folder="")].append(file)
    return groups


def _not_told_apart(members: _Members, places: set[Place]) -> str:
    """Return why headers do not tell patients apart, or an empty text."""
    scans = [one for _, one in members if one.kind not in _NO_PICTURES]
    empty = [one for one in scans if not is_patient_id(one.patient_id)]
    if empty:
        return f"{len(empty)} of {len(scans)} DICOM series have no patient id in their header, or one such as ANON"
    # one study in each of two folders, or two studies side by side, and one id for all: it is the id of nobody
    several = len(places) > 1 if all(place.folder for place in places) else len({one.study_uid for one in scans}) > 1
    if several and len({one.patient_id for one in scans}) == 1:
        return f"All {len(scans)} DICOM series have one and the same patient id in their header"
    return ""


def _folders_stand(places: Mapping[Path, Place]) -> bool:
    folders = {place.folder for place in places.values()}
    return all(folders) and len(folders) > 1


def _shared(problem: str, by_place: Mapping[Place, str], *, some: bool) -> Finding:
    patients = first_of(sorted(set(by_place.values())), limit=3)
    own = f"each study {'without one ' if some else ''}is taken as its own patient"
    stands = f"the folder stands for the patient ({patients})" if by_place else own
    fix = "Give --patient-column or --patient-pattern if that is wrong."
    return found("patient-shared", f"{problem}: {stands}.", fix=fix)


def is_patient_id(text: str) -> bool:
    """Return whether a PatientID is one, and not what a program that removes names put in its place.

    Example:
        >>> is_patient_id("4711"), is_patient_id("ANON"), is_patient_id("")
        (True, False, False)
    """
    return not (is_missing(text) or placeholder(text, person=True) or _PLACEHOLDER.fullmatch(visible(text)))


def _patients_by_folder(scans: _Members) -> dict[Place, str]:
    """Return the patient of each place: its folder, with the class before it where that name means several patients."""
    ends = {place: place for place, _ in scans}
    for some, other in _same_patient(scans):
        first, second = sorted((_end(ends, some), _end(ends, other)), key=_place_order)
        ends[second] = first
    found_ends = {place: _end(ends, place) for place in ends}
    times = Counter(end.folder for end in set(found_ends.values()))
    return {
        place: end.folder if times[end.folder] == 1 else "/".join((*end.scope, end.folder))
        for place, end in found_ends.items()
    }


def _same_patient(scans: _Members) -> Iterator[tuple[Place, Place]]:
    """Yield places of one patient: they share an id which is one; or the name of a folder, and no ids contradict it.

    ``benign/001`` and ``malignant/001`` may be two patients, counted anew in each class: their ids tell.
    """
    shares_one = len({one.patient_id for _, one in scans}) == 1
    ids: dict[Place, set[str]] = defaultdict(set)
    for place, one in scans:
        ids[place] |= {one.patient_id} if is_patient_id(one.patient_id) and not shares_one else set()
    by_id: dict[str, Place] = {}
    by_name: dict[str, list[Place]] = defaultdict(list)
    for place in sorted(ids, key=_place_order):
        yield from ((by_id.setdefault(patient, place), place) for patient in sorted(ids[place]))
        others = by_name[place.folder]
        yield from ((other, place) for other in others if not (ids[other] and ids[place]))
        others.append(place)


def _end(ends: dict[Place, Place], place: Place) -> Place:
    while ends[place] != place:
        ends[place] = place = ends[ends[place]]
    return place


def _place_order(place: Place) -> tuple[str, Parts]:
    return place.folder, place.scope


def _studies(members: _Members, pattern: str | None, *, by_folder: bool) -> tuple[list[Study], tuple[str, ...]]:
    groups: dict[object, _Members] = defaultdict(list)
    for place, one in members:
        groups[_study_key(place, one, by_folder)].append((place, one))
    with_pictures = {_patient_key(*group[0], by_folder) for group in groups.values() if not _has_no_pictures(group)}
    studies: list[Study] = []
    left_out = 0
    for group in groups.values():
        if _has_no_pictures(group) and _patient_key(*group[0], by_folder) in with_pictures:
            left_out += 1  # the report of a study, filed as a study of its own
        else:
            studies += _choose(group, pattern)
    note = f"{counted(left_out, 'DICOM study', 'DICOM studies')} without pictures (reports, doses) were left out."
    return studies, (note,) if left_out else ()


def _study_key(place: Place, one: DicomSeries, by_folder: bool) -> object:
    if by_folder:
        return place, one.study_uid
    if one.patient_id and one.study_uid:
        return place.scope, one.patient_id, one.study_uid
    # what has no id is joined with nothing that lies elsewhere, and without any id with nothing at all
    return place, one.patient_key, one.study_uid or one.key


def _patient_key(place: Place, one: DicomSeries, by_folder: bool) -> object:
    return place if by_folder else (place.scope, one.patient_key)


def _has_no_pictures(group: _Members) -> bool:
    return all(one.kind in _NO_PICTURES for _, one in group)


def _choose(group: _Members, pattern: str | None) -> Iterator[Study]:
    from medres.data.readers.dicom import choose_series

    series = tuple(one for _, one in group)
    choice = choose_series(series, pattern=pattern)
    folder = Path(os.path.commonpath([one.folder for one in series]))
    study = Study(
        series=series, chosen=choice.chosen, reason=choice.reason, problem=choice.problem, place=group[0][0],
        folder=folder,
    )  # fmt: skip
    images = [one for one in series if one.kind == "image"]
    if pattern is None and choice.chosen in images and len(images) > 1:  # two views are two scans, as two PNG would be
        yield from (replace(study, series=(one,), chosen=one, folder=one.folder) for one in images)
    else:
        yield study


def _named(studies: Sequence[Study], root: Path, depth: int) -> list[Study]:
    """Return the studies with names: the folder that holds nothing else, else the folder and the patient."""
    within: dict[Path, set[int]] = defaultdict(set)
    for index, study in enumerate(studies):
        for one in study.series:
            for folder in (one.folder, *one.folder.parents):
                within[folder].add(index)
                if folder == root:
                    break

    def name(study: Study) -> str:
        if len(study.all_files) == 1:
            return ""  # it is called by its file
        own = [study.folder, *([study.chosen.folder] if study.chosen else [])]
        for folder in own:
            relative = relative_name(folder, root)
            if len(within[folder]) == 1 and len(PurePosixPath(relative).parts) >= depth + (depth > 0):
                return root.name if relative == "." else relative
        parent = relative_name(own[-1], root)
        patient = re.sub(r"[\s/\\\x00-\x1f]+", "_", study.patient_id) or "study"
        return patient if parent == "." else f"{parent}/{patient}"

    return [replace(study, name=name(study), alone=len(within[study.folder]) == 1) for study in studies]
