"""The frames of one file: one in a classic file, many in an enhanced one, each with its place and its scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medres.data.readers.dicom.elements import (
    Dataset,
    first_item,
    items,
    number,
    numbers,
    text,
    texts,
    whole,
)
from medres.data.readers.dicom.tables import LookupTable, modality_table, pixels_are_signed
from medres.errors import UnreadableScanError

Triple = tuple[float, float, float]

# A file that claims more frames than this is damaged: the longest films and perfusion series have some thousands.
_MAX_FRAMES = 50_000

# What may differ between the volumes of a 4D series, by how people number them: time first, then what was varied.
_ORDER_NUMBERS = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "DiffusionBValue",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
)
_ORDER_TEXTS = ("ImageType", "AcquisitionDateTime", "AcquisitionTime", "ContentTime")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image in a file.

    Args:
        number: Its index in the file, from 0.
        position: Centre of the first pixel in LPS mm, or None.
        orientation: Direction cosines along a row, then along a column, or None.
        spacing_mm: Distance between rows, then between columns, or None where unknown.
        slope: Factor of the rescale.
        intercept: Added after it.
        table: What stands in the place of both (Modality LUT), or None.
        order: By name, what may tell the volumes of a 4D series apart.
    """

    number: int = 0
    position: Triple | None = None
    orientation: tuple[float, ...] | None = None
    spacing_mm: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    table: LookupTable | None = None
    order: Mapping[str, float | str] = field(default_factory=dict)


def read_frames(dataset: Dataset) -> tuple[Frame, ...]:
    """Return the frames that a header describes.

    Raises:
        UnreadableScanError: It claims more of them than any scanner makes, or has a Modality LUT that is damaged.
    """
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    count = max(whole(dataset, "NumberOfFrames") or 1, 1)
    if max(count, len(per_frame)) > _MAX_FRAMES:
        raise UnreadableScanError(
            f"claims more than {_MAX_FRAMES:,} images", fix="Copy or export the file again.", code="header-damaged"
        )
    table = modality_table(dataset, signed=pixels_are_signed(dataset))
    if per_frame:
        shared = first_item(dataset, "SharedFunctionalGroupsSequence")
        return tuple(_enhanced(dataset, group, shared, index, table) for index, group in enumerate(per_frame))
    frame = _classic(dataset, table)
    if count == 1:
        return (frame,)
    # a film without functional groups: only its first frame is placed by the header, so none is
    return tuple(
        Frame(number=index, spacing_mm=frame.spacing_mm, slope=frame.slope, intercept=frame.intercept,
              table=table, order={"frame": float(index)})
        for index in range(count)
    )  # fmt: skip


def _classic(dataset: Dataset, table: LookupTable | None) -> Frame:
    return Frame(
        position=_triple(numbers(dataset, "ImagePositionPatient")),
        orientation=_cosines(numbers(dataset, "ImageOrientationPatient")),
        spacing_mm=_classic_spacing(dataset),
        slope=_slope(dataset),
        intercept=number(dataset, "RescaleIntercept") or 0.0,
        table=table,
        order=_classic_order(dataset),
    )


def _classic_spacing(dataset: Dataset) -> tuple[float, float] | None:
    # at the patient, else at the detector: larger by the magnification, and the best that is known
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = _spacing(numbers(dataset, keyword))
        if spacing is not None:
            return spacing
    return None


def _classic_order(dataset: Dataset) -> Mapping[str, float | str]:
    order: dict[str, float | str] = {}
    for keyword in _ORDER_NUMBERS:
        value = number(dataset, keyword)
        if value is not None:
            order[keyword] = value
    for keyword in _ORDER_TEXTS:
        value_text = text(dataset, keyword)
        if value_text:
            order[keyword] = value_text
    return order


def _enhanced(dataset: Dataset, group: Dataset, shared: Dataset | None, index: int, table: LookupTable | None) -> Frame:
    def macro(keyword: str) -> Dataset | None:
        own = first_item(group, keyword)
        return own if own is not None or shared is None else first_item(shared, keyword)

    position, orientation = macro("PlanePositionSequence"), macro("PlaneOrientationSequence")
    measures, scale = macro("PixelMeasuresSequence"), macro("PixelValueTransformationSequence")
    return Frame(
        number=index,
        position=None if position is None else _triple(numbers(position, "ImagePositionPatient")),
        orientation=None if orientation is None else _cosines(numbers(orientation, "ImageOrientationPatient")),
        spacing_mm=_classic_spacing(dataset) if measures is None else _spacing(numbers(measures, "PixelSpacing")),
        slope=_slope(dataset if scale is None else scale),
        intercept=number(dataset if scale is None else scale, "RescaleIntercept") or 0.0,
        table=_frame_table(group, shared, signed=pixels_are_signed(dataset)) or table,
        order=_enhanced_order(group, index),
    )


def _frame_table(group: Dataset, shared: Dataset | None, *, signed: bool) -> LookupTable | None:
    """Return the Modality LUT of a frame: in its own group, or in that of all frames, alone or beside the rescale."""
    for holder in (group, shared):
        if holder is None:
            continue
        scale = first_item(holder, "PixelValueTransformationSequence")
        for place in (holder, scale):
            table = None if place is None else modality_table(place, signed=signed)
            if table is not None:
                return table
    return None


def _enhanced_order(group: Dataset, index: int) -> Mapping[str, float | str]:
    order: dict[str, float | str] = {}
    content = first_item(group, "FrameContentSequence")
    if content is not None:
        for keyword in ("TemporalPositionIndex", "FrameAcquisitionNumber"):
            value = number(content, keyword)
            if value is not None:
                order[keyword] = value
        for axis, value in enumerate(numbers(content, "DimensionIndexValues")):
            order[f"dimension {axis}"] = value
        order["StackID"] = text(content, "StackID")
    order.update(_varied(group))
    return order


def _varied(group: Dataset) -> dict[str, float | str]:
    """What an enhanced MR or CT varies from volume to volume."""
    found: dict[str, float | str] = {}
    for sequence, keyword in (("MRDiffusionSequence", "DiffusionBValue"), ("MREchoSequence", "EffectiveEchoTime")):
        item = first_item(group, sequence)
        value = None if item is None else number(item, keyword)
        if value is not None:
            found[keyword] = value
    for sequence in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
        item = first_item(group, sequence)
        if item is not None:
            found["FrameType"] = "\\".join(texts(item, "FrameType"))
    return found


def _slope(dataset: Dataset) -> float:
    # a factor of 0 would erase the image: the header means that there is none
    return number(dataset, "RescaleSlope") or 1.0


def _triple(values: Sequence[float]) -> Triple | None:
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def _cosines(values: Sequence[float]) -> tuple[float, ...] | None:
    return tuple(values) if len(values) == 6 else None


def _spacing(values: Sequence[float]) -> tuple[float, float] | None:
    return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None
