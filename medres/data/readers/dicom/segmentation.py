"""`read_segmentation`: a DICOM Segmentation object as a mask; read by highdicom, which is imported only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.data.image import ScanImage
from medres.data.readers.dicom.deflated import unpacked
from medres.data.readers.dicom.elements import Dataset, first_item, number, text, whole
from medres.data.readers.dicom.headers import Header, explained, opened
from medres.data.readers.dicom.pixels import require_decodable
from medres.data.readers.dicom.quiet import quietly
from medres.data.readers.limits import require_memory, require_plane_size, require_reasonable_size
from medres.data.readers.placement import place_volume
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

_SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})  # the second: label maps
_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
# Positions are written with two digits or more; highdicom's own tolerance is 1 % of the distance of the slices. Where
# slices may be missing it takes the smallest distance for all, whose error adds up: last, none is missing.
_TOLERANCES: tuple[dict[str, Any], ...] = ({}, {"atol": 0.02}, {"atol": 0.02, "allow_missing_positions": False})
_FIX = "Convert it to NIfTI on the grid of its scan (3D Slicer, dcmqi segimage2itkimage), and name that file."

Voxels = npt.NDArray[Any]


def marks_regions(header: Header) -> bool:
    """Return whether a file says which part of other images is what: a segmentation, or contours."""
    return header.sop_class in _SEGMENTATIONS or header.sop_class == _STRUCTURE_SET


def read_segmentation(header: Header) -> ScanImage:
    """Read a segmentation: each voxel has the number of its segment, the highest one where several overlap.

    Of a fractional one, what belongs to a segment by half or more. Slices that the file leaves out are empty.

    Args:
        header: Of a file for which `marks_regions` holds.

    Returns:
        A volume from the first slice that the file has to the last, with its affine; the axes are those of a series.

    Raises:
        UnreadableScanError: It is damaged, holds contours, or its frames are no regular stack in the patient.
    """
    if header.sop_class == _STRUCTURE_SET:
        raise UnreadableScanError(
            "is an RT structure set: contours, not voxels",
            fix="Convert it to NIfTI or a DICOM segmentation (3D Slicer, plastimatch convert), and name that file.",
            code="no-pixels",
        )
    with quietly() as pydicom:
        dataset = _read_dataset(pydicom, header)
        with _explained_volume():
            thickness = _thickness(dataset)  # before highdicom makes its own types of it
            volume = _volume_of(dataset)
            affine = _affine(volume, thickness)
    place = place_volume(affine)
    voxels = volume.array.T[np.newaxis]
    return make_image(voxels, affine=place.affine, spacing_mm=place.spacing_mm, modality="SEG")


def _read_dataset(pydicom: Any, header: Header) -> Dataset:
    with opened(header.path, header.content) as stream, explained():
        require_plane_size(header.rows, header.columns)
        pixel_bytes = len(header.frames) * header.rows * header.columns * -(-header.bits_allocated // 8)
        require_memory(pixel_bytes)
        dataset = pydicom.dcmread(unpacked(stream, pixel_bytes=pixel_bytes), force=True)
        require_decodable(dataset, header)
    if (whole(dataset, "NumberOfFrames") or 1) != len(header.frames):
        raise UnreadableScanError(
            f"claims {text(dataset, 'NumberOfFrames')} frames and describes {len(header.frames)}",
            fix="Its header is damaged: export it again.",
            code="header-damaged",
        )
    return dataset


def _volume_of(dataset: Dataset) -> Any:
    """Return highdicom's volume, whose array ``(K, rows, columns)`` holds numbers of segments."""
    from highdicom.seg import Segmentation

    with quietly():  # once more: what was imported just now has logs of its own
        segmentation = Segmentation.from_dataset(dataset, copy=False)
        tolerance = _tolerance(segmentation)
        if segmentation.segmentation_type.value == "FRACTIONAL":
            return _halves(segmentation, tolerance)
        volume = segmentation.get_volume(combine_segments=True, skip_overlap_checks=True, **tolerance)
        background = whole(dataset, "PixelPaddingValue") or 0
        return volume.with_array(np.where(volume.array == background, 0, volume.array)) if background else volume


def _tolerance(segmentation: Any) -> dict[str, Any]:
    """Return by which tolerance the frames are a regular stack, before memory is asked for."""
    for tolerance in _TOLERANCES:
        geometry = segmentation.get_volume_geometry(**tolerance)
        if geometry is not None and geometry.coordinate_system.value == "PATIENT":
            size = int(np.prod([int(length) for length in geometry.spatial_shape]))
            require_reasonable_size(size, size)
            return tolerance
    raise UnreadableScanError(
        "is a segmentation whose frames are no regular stack of slices in the patient", fix=_FIX, code="roi-unknown"
    )


def _halves(segmentation: Any, tolerance: dict[str, Any]) -> Any:
    """Return the segments of a fractional segmentation, one after the other: all at once would be a copy for each."""
    volume, union = None, None
    for index in segmentation.segment_numbers:
        volume = segmentation.get_volume(segment_numbers=[index], rescale_fractional=False, **tolerance)
        marked = 2 * volume.array[..., 0].astype(np.uint16) >= segmentation.MaximumFractionalValue
        union = np.where(marked, np.uint16(index), 0 if union is None else union)
    if volume is None or union is None:
        raise ValueError("no segments")
    return volume.get_channel(ReferencedSegmentNumber=index).with_array(union)


def _affine(volume: Any, thickness: float | None) -> npt.NDArray[np.float64]:
    """Return the affine of ``(column, row, slice)`` to RAS mm; a single slice is as thick as it says, else 1 mm."""
    affine = np.array(volume.affine, dtype=np.float64)[:, [2, 1, 0, 3]]
    affine[:2] *= -1  # highdicom counts to the left and back, as DICOM does
    if volume.spatial_shape[0] == 1:
        affine[:3, 2] *= (thickness or 1.0) / np.linalg.norm(affine[:3, 2])
    return affine


def _thickness(dataset: Dataset) -> float | None:
    """Return how thick the only slice is: a distance to others cannot be measured."""
    measures = None
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        group = first_item(dataset, keyword)
        measures = measures or (None if group is None else first_item(group, "PixelMeasuresSequence"))
    if measures is None:
        return None
    told = (number(measures, "SpacingBetweenSlices"), number(measures, "SliceThickness"))
    return next((abs(one) for one in told if one), None)


@contextmanager
def _explained_volume() -> Iterator[None]:
    """Turn whatever highdicom raises into one error; its message could quote the header."""
    try:
        yield
    except (UnreadableScanError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableScanError(
            f"is a segmentation that cannot be read ({type(error).__name__})", fix=_FIX, code="damaged"
        ) from None
