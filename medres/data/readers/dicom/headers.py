"""What is read of one DICOM file before its pixels: identity, kind, size, and where each of its frames lies."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from medres.data.readers.dicom.deflated import DEFLATED, is_deflated, unpacked
from medres.data.readers.dicom.elements import Dataset, is_dicom, number, raw_bytes, tag_of, text, texts, whole
from medres.data.readers.dicom.frames import Frame, read_frames
from medres.data.readers.dicom.quiet import quietly
from medres.errors import UnreadableScanError

_DICOMDIR = "1.2.840.10008.1.3.10"
# Everything after the pixels' description is left on disk; private elements of a vendor can be megabytes.
_KEYWORDS = [
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientIdentityRemoved",
    "BurnedInAnnotation",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "AcquisitionDateTime",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "TriggerTime",
    "ImagesInAcquisition",
    "NumberOfSlices",
    "GantryDetectorTilt",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "PresentationLUTShape",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "SpecificCharacterSet",
]
_SIEMENS_MOSAIC = (0x0019, 0x100A)  # NumberOfImagesInMosaic


@dataclass(frozen=True, kw_only=True)
class Header:
    """One file that holds an image, or a DICOM object without one.

    Args:
        path: The file; for bytes a name of no meaning.
        content: Its bytes where it is no file on disk.
        num_bytes: Its size.
        patient_key: Equal for files of one patient: a hash of the id, or of name and birth date where it is empty.
        patient_id: Stripped; empty where absent.
        frames: Its images, in the order of the file.
        shown_inverted: The header says that high values are to be shown dark (Presentation LUT Shape INVERSE).
        mosaic: All slices of a volume lie side by side in one image.
        instance_uid: Equal for copies of one object.
    """

    path: Path = Path()
    content: bytes | None = field(default=None, repr=False)
    num_bytes: int = 0
    patient_key: str = ""
    patient_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    series_number: str = ""
    description: str = ""
    modality: str = ""
    sop_class: str = ""
    instance_uid: str = ""
    instance_number: int | None = None
    image_type: tuple[str, ...] = ()
    transfer_syntax: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    bits_allocated: int = 0
    bits_stored: int = 0
    signed: bool = False
    photometric: str = ""
    shown_inverted: bool = False
    frames: tuple[Frame, ...] = ()
    has_pixels: bool = False
    mosaic: bool = False
    gantry_tilt: float | None = None
    images_in_acquisition: int | None = None
    acquisition_number: int | None = None
    burned_in: str = ""
    identity_removed: bool = False
    padding: tuple[float, float] | None = None

    @property
    def is_directory(self) -> bool:
        """A DICOMDIR: it lists files and is none of a scan; what it says is not believed."""
        return self.sop_class == _DICOMDIR

    @property
    def is_localizer(self) -> bool:
        """The header says that the image is a scout."""
        return "LOCALIZER" in self.image_type


def read_header(path: Path, content: bytes | None = None) -> Header | None:
    """Read one file up to its pixels.

    Args:
        path: The file, or what it is called where `content` is given.
        content: The bytes of the file.

    Returns:
        None where the file is not DICOM.

    Raises:
        UnreadableScanError: It is DICOM and damaged.
        OSError: It cannot be opened.
    """
    with quietly(), opened(path, content) as stream:
        head = stream.read(2048)
        if not is_dicom(head[:352]):
            return None
        num_bytes = os.fstat(stream.fileno()).st_size if content is None else len(content)
        with explained():
            dataset, has_pixels, cut_off = _parse(stream, head, num_bytes)
            header = _header(dataset)
        has_pixels = has_pixels and header.rows > 0 and header.columns > 0
        header = replace(header, path=path, content=content, num_bytes=num_bytes, has_pixels=has_pixels)
        header = replace(header, transfer_syntax=DEFLATED) if is_deflated(head) else header
        _require_pixels(header, cut_off=cut_off)
    return header


@contextmanager
def opened(path: Path, content: bytes | None) -> Iterator[BinaryIO]:
    """Open a file, or bytes as if they were one."""
    if content is not None:
        yield io.BytesIO(content)
        return
    # most headers in one read: each one may hand the interpreter to another thread
    with path.open("rb", buffering=2**16) as stream:
        yield stream


@contextmanager
def explained() -> Iterator[None]:
    """Turn whatever pydicom raises on damaged bytes into one error; its message could quote a patient's tags."""
    try:
        yield
    except (UnreadableScanError, MemoryError):
        raise
    except EOFError as error:
        raise UnreadableScanError("is truncated: its header has no end", fix=_FIX, code="truncated") from error
    except Exception as error:
        raise UnreadableScanError(
            f"has a DICOM header that cannot be read ({type(error).__name__})", fix=_FIX, code="header-damaged"
        ) from None


_UNDEFINED = 0xFFFFFFFF
_FIX = "Copy or export the file again."


