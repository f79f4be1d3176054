"""`Fingerprint`: what a data set looks like, in aggregates. No identifier, no path, no single scan.

It is made from the training scans alone (a test split is never seen) and is all that the planner looks at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import pydantic

from medres.data.statistics import CANNOT_TELL, Modality, ScanStatistics
from medres.data.wording import range_text
from medres.errors import DataError
from medres.planning.axes import anatomical_axes
from medres.planning.scan_measures import RELATIVE_LEVELS, box_sizes, boxes_mm, extents_mm, in_plan_order
from medres.planning.spread import Spread, rounded, spread_by_axis
from medres.runs.documents import Document

#: One kind must be nearly all of the scans before all of them are treated as that kind.
_AGREEMENT = 0.9

_SIGNS: dict[Modality, str] = {
    "CT": "look like CT (Hounsfield units: air, fat and soft tissue where they belong)",
    "MR": "look like MR (magnitudes: more than 8 bits, dark where there is nothing, few bright voxels)",
    "other": "look like neither CT (no Hounsfield units) nor MR (no magnitudes of more than 8 bits)",
}

#: A volume whose slices are at least twice as thick as its pixels are wide is called anisotropic.
ANISOTROPIC_FROM = 2.0


class Grid(Document):
    """The voxel grids of the images, or of the volumes, of a data set.

    Axes are in the plan's order: (H, W) for images; (D, H, W) of ``SPL`` for volumes that know their orientation,
    (K, J, I) of the file for those that do not.

    Args:
        num_scans: How many there are.
        size: Voxels along each axis.
        same_size: Whether all have exactly the same size.
        box: Size of the foreground's bounding box in voxels.
        box_fraction: Share of the voxels that lie inside that box.
        foreground_fraction: Share of the voxels that are foreground.
        num_with_spacing: How many know the size of their voxels; all fields in mm are over these.
        spacing_mm: Spacing along each axis.
        common_spacing_mm: The most frequent spacing (rounded to 0.01 mm).
        anisotropy: Largest over smallest spacing of a scan.
        extent_mm: Field of view along each axis.
        box_mm: Size of the foreground's bounding box in mm.
        num_with_orientation: How many know how they lie in the patient.
        orientations: Codes of the files' own axes, and how often they occur.
        coarse_axes: Of the anisotropic ones with known orientation: which of D, H, W of ``SPL`` is the coarsest.
    """

    num_scans: int
    size: tuple[Spread, ...]
    same_size: bool
    box: tuple[Spread, ...]
    box_fraction: Spread
    foreground_fraction: Spread
    num_with_spacing: int = 0
    spacing_mm: tuple[Spread, ...] | None = None
    common_spacing_mm: tuple[float, ...] | None = None
    anisotropy: Spread | None = None
    extent_mm: tuple[Spread, ...] | None = None
    box_mm: tuple[Spread, ...] | None = None
    num_with_orientation: int = 0
    orientations: dict[str, int] = pydantic.Field(default_factory=dict)
    coarse_axes: dict[str, int] = pydantic.Field(default_factory=dict)


class Fingerprint(Document):
    """Aggregated statistics of a data set.

    Args:
        format: Version of this document.
        num_scans: Number of scans.
        images: Grids of the 2D images; None where there are none.
        volumes: Grids of the 3D volumes; None where there are none.
        modality: What nearly all scans look like; ``other`` where they do not agree.
        modalities: Guess of each scan, counted.
        evidence: Why, in a sentence.
        dtypes: Types of the stored voxels, counted.
        num_channels: Channels of the scans, counted; three are true colour unless they are sequences.
        minimum: Smallest value of each scan.
        maximum: Largest value of each scan.
        percentiles: Of the values of each scan: ``"0.5"`` to ``"99.5"``.
        width: Range of the values of each scan without its darkest and brightest 0.5 %; the whole range where these
            are one value (a small mask).
        full_range: Smallest and largest value, of all but the 5 % of the scans that reach farthest; to six digits of
            their difference.
        robust_range: The same without the darkest and brightest 0.5 % of each scan.
        sequences: Names of the sequences that are the channels of every scan; empty for scans of one image.
        num_regions: How many are a region of interest of a larger scan; all sizes are then those of the regions.
        header_modalities: Modality by the header of each scan that says it, counted.
        num_color: How many are in true colour.
        value_range: Of the values of each scan, between their 0.5th and 99.5th percentile.
        relative_levels: Where in that range the quartiles and the 95th percentile of each scan lie, 0 to 1; of scans
            that have a range.
        roughness: How much neighbouring voxels of each scan differ, as a share of that range.
        colorfulness: How far the colours of each scan lie apart; 0 for grey ones.
        tissue_shares: Of scans in HU: the share of each that is air, lung, soft tissue and bone; empty for others.
    """

    format: Literal[1] = 1
    num_scans: int
    images: Grid | None = None
    volumes: Grid | None = None
    modality: Modality
    modalities: dict[str, int]
    evidence: str
    dtypes: dict[str, int]
    num_channels: dict[str, int]
    minimum: Spread
    maximum: Spread
    percentiles: dict[str, Spread]
    width: Spread
    full_range: tuple[float, float]
    robust_range: tuple[float, float]
    sequences: tuple[str, ...] = ()
    num_regions: int = 0
    header_modalities: dict[str, int] = pydantic.Field(default_factory=dict)
    num_color: int = 0
    value_range: Spread
    relative_levels: dict[str, Spread]
    tissue_shares: dict[str, Spread] = pydantic.Field(default_factory=dict)
    roughness: Spread
    colorfulness: Spread

    @property
    def num_images(self) -> int:
        """Number of 2D images."""
        return self.images.num_scans if self.images else 0

    @property
    def num_volumes(self) -> int:
        """Number of 3D volumes."""
        return self.volumes.num_scans if self.volumes else 0


def make_fingerprint(statistics: Mapping[str, ScanStatistics]) -> Fingerprint:
    """Aggregate the statistics of the training scans, by sample id; the order of the ids does not matter.

    Raises:
        DataError: There is no scan, or scans have different sequences.
    """
    scans = list(statistics.values())
    if not scans:
        raise DataError("There are no scans to plan for.", fix="Give a folder or table with labelled scans.")
    modality, evidence = _modality(scans)
    limits = [_robust_limits(scan) for scan in scans]
    width = float(np.median([high - low for low, high in limits]))
    return Fingerprint(
        num_scans=len(scans),
        images=_grid([scan for scan in scans if len(scan.spatial_shape) == 2]),
        volumes=_grid([scan for scan in scans if len(scan.spatial_shape) == 3]),
        modality=modality,
        modalities=_counted(scan.modality for scan in scans),
        evidence=evidence,
        dtypes=_counted(scan.dtype for scan in scans),
        num_channels=_counted(str(scan.num_channels) for scan in scans),
        minimum=Spread.over((scan.minimum for scan in scans), width=width),
        maximum=Spread.over((scan.maximum for scan in scans), width=width),
        percentiles=_percentiles(scans, width),
        width=Spread.over(high - low for low, high in limits),
        full_range=_common_range([(scan.minimum, scan.maximum) for scan in scans]),
        robust_range=_common_range(limits),
        sequences=_sequences(scans),
        num_regions=sum(scan.region is not None for scan in scans),
        header_modalities=_counted(scan.header_modality for scan in scans if scan.header_modality),
        num_color=sum(scan.color for scan in scans),
        value_range=Spread.over(scan.value_range for scan in scans),
        relative_levels=_relative_levels(scans),
        tissue_shares=_tissue_shares(scans),
        roughness=Spread.over(scan.roughness for scan in scans),
        colorfulness=Spread.over(scan.colorfulness for scan in scans),
    )


def _relative_levels(scans: Collection[ScanStatistics]) -> dict[str, Spread]:
    with_range = [scan for scan in scans if scan.value_range > 0]
    levels = RELATIVE_LEVELS if with_range else ()
    return {level: Spread.over(scan.relative_level(level) for scan in with_range) for level in levels}


def _tissue_shares(scans: Collection[ScanStatistics]) -> dict[str, Spread]:
    in_hu = [scan.tissue_shares for scan in scans if scan.tissue_shares]
    return {tissue: Spread.over(shares[tissue] for shares in in_hu) for tissue in (in_hu[0] if in_hu else ())}


def _modality(scans: Collection[ScanStatistics]) -> tuple[Modality, str]:
    counts = Counter(scan.modality for scan in scans)
    # by count, then by name: the same scans in another order give the same fingerprint
    guess, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    # Hounsfield units are told for sure; MR and others by their looks, of which the most frequent one counts
    agreeing = count if guess == "CT" else len(scans) - counts["CT"]
    if agreeing < _AGREEMENT * len(scans):
        found = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        return "other", f"The scans do not agree on a modality: {found}."
    low, high = (float(np.median(values)) for values in _value_limits(scans))
    values = f"values from {range_text(*(rounded(end, width=high - low) for end in (low, high)))} in the median scan"
    return (
        guess,
        f"{count} of {len(scans)} scans {_SIGNS[guess]}; {values}.{_unclear(scans)}{_by_headers(guess, scans)}",
    )


def _unclear(scans: Collection[ScanStatistics]) -> str:
    """Return a word about scans that may be CT or MR: they count as ``other``, whose scale comes from the data."""
    number = sum(scan.evidence.startswith(CANNOT_TELL) for scan in scans)
    return f" {number} may be CT clipped at 0, or MR; set planning.modality if you know." if number else ""


def _by_headers(guess: Modality, scans: Collection[ScanStatistics]) -> str:
    """Return what headers say, with a word about those that the values contradict."""
    said = _counted(scan.header_modality for scan in scans if scan.header_modality)
    if not said:
        return ""
    told = " Headers say " + ", ".join(f"{name} ({count})" for name, count in said.items()) + "."
    wrong = sum(scan.header_modality == "CT" and scan.modality != "CT" for scan in scans)
    doubt = f" The values of {wrong} scans that are CT by their headers are no Hounsfield units." if wrong else ""
    return told + doubt


def _sequences(scans: Collection[ScanStatistics]) -> tuple[str, ...]:
    counts = Counter(scan.channel_names for scan in scans)
    if len(counts) > 1:
        found = "; ".join(f"{count} with {', '.join(names) or 'one image'}" for names, count in sorted(counts.items()))
        raise DataError(
            f"The scans have different sequences: {found}.",
            fix="Name those that all of them have, in the order of the channels: --sequences t1,flair.",
        )
    return next(iter(counts))


def _value_limits(scans: Collection[ScanStatistics]) -> tuple[list[float], list[float]]:
    return [scan.minimum for scan in scans], [scan.maximum for scan in scans]


def _percentiles(scans: Collection[ScanStatistics], width: float) -> dict[str, Spread]:
    levels = sorted({level for scan in scans for level in scan.percentiles}, key=float)
    return {
        level: Spread.over((scan.percentiles[level] for scan in scans if level in scan.percentiles), width=width)
        for level in levels
    }


def _robust_limits(scan: ScanStatistics) -> tuple[float, float]:
    low, high = scan.percentiles.get("0.5", scan.minimum), scan.percentiles.get("99.5", scan.maximum)
    return (low, high) if low < high else (scan.minimum, scan.maximum)


def _common_range(limits: Collection[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*limits, strict=True)
    low, high = float(np.percentile(lows, 5)), float(np.percentile(highs, 95))
    return rounded(low, width=high - low, digits=6), rounded(high, width=high - low, digits=6)


def _grid(scans: list[ScanStatistics]) -> Grid | None:
    if not scans:
        return None
    sizes = [in_plan_order(scan, scan.spatial_shape) for scan in scans]
    boxes = [in_plan_order(scan, box_sizes(scan)) for scan in scans]
    shares = [float(np.prod(box) / np.prod(size)) for box, size in zip(boxes, sizes, strict=True)]
    return Grid(
        num_scans=len(scans),
        size=spread_by_axis(sizes),
        same_size=len(set(sizes)) == 1,
        box=spread_by_axis(boxes),
        box_fraction=Spread.over(shares),
        foreground_fraction=Spread.over(scan.foreground_fraction for scan in scans),
        num_with_orientation=sum(scan.orientation is not None for scan in scans),
        orientations=_counted(scan.orientation for scan in scans if scan.orientation),
        coarse_axes=_counted(axis for scan in scans if (axis := _coarse_axis(scan))),
        **_in_millimetres([scan for scan in scans if scan.spacing_mm is not None]),
    )


def _in_millimetres(scans: list[ScanStatistics]) -> dict[str, Any]:
    if not scans:
        return {}
    spacings = [in_plan_order(scan, scan.spacing_mm or ()) for scan in scans]
    common = Counter(tuple(round(value, 2) for value in spacing) for spacing in spacings)
    return {
        "num_with_spacing": len(scans),
        "spacing_mm": spread_by_axis(spacings),
        "common_spacing_mm": min(common.items(), key=lambda item: (-item[1], item[0]))[0],
        "anisotropy": Spread.over(max(spacing) / min(spacing) for spacing in spacings),
        "extent_mm": spread_by_axis([extents_mm(scan) for scan in scans]),
        "box_mm": spread_by_axis([boxes_mm(scan) for scan in scans]),
    }


def _coarse_axis(scan: ScanStatistics) -> str | None:
    if scan.orientation is None or scan.spacing_mm is None or len(scan.spacing_mm) != 3:
        return None
    if max(scan.spacing_mm) < ANISOTROPIC_FROM * min(scan.spacing_mm):
        return None
    axis = anatomical_axes(scan.orientation)[int(np.argmax(scan.spacing_mm))]
    return "WHD"[axis]


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
