"""`index_series`: which files belong together. Two patients, studies, orientations or matrices are never one series."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from medres.data.readers.dicom.headers import Header, read_header
from medres.data.readers.dicom.planes import planes_of, split_places, split_stacks
from medres.errors import UnreadableScanError
from medres.runs.parallel import map_in_threads

SeriesKind = Literal["volume", "image", "4d", "film", "mosaic", "localizer", "secondary", "no-pixels", "not-a-scan"]

#: Modalities whose slices stack to a volume: without positions they cannot be used.
STACKED = frozenset({"CT", "MR", "PT"})

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Objects that are about images, or waveforms; some of them have rows and columns (segmentations, doses).
_NOT_SCANS = frozenset({"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "PR", "SR", "KO", "DOC", "REG", "ECG", "HD", "EPS"})
_SCOUT = re.compile(r"locali[sz]er|scout|survey|topogram|surview|3[- ]?plane|plan scan", re.IGNORECASE)

_SUFFIXES = (".dcm", ".dicom", ".ima")

# Scanners write cosines with 5 to 16 digits, and some correct for motion from slice to slice: up to 0.6 degrees.
_SAME_COSINES = 0.01
_SAME_SPACING = 1e-3

Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class SliceGeometry:
    """Size and place of the slices of a series, which they share but for the positions.

    Args:
        matrix: Rows and columns.
        samples: 1 for grey, 3 for colours.
        spacing_mm: Distance between rows, then between columns, of the first slice; None where unknown.
        orientation: Direction cosines of the first slice, or None.
        positions: Centre of the first pixel of each slice that says it, in LPS mm.
    """

    matrix: tuple[int, int] = (0, 0)
    samples: int = 1
    spacing_mm: tuple[float, float] | None = None
    orientation: tuple[float, ...] | None = None
    positions: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DicomSeries:
    """Files that share patient, study, series, orientation, matrix and pixel spacing: one candidate for a scan.

    Args:
        files: Its files, sorted by path.
        key: Unique within an index: the SeriesInstanceUID, or ``<uid>#2`` for a second geometry of the same uid.
        patient_id: Stripped; empty where the header has none.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        series_number: As text.
        description: What the scanner or a person called it. Local only.
        modality: ``CT``, ``MR``, ...
        num_images: Slices or frames, all volumes of a 4D series together.
        kind: What it is; only ``volume`` and ``image`` are read without a further option.
        reason: Why it is or is not a scan, without patient data.
        folder: Deepest common folder of its files.
        patient_key: Equal for series of one patient, also where the id is empty: a hash.
        original: The header calls it original, not derived.
        localizer: The header of its files calls them one.
        instance_numbers: Of its files, those that have one.
        geometry: Of its slices.
    """

    files: tuple[Path, ...]
    key: str
    patient_id: str
    study_uid: str
    series_uid: str
    series_number: str
    description: str
    modality: str
    num_images: int
    kind: SeriesKind
    reason: str
    folder: Path
    patient_key: str = ""
    original: bool = True
    localizer: bool = False
    instance_numbers: tuple[int, ...] = ()
    geometry: SliceGeometry = SliceGeometry()


@dataclass(frozen=True, kw_only=True)
class SeriesIndex:
    """What a set of files holds.

    Args:
        series: In the order of patient, study, series number and uid.
        others: Files that are not DICOM.
        problems: DICOM files whose header cannot be read, with the error.
    """

    series: tuple[DicomSeries, ...]
    others: tuple[Path, ...] = ()
    problems: tuple[tuple[Path, UnreadableScanError], ...] = ()


def index_series(files: Sequence[Path]) -> SeriesIndex:
    """Read the headers of files (in threads, without their pixels) and group them; a DICOMDIR is left out.

    Args:
        files: Any files; what is not DICOM is listed as that.

    Example:
        >>> index_series([]).series
        ()
    """
    headers, others, problems = read_headers(files)
    return SeriesIndex(series=tuple(series for series, _ in grouped(headers)), others=others, problems=problems)


Problems: TypeAlias = tuple[tuple[Path, UnreadableScanError], ...]


def read_headers(files: Iterable[Path]) -> tuple[list[Header], tuple[Path, ...], Problems]:
    """Return the headers, the files that are not DICOM, and those that cannot be read."""
    ordered = sorted(set(files))
    headers, others, problems = [], [], []
    for path, found in zip(ordered, map_in_threads(_header_or_error, ordered), strict=True):
        if isinstance(found, UnreadableScanError):
            problems.append((path, found))
        elif found is None:
            others.append(path)
        else:
            headers.append(found)
    return headers, tuple(others), tuple(problems)


def is_secondary_capture(header: Header) -> bool:
    """Return whether a file is a screenshot or a digitised film, by its SOP class."""
    # with the dot: 77 are ophthalmic and microscopic images
    return header.sop_class == _SECONDARY_CAPTURE or header.sop_class.startswith(f"{_SECONDARY_CAPTURE}.")


def grouped(headers: Iterable[Header]) -> list[tuple[DicomSeries, list[Header]]]:
    """Return the series of headers, each with its own, in the order of patient, study, number and uid."""
    by_identity: dict[Key, list[Header]] = defaultdict(list)
    for header in headers:
        if not header.is_directory:
            by_identity[_identity(header)].append(header)
    groups = [group for key in sorted(by_identity, key=repr) for group in _split_by_geometry(by_identity[key])]
    groups.sort(key=_series_order)
    counts: dict[str, int] = defaultdict(int)
    found = []
    for group in groups:
        uid = group[0].series_uid
        counts[uid] += 1
        found.append((_series(group, uid if counts[uid] == 1 else f"{uid}#{counts[uid]}"), group))
    return found


def _header_or_error(path: Path) -> Header | UnreadableScanError | None:
    try:
        header = read_header(path)
        if header is None and path.suffix.lower() in _SUFFIXES:
            return _no_dicom(path)
        return header
    except UnreadableScanError as error:
        return error
    except FileNotFoundError:
        return UnreadableScanError("does not exist", fix="Check the path.", code="file-missing")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return UnreadableScanError(f"cannot be read: {reason}", fix="Check the file.", code="file-refused")


def _no_dicom(path: Path) -> UnreadableScanError:
    """What is named like a slice and is none was lost on the way; left out in silence, a slice would be missing."""
    if path.stat().st_size == 0:
        return UnreadableScanError("is empty (0 bytes)", fix="Copy it again.", code="empty-file")
    return UnreadableScanError("is named like a DICOM file and is none", fix="Copy it again.", code="unknown-format")


def _identity(header: Header) -> Key:
    # without a series uid only the folder can say what belongs together
    series = header.series_uid or f"in {header.path.parent}"
    base = (header.patient_key, header.patient_id, header.study_uid, series, header.modality, header.rows,
            header.columns, header.samples, header.has_pixels, header.is_localizer, header.mosaic)  # fmt: skip
    return (*base, header.instance_uid, str(header.path)) if _stands_alone(header) else base


def _stands_alone(header: Header) -> bool:
    """Images without a place (radiographs, ultrasound, captures) are a scan each, whatever series they are in."""
    return header.modality not in STACKED and all(frame.position is None for frame in header.frames)


def _split_by_geometry(headers: list[Header]) -> list[list[Header]]:
    """Split headers of one identity by orientation and pixel spacing, the largest group first."""
    groups: list[list[Header]] = []
    for header in sorted(headers, key=_file_order):
        group = next((group for group in groups if _same_geometry(group[0], header)), None)
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    return sorted(groups, key=lambda group: -sum(len(header.frames) for header in group))


def _file_order(header: Header) -> tuple[int, str]:
    return (header.instance_number if header.instance_number is not None else 2**31, str(header.path))


def _same_geometry(one: Header, other: Header) -> bool:
    first, second = one.frames[0], other.frames[0]
    return (
        (first.position is None) == (second.position is None)
        and _alike(first.orientation, second.orientation, absolute=_SAME_COSINES)
        and _alike(first.spacing_mm, second.spacing_mm, relative=_SAME_SPACING)
    )


def _alike(
    one: tuple[float, ...] | None, other: tuple[float, ...] | None, *, absolute: float = 0.0, relative: float = 0.0
) -> bool:
    if one is None or other is None:
        return one is other
    # plain Python: np.allclose takes 30 times as long for six numbers, twice for every file
    return all(abs(a - b) <= absolute + relative * abs(b) for a, b in zip(one, other, strict=True))


def _series_order(group: list[Header]) -> Key:
    first = group[0]
    number = first.series_number
    return (first.patient_id, first.patient_key, first.study_uid, int(number) if number.isdecimal() else 2**31,
            first.series_uid, -sum(len(header.frames) for header in group), str(first.path))  # fmt: skip


def _series(group: list[Header], key: str) -> DicomSeries:
    first = group[0]
    kind, reason = _kind(group)
    files = tuple(sorted(header.path for header in group))
    return DicomSeries(
        files=files,
        key=key,
        patient_id=first.patient_id,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        series_number=first.series_number,
        description=first.description,
        modality=first.modality,
        num_images=sum(len(header.frames) for header in group),
        kind=kind,
        reason=reason,
        folder=Path(os.path.commonpath([path.parent for path in files])) if files else Path(),
        patient_key=first.patient_key,
        localizer=first.is_localizer,
        instance_numbers=tuple(one.instance_number for one in group if one.instance_number is not None),
        geometry=_geometry(group),
        original="DERIVED" not in first.image_type[:1] and "SECONDARY" not in first.image_type[1:2],
    )


def _geometry(group: list[Header]) -> SliceGeometry:
    first, frame = group[0], group[0].frames[0]
    return SliceGeometry(
        matrix=(first.rows, first.columns),
        samples=first.samples,
        spacing_mm=frame.spacing_mm,
        orientation=frame.orientation,
        positions=tuple(one.position for header in group for one in header.frames if one.position is not None),
    )


_Rule = tuple[Callable[[list[Header]], bool], SeriesKind, str]
_RULES: tuple[_Rule, ...] = (
    (lambda group: group[0].modality in _NOT_SCANS, "not-a-scan", "is no image (a segmentation, dose, report, ...)"),
    (lambda group: not group[0].has_pixels, "no-pixels", "holds no pixels"),
    (lambda group: group[0].mosaic, "mosaic", "is a mosaic: the slices of a volume side by side in one image"),
    (lambda group: _is_scout(group), "localizer", "is a localizer (scout)"),
    (lambda group: is_secondary_capture(group[0]) and _unplaced(group), "secondary",
     "is a secondary capture, such as a screenshot"),
    (lambda group: _num_images(group) == 1, "image", "is a single image"),
    (lambda group: _unplaced(group) and group[0].modality not in STACKED, "film", "holds frames without a place"),
    (lambda group: _num_volumes(group) > 1, "4d", "holds several volumes at one place"),
)  # fmt: skip


def _kind(group: list[Header]) -> tuple[SeriesKind, str]:
    for holds, kind, reason in _RULES:
        if holds(group):
            return kind, reason
    return "volume", "is a stack of slices"


def _is_scout(group: list[Header]) -> bool:
    # by name only where it is short: a survey is 3 to 30 images, and "localizer" is said of long series as well
    return group[0].is_localizer or (_num_images(group) <= 30 and bool(_SCOUT.search(group[0].description)))


def _unplaced(group: list[Header]) -> bool:
    return all(frame.position is None for header in group for frame in header.frames)


def _unique(group: list[Header]) -> list[Header]:
    """Headers of different objects: copies of one file count once."""
    return list({header.instance_uid or str(header.path): header for header in group}.values())


def _num_images(group: list[Header]) -> int:
    return sum(len(header.frames) for header in _unique(group))


def _num_volumes(group: list[Header]) -> int:
    """How many volumes the positions tell; 1 where places differ in number, which reading will refuse or mend."""
    try:
        stacks = [split_places(stack) for stack in split_stacks(planes_of(_unique(group)))]
    except UnreadableScanError:
        return 1
    counts = [{len(place) for place in stack} for stack in stacks]
    return sum(next(iter(found)) if len(found) == 1 else 1 for found in counts)
