"""`ReadingRules`: the choices by which files become one scan; part of the plan, so that use reads as training did."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic

from medres.runs.documents import Document, Number, WholeNumber

_Millimetres = Annotated[Number, pydantic.Field(gt=0, le=1000)]

#: Index of a volume: no 4D file has more.
MAX_VOLUME = 1_000_000


class ReadingRules(Document):
    """How files become one scan.

    Args:
        volume: Which volume of a 4D file or series is the scan, from 0; None refuses 4D.
        series: Regular expression that chooses among the DICOM series of a study, searched in
            ``number description uid``; None chooses by rule.
        gantry_tilt: ``correct`` shears a tilted CT onto an orthogonal grid, ``refuse`` is an error.
        uneven_slices: ``resample`` puts slices at uneven distances (a missing one is such a distance) onto an even
            grid by their true positions, ``refuse`` is an error.
        sequences: Names of the images that become channels, in order; empty for scans of one image.
        roi_size_mm: Edges of the region of interest (left-right, back-front, feet-head) in mm; None: whole scans.

    Example:
        >>> ReadingRules(roi_size_mm=(40, 40, 40)).roi_size_mm
        (40.0, 40.0, 40.0)
    """

    #: Whether an object that marks parts of other images (a DICOM segmentation) is read: as a mask, never as a scan.
    takes_segmentations: ClassVar[bool] = False

    volume: WholeNumber | None = pydantic.Field(default=None, ge=0, le=MAX_VOLUME)
    series: str | None = None
    gantry_tilt: Literal["correct", "refuse"] = "correct"
    uneven_slices: Literal["resample", "refuse"] = "resample"
    sequences: tuple[str, ...] = ()
    roi_size_mm: tuple[_Millimetres, _Millimetres, _Millimetres] | None = None


class MaskRules(ReadingRules):
    """How a file becomes the mask of a region of interest: as it would become a scan; or it is a segmentation object.

    Example:
        >>> MaskRules().takes_segmentations, ReadingRules().takes_segmentations
        (True, False)
    """

    takes_segmentations: ClassVar[bool] = True
