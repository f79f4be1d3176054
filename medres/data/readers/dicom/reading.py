"""`read_series`, `read_study`, `read_dicom_bytes`: from files to one `ScanImage`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medres.data.image import ScanImage
from medres.data.readers.dicom.choosing import SeriesChoice, choose_series
from medres.data.readers.dicom.grouping import STACKED, DicomSeries, grouped, is_secondary_capture, read_headers
from medres.data.readers.dicom.headers import Header, read_header
from medres.data.readers.dicom.left_out import left_out_of, parts_of
from medres.data.readers.dicom.pixels import Pixels, digest, is_inverted, read_values
from medres.data.readers.dicom.placing import placed
from medres.data.readers.dicom.planes import Plane, planes_of, split_places, split_stacks, split_volumes
from medres.data.readers.dicom.segmentation import marks_regions, read_segmentation
from medres.data.readers.placement import place_volume, plausible_spacing
from medres.data.readers.rules import ReadingRules
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

Grouped = list[tuple[DicomSeries, list[Header]]]

_IGNORED_KINDS = ("no-pixels", "not-a-scan")


def read_series(files: Sequence[Path], *, rules: ReadingRules) -> ScanImage:
    """Read the files of exactly one series; files that are not DICOM are ignored.

    Args:
        files: Those of one `DicomSeries`.
        rules: How files become a scan.

    Returns:
        A volume with the first axis along the rows of the slices (column index), the second along their columns,
        the third along their normal; or an image ``(C, rows, columns)`` where there is one slice.

    Raises:
        UnreadableScanError: They are of several patients or series, a file is damaged, or the rules refuse them.
    """
    groups = _groups(files)
    scans = [group for group in groups if group[0].kind not in _IGNORED_KINDS] or groups
    if len(scans) > 1:
        raise UnreadableScanError(
            f"holds files of {len(scans)} series or orientations",
            fix="Name the folder of one series, or choose one with --series.",
            code="several-series",
        )
    return _read_group(*scans[0], rules=rules)


def read_study(folder: Path, *, rules: ReadingRules) -> ScanImage:
    """Read the scan among all files below a folder.

    Args:
        folder: Of one patient, study or series.
        rules: How files become a scan; ``rules.series`` chooses among several.

    Raises:
        UnreadableScanError: There is no scan, or several patients, or it is not clear which series is the scan.
    """
    return read_chosen(_groups([path for path in folder.rglob("*") if path.is_file()]), rules=rules)


def read_dicom_bytes(content: bytes, *, rules: ReadingRules) -> ScanImage:
    """Read one DICOM file from its bytes.

    Raises:
        UnreadableScanError: It is not DICOM, damaged, or no scan.
    """
    header = read_header(Path("file"), content)
    groups = grouped([header] if header is not None else [])
    _require_any(groups)
    return _read_group(*groups[0], rules=rules)  # one file needs no choosing: the pattern is for studies


def read_chosen(groups: Grouped, *, rules: ReadingRules) -> ScanImage:
    """Choose among the series of one patient and read the one chosen, with a note where there were several."""
    require_one_patient(groups)
    _require_any(groups)
    if rules.takes_segmentations:
        _require_one_object(groups)
    if len(groups) == 1 and rules.series is None:
        return _read_group(*groups[0], rules=rules)
    choice = choose_series([series for series, _ in groups], pattern=rules.series)
    if choice.chosen is None:
        assert choice.problem is not None
        raise choice.problem
    headers = next(headers for series, headers in groups if series is choice.chosen)
    image = _read_group(choice.chosen, headers, rules=rules)
    return replace(image, notes=(*_choice_notes(choice), *image.notes))


def require_one_patient(groups: Grouped) -> None:
    """Refuse series of several patients: they never become one scan.

    Raises:
        UnreadableScanError: With the code ``several-patients``.
    """
    num_patients = len({series.patient_key for series, _ in groups})
    if num_patients > 1:
        raise UnreadableScanError(
            f"holds files of {num_patients} patients",
            fix="Put each patient into a folder of its own, or name the folder above as data.",
            code="several-patients",
        )


def _groups(files: Sequence[Path]) -> Grouped:
    headers, _, problems = read_headers(files)
    if problems:
        path, error = problems[0]
        if len(files) == 1:  # which the caller names
            raise error
        raise UnreadableScanError(f"holds {path.name}, which {error.problem}", fix=error.fix, code=error.code)
    groups = grouped(headers)
    require_one_patient(groups)
    _require_any(groups)
    return groups


def _require_any(groups: Grouped) -> None:
    if not groups:
        raise UnreadableScanError("holds no DICOM image", fix="Check the folder.", code="no-series")


def _require_one_object(groups: Grouped) -> None:
    """Refuse a mask beside its scan, and several: the scan would be read as the mask, or one mask be lost."""
    headers = [header for _, group in groups for header in group]
    num_marking = sum(map(marks_regions, headers))
    if num_marking and len(headers) > 1:
        raise UnreadableScanError(
            f"holds {num_marking} file(s) that mark a region (segmentation, contours) among {len(headers)} DICOM files",
            fix="Name the file of the one that is the mask.",
            code="several-series",
        )


def _choice_notes(choice: SeriesChoice) -> tuple[str, ...]:
    assert choice.chosen is not None
    left_out = left_out_of(choice.chosen, choice.rejected)
    parts = () if left_out is None else left_out.notes
    num_others = len(choice.rejected) - len(parts_of(choice.chosen, choice.rejected))
    if not num_others:
        return parts
    doubt = "; others are as good by the rule" if choice.ambiguous else ""
    return (f"series-chosen: one of {num_others + 1} series was taken, with {choice.chosen.num_images} "
            f"image(s){doubt}", *parts)  # fmt: skip


def _read_group(series: DicomSeries, headers: Sequence[Header], *, rules: ReadingRules) -> ScanImage:
    if rules.takes_segmentations and marks_regions(headers[0]):
        return read_segmentation(headers[0])
    _require_scan(series, rules)
    planes = planes_of(headers)
    if len(planes) == 1:
        image = _read_image(planes[0])
        _require_volume(rules, num_volumes=1, what="volume")
        notes: tuple[str, ...] = ()
    elif series.modality not in STACKED and all(plane.frame.position is None for plane in planes):
        image, notes = _read_film(planes, rules)
    else:
        image, notes = _read_volume(planes, rules)
    return replace(image, modality=series.modality or None, notes=(*notes, *image.notes, *_header_notes(headers)))


def _require_scan(series: DicomSeries, rules: ReadingRules) -> None:
    if series.kind == "localizer":  # a scan only where it is asked for, as in choosing
        problem = choose_series([series], pattern=rules.series).problem
        if problem is not None:
            raise problem
    if series.kind == "mosaic":
        raise UnreadableScanError(
            "is a mosaic: one image that shows all slices of a volume side by side",
            fix="Convert it with dcm2niix and use the NIfTI file.",
            code="mosaic",
        )
    if series.kind in _IGNORED_KINDS:
        code = "no-pixels" if series.kind == "no-pixels" else "no-series"
        raise UnreadableScanError(series.reason, fix="Name the folder of the images.", code=code)


def _read_image(plane: Plane) -> ScanImage:
    (pixels,), notes = read_values([plane])
    voxels = pixels[np.newaxis] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return make_image(voxels, spacing_mm=plausible_spacing(plane.frame.spacing_mm or (0.0,)), notes=notes)


def _read_film(planes: Sequence[Plane], rules: ReadingRules) -> tuple[ScanImage, tuple[str, ...]]:
    index = _require_volume(rules, num_volumes=len(planes), what="frame")
    return _read_image(planes[index]), _volume_notes(index, len(planes), "frame")


def _read_volume(planes: Sequence[Plane], rules: ReadingRules) -> tuple[ScanImage, tuple[str, ...]]:
    volumes, num_copies = [], 0
    pixels_of = partial(digest, alone=len({id(plane.header) for plane in planes}) == 1)
    for stack in split_stacks(planes):
        found, copies = split_volumes(split_places(stack), pixels_of=pixels_of)
        volumes += found
        num_copies += copies
    index = _require_volume(rules, num_volumes=len(volumes), what="volume")
    chosen = volumes[index]
    notes = (*_volume_notes(index, len(volumes), "volume"), *_copy_notes(num_copies), *_end_notes(chosen, len(volumes)))
    return (_read_image(chosen[0]) if len(chosen) == 1 else _read_stack(chosen, rules)), notes


def _read_stack(planes: Sequence[Plane], rules: ReadingRules) -> ScanImage:
    values = read_values(planes)
    stack = placed(values.pixels, planes, rules=rules)
    place = place_volume(stack.affine)
    notes = (*values.notes, *stack.notes, *_scale_notes(planes))
    return make_image(_as_voxels(stack.pixels), affine=place.affine, spacing_mm=place.spacing_mm, notes=notes)


def _scale_notes(planes: Sequence[Plane]) -> tuple[str, ...]:
    num_factors = len({(plane.frame.slope, plane.frame.intercept, plane.frame.table) for plane in planes})
    if num_factors == 1 or planes[0].header.modality == "PT":  # in PET each slice has its own
        return ()
    return (f"rescale-unusual: the slices have {num_factors} different rescale factors; each got its own",)


def _as_voxels(pixels: Pixels) -> Pixels:
    """Return ``(K, rows, columns[, 3])`` as ``(C, columns, rows, K)`` without a copy."""
    return pixels.T[np.newaxis] if pixels.ndim == 3 else np.transpose(pixels, (3, 2, 1, 0))


def _require_volume(rules: ReadingRules, *, num_volumes: int, what: str) -> int:
    """Return the index of the volume asked for; only one volume needs no asking."""
    if rules.volume is None and num_volumes == 1:
        return 0
    if rules.volume is None:
        raise UnreadableScanError(
            f"holds {num_volumes} {what}s (times, echoes, directions)",
            fix=f"Choose one with --volume (0 to {num_volumes - 1}).",
            code="several-volumes",
        )
    if rules.volume >= num_volumes:
        raise UnreadableScanError(
            f"holds {num_volumes} {what}(s); number {rules.volume}, counted from 0, is not there",
            fix="Choose another --volume.",
            code="several-volumes",
        )
    return rules.volume


def _volume_notes(index: int, num_volumes: int, what: str) -> tuple[str, ...]:
    return () if num_volumes == 1 else (f"volume-chosen: {what} {index} of {num_volumes} (from 0) was taken",)


def _copy_notes(num_copies: int) -> tuple[str, ...]:
    if not num_copies:
        return ()
    return (f"duplicate-slices: {num_copies} slice(s) with the same place and pixels as another were left out",)


def _end_notes(planes: Sequence[Plane], num_volumes: int) -> tuple[str, ...]:
    """Missing slices at an end leave no gap; only the header's own counts can tell."""
    headers = [plane.header for plane in planes]
    if len(headers[0].frames) > 1:
        return ()  # an enhanced file is whole, or its own count of frames is wrong
    told, one_acquisition = headers[0].images_in_acquisition, len({one.acquisition_number for one in headers}) == 1
    expected = (told or 0) // num_volumes
    if one_acquisition and len(planes) < expected:
        return (f"missing-slices: the header names {expected} slices, {len(planes)} are there",)
    lowest = min(header.instance_number or 1 for header in headers)
    if num_volumes == 1 and lowest > 1:
        return (f"missing-slices: the numbers of the slices begin at {lowest}: some may be missing at an end",)
    return ()