def _parse(stream: BinaryIO, head: bytes, num_bytes: int) -> tuple[Dataset, bool, bool]:
    """Return the header, whether pixels follow it, and whether it is cut off."""
    import pydicom

    deflated, stream = is_deflated(head), unpacked(stream)
    dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_tags())
    # the stream stands before the pixels; at its end where there are none; behind it where a skipped one is cut off
    beyond = not deflated and stream.tell() > num_bytes
    cut_off = beyond or any(map(_is_short, (*dataset.file_meta.values(), *dataset.values())))
    return dataset, deflated or stream.tell() < num_bytes, cut_off


@functools.cache
def _tags() -> list[Any]:
    from pydicom.tag import Tag

    return [*map(tag_of, _KEYWORDS), Tag(_SIEMENS_MOSAIC)]


def _is_short(element: Any) -> bool:
    """Whether the file ended within the element's value: pydicom keeps the rest of it without a word."""
    length = getattr(element, "length", None)  # of raw elements; others were read whole
    return length not in (None, _UNDEFINED) and len(element.value or b"") < length


def _header(dataset: Dataset) -> Header:
    image_type = tuple(part.upper() for part in texts(dataset, "ImageType"))
    return Header(
        image_type=image_type,
        rows=whole(dataset, "Rows") or 0,
        columns=whole(dataset, "Columns") or 0,
        samples=whole(dataset, "SamplesPerPixel") or 1,
        bits_allocated=whole(dataset, "BitsAllocated") or 0,
        bits_stored=whole(dataset, "BitsStored") or whole(dataset, "BitsAllocated") or 0,
        signed=whole(dataset, "PixelRepresentation") == 1,
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        shown_inverted=text(dataset, "PresentationLUTShape").upper() == "INVERSE",
        frames=read_frames(dataset),
        mosaic="MOSAIC" in image_type or _SIEMENS_MOSAIC in dataset,
        gantry_tilt=number(dataset, "GantryDetectorTilt"),
        images_in_acquisition=whole(dataset, "ImagesInAcquisition") or whole(dataset, "NumberOfSlices"),
        acquisition_number=whole(dataset, "AcquisitionNumber"),
        instance_number=whole(dataset, "InstanceNumber"),
        burned_in=text(dataset, "BurnedInAnnotation").upper(),
        identity_removed=text(dataset, "PatientIdentityRemoved").upper() == "YES",
        padding=_padding(dataset),
        **_identity(dataset),
    )


def _require_pixels(header: Header, *, cut_off: bool) -> None:
    """Refuse an image that has lost its pixels: left out in silence, it would be a slice too few.

    Raises:
        UnreadableScanError: With the code ``truncated`` or ``no-pixels``.
    """
    from pydicom.uid import UID

    if cut_off:
        raise UnreadableScanError("is truncated: its header has no end", fix=_FIX, code="truncated")
    # an object that does not say what it is was cut off before it could
    if header.has_pixels or (header.sop_class and "Image Storage" not in UID(header.sop_class).name):
        return
    raise UnreadableScanError("is an image without pixels", fix=_FIX, code="no-pixels")


def _identity(dataset: Dataset) -> dict[str, Any]:
    patient_id = text(dataset, "PatientID")
    # without an id name and birth date tell patients apart; a hash, so that neither is carried about
    who = patient_id or f"{text(dataset, 'PatientName')}\n{text(dataset, 'PatientBirthDate')}"
    return {
        "patient_id": patient_id,
        "patient_key": hashlib.sha256(f"{bool(patient_id)}\n{who}".encode()).hexdigest(),
        "study_uid": text(dataset, "StudyInstanceUID"),
        "series_uid": text(dataset, "SeriesInstanceUID"),
        "series_number": text(dataset, "SeriesNumber"),
        "description": text(dataset, "SeriesDescription"),
        "modality": text(dataset, "Modality").upper(),
        "sop_class": text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID"),
        "instance_uid": text(dataset, "SOPInstanceUID"),
        "transfer_syntax": text(dataset.file_meta, "TransferSyntaxUID"),
    }


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """Return Pixel Padding Value and the end of its range (the same value where there is none), or None.

    The VR of these two elements follows the pixels' signedness, and writers get it wrong: two bytes are read as
    the pixels are.
    """
    for kind in ("Float", "DoubleFloat"):
        value = number(dataset, f"{kind}PixelPaddingValue")
        if value is not None:
            limit = number(dataset, f"{kind}PixelPaddingRangeLimit")
            return value, value if limit is None else limit
    ends = [_two_bytes(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    return ends[0], ends[0] if ends[1] is None else ends[1]


def _two_bytes(dataset: Dataset, keyword: str) -> float | None:
    content = raw_bytes(dataset, keyword)
    if content is None or len(content) != 2:
        return None
    order = "little" if dataset.original_encoding[1] else "big"
    signed = whole(dataset, "PixelRepresentation") == 1
    return float(int.from_bytes(content, order, signed=signed))  # type: ignore[arg-type]