def _table_notes(headers: Sequence[Header]) -> tuple[str, ...]:
    tabled = [frame for header in headers for frame in header.frames if frame.table is not None]
    if not tabled:
        return ()
    notes = ("modality-lut: its values were looked up in the table of its header (Modality LUT)",)
    if all((frame.slope, frame.intercept) == (1.0, 0.0) for frame in tabled):
        return notes
    return (*notes, "modality-lut-doubt: its header holds a Modality LUT and rescale factors, of which one file may "
            "have one; the table was taken")  # fmt: skip


def _header_notes(headers: Sequence[Header]) -> tuple[str, ...]:
    notes = [*_table_notes(headers)]
    inverted = next((header for header in headers if is_inverted(header)), None)
    if inverted is not None:
        by = "MONOCHROME1" if inverted.photometric == "MONOCHROME1" else "Presentation LUT Shape INVERSE"
        notes.append(f"grey-inverted: stored with high values dark ({by}); turned round")
    if any(header.burned_in == "YES" for header in headers):
        notes.append("burned-in: the header says that text is burned into the pixels")
    elif any(is_secondary_capture(header) and header.burned_in != "NO" for header in headers):
        notes.append("burned-in: a secondary capture (screenshot) may show text of the patient")
    if not all(header.identity_removed for header in headers):
        notes.append("not-deidentified: the header does not say that the patient's identity was removed")
    return tuple(notes)
