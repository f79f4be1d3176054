"""`ScanStatistics`: what one scan looks like, in numbers, and what modality it seems to be, with the evidence."""

from __future__ import annotations

from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydantic

from medres.data.foreground import BODY_FROM_HU, foreground_box, foreground_mask, sampling_steps
from medres.data.image import ScanImage
from medres.data.texture import colorfulness, roughness
from medres.data.wording import range_text
from medres.runs.documents import Document

__all__ = ["ScanStatistics", "foreground_box", "foreground_mask", "scan_statistics"]

Modality = Literal["CT", "MR", "other"]
Sample = npt.NDArray[np.float64]

#: Levels of `ScanStatistics.percentiles`.
PERCENTILES = (0.5, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.5)

# Percentiles of 2**20 voxels are within 0.1 % of those of all; a 512x512x300 CT takes 0.2 s instead of 6 s.
_MAX_SAMPLED = 2**20

# Hounsfield units: air is -1000, no tissue is below it; paddings are -1024, -2000, -2048 and -3024.
_AIR_HU = -900.0
_LOWEST_PADDING_HU = -3100.0
_LUNG_HU = (-1000.0, -400.0)
_SOFT_TISSUE_HU = (-200.0, 300.0)
_LEAST_TISSUE = 0.005
_MOSTLY = 0.4
_EIGHT_BIT_RANGE = 255.0
_EIGHT_BIT_LEVELS = 256

#: The materials of a CT that `ScanStatistics.tissue_shares` counts: above which value (HU) each one begins.
TISSUES_FROM_HU = {"air": -np.inf, "lung": _AIR_HU, "soft_tissue": BODY_FROM_HU, "bone": _SOFT_TISSUE_HU[1]}

# Without the intercept of -1024 air is 0 and tissue 1000. A region inside an organ has nothing below zero either, but
# then 95 % of it are no bone.
_MOSTLY_NO_BONE_HU = 700.0

# A CT that was clipped at 0 has the value 0 where air, lung and fat were, and most of the rest is soft tissue of 20 to
# 80 HU. Magnitudes with an exact background lie anywhere, and noise around 0 has its mode at less than 10; where they
# lie just so, nothing in the voxels tells the two apart.
_CLIPPED_SHARE = 0.2
_CLIPPED_MODE_HU = (10.0, 120.0)
_CLIPPED_SOFT_HU = 200.0
_HIGHEST_HU = 3100.0
_MODE_STEP_HU = 10.0

#: How the evidence begins where voxels may be of one modality or of another; the guess is then ``other``.
CANNOT_TELL = "cannot tell"

# Modalities by DICOM's codes. A header can hold anything in their place, which is then not repeated; "other" (OT) and
# a secondary capture (SC) say nothing about the values.
_MODALITIES = frozenset(
    {"CT", "MR", "PT", "NM", "US", "IVUS", "CR", "DX", "MG", "XA", "RF", "IO", "PX", "XC", "ES", "GM", "SM", "OP",
     "OPT", "OCT", "BI", "BMD", "TG", "RTIMAGE", "RTDOSE", "SEG"}
)  # fmt: skip

# Magnitude images are dark where there is nothing, and few tissues are as bright as fat: a tenth of the voxels and more
# lies in the lowest 15 % of the range, and fewer in the highest. Nothing is cut off at the top, as a window does. Of
# shares of the range alone, since nothing tells the unit of a file.
_NEARLY = 0.15
_LEAST_DARK = 0.1
_DARKER_THAN_BRIGHT = 1.5
_MOST_SATURATED = 5e-4


class ScanStatistics(Document):
    """What one scan looks like. Axes are those of the file.

    Args:
        spatial_shape: Voxels along each axis.
        spacing_mm: Size of a voxel along each axis, or None where unknown.
        orientation: Code of the growth of the axes, such as ``LPS``; None for images and where unknown.
        dtype: Type of the stored voxels, such as ``int16``.
        num_channels: 1, 3 for true colour, or the number of sequences.
        minimum: Smallest value.
        maximum: Largest value.
        percentiles: Values at ``"0.5"`` to ``"99.5"`` per cent.
        foreground_fraction: Share of the voxels that are foreground.
        foreground_box: (start, stop) of the foreground's bounding box along each axis.
        modality: What the header says if the voxels can be that, else a guess from the voxels alone; of a region, from
            those of the whole scan.
        evidence: Why, in words.
        sampling_steps: Every how many voxels along each axis percentiles, foreground and guess looked at one; the
            box is widened by that much. All 1: every voxel. Minimum and maximum always are of all voxels.
        color: Whether the channels are the colours of one picture.
        channel_names: Names of the sequences that are the channels; empty for one image.
        header_modality: What the header says, or None where the format does not say.
        region: Which part of the whole scan this is, (start, stop) along each axis; None for a whole scan.
        tissue_shares: Of a CT in HU: share of the voxels that are air, lung, soft tissue (fat included) and bone.
        roughness: Mean difference between neighbouring voxels, as a share of the range of the values.
        colorfulness: Of a picture in true colour: how far its colours lie apart; else 0.
    """

    spatial_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None = None
    orientation: str | None = None
    dtype: str
    num_channels: int = pydantic.Field(ge=1)
    minimum: float
    maximum: float
    percentiles: dict[str, float]
    foreground_fraction: float
    foreground_box: tuple[tuple[int, int], ...]
    modality: Modality
    evidence: str
    sampling_steps: tuple[int, ...] = ()
    color: bool = False
    channel_names: tuple[str, ...] = ()
    header_modality: str | None = None
    region: tuple[tuple[int, int], ...] | None = None
    tissue_shares: dict[str, float] = pydantic.Field(default_factory=dict)
    roughness: float = 0.0
    colorfulness: float = 0.0

    @property
    def value_range(self) -> float:
        """Range of the values but for the darkest and the brightest 0.5 %."""
        return self.percentiles["99.5"] - self.percentiles["0.5"]

    def relative_level(self, percentile: str) -> float:
        """Return where in that range, which must not be 0, a percentile lies: from 0 (dark) to 1 (bright)."""
        return (self.percentiles[percentile] - self.percentiles["0.5"]) / self.value_range


def scan_statistics(image: ScanImage) -> ScanStatistics:
    """Return the statistics of a scan; the same every time.

    Example:
        >>> ct = np.full((1, 8, 8, 8), -1000, dtype=np.int16); ct[0, 2:6, 2:6, 2:6] = 40
        >>> statistics = scan_statistics(ScanImage(voxels=ct, affine=None, spacing_mm=None, content_hash=""))
        >>> statistics.modality, statistics.foreground_box
        ('CT', ((2, 6), (2, 6), (2, 6)))
    """
    steps = sampling_steps(image.spatial_shape, max_voxels=_MAX_SAMPLED)
    sampled = _sampled(image, steps)
    values = sampled.astype(np.float64).ravel()
    modality, evidence = _modality(sampled, image) if image.looks_like is None else image.looks_like
    mask = foreground_mask(sampled, modality=modality, color=image.color)
    percentiles = _percentiles(values)
    return ScanStatistics(
        spatial_shape=image.spatial_shape,
        spacing_mm=image.spacing_mm,
        orientation=orientation_code(image.affine),
        dtype=image.voxels.dtype.name,
        num_channels=image.voxels.shape[0],
        minimum=float(image.voxels.min()),
        maximum=float(image.voxels.max()),
        percentiles=percentiles,
        foreground_fraction=float(mask.mean()),
        foreground_box=_box_on_scan(foreground_box(mask), steps, image.spatial_shape),
        modality=modality,
        evidence=evidence,
        sampling_steps=steps,
        color=image.color,
        channel_names=image.channel_names,
        header_modality=known_modality(image.modality),
        region=image.region,
        tissue_shares=_tissue_shares(values) if modality == "CT" else {},
        roughness=roughness(image.voxels, value_range=percentiles["99.5"] - percentiles["0.5"]),
        colorfulness=colorfulness(sampled) if image.color else 0.0,
    )


def orientation_code(affine: npt.NDArray[np.float64] | None) -> str | None:
    """Return the anatomical directions in which the axes of an affine to RAS millimetres grow, nearest first.

    Example:
        >>> orientation_code(np.diag([-1.0, -1.0, 2.0, 1.0]))
        'LPS'
    """
    return None if affine is None else "".join(nib.orientations.aff2axcodes(affine))


def guess_modality(
    values: Sample, *, low: float, high: float, dtype: np.dtype[Any], header: str | None = None
) -> tuple[Modality, str]:
    """Return the modality of one grey channel, and the evidence.

    What the header says counts, as far as the voxels can be that: a CT has Hounsfield units only if its rescale
    intercept was applied, and 8 bits hold a screenshot. Without a header, CT is recognised by Hounsfield units: air at
    -1000 with tissue above it, or whole numbers that lie mostly between fat and blood and go below zero. MR is
    recognised as a magnitude image, in any unit: more than 255 steps from the darkest to the brightest value, many
    voxels near the darkest, few near the brightest. Everything else is ``other``. Which of the two is guessed does not
    change with the unit: not if all values are multiplied by a positive number, not if a number is added to them
    (unless they then are Hounsfield units). What may be such an image or a CT that was clipped at 0 is ``other``, with
    evidence that begins with `CANNOT_TELL`.

    Args:
        values: Sample of the voxels.
        low: Their minimum.
        high: Their maximum.
        dtype: Their type.
        header: Modality by the header, such as ``CT``, or None.
    """
    if header is not None:
        return _as_header_says(header, values, low, high, dtype)
    if dtype.itemsize == 1:
        return "other", f"8-bit values, {low:g} to {high:g}"
    known = _as_ct(values, low, high) or _as_either(values, low, high) or _as_mr(values, low, high)
    return known or ("other", _range_evidence(low, high))


def known_modality(header: str | None) -> str | None:
    """Return what a header says if that is a modality that tells about the values, or several of them with ``+``.

    Example:
        >>> known_modality("CT+PT"), known_modality("OT"), known_modality("Doe^John")
        ('CT+PT', None, None)
    """
    return header if header and set(header.split("+")) <= _MODALITIES else None


def what_it_looks_like(image: ScanImage) -> tuple[Modality, str]:
    """Return the modality of a scan and the evidence, from a regular sample of its voxels.

    Example:
        >>> ct = np.full((1, 8, 8, 8), -1000, dtype=np.int16); ct[0, 2:6, 2:6, 2:6] = 40
        >>> what_it_looks_like(ScanImage(voxels=ct, affine=None, spacing_mm=None, content_hash=""))[0]
        'CT'
    """
    return _modality(_sampled(image, sampling_steps(image.spatial_shape, max_voxels=_MAX_SAMPLED)), image)


def _sampled(image: ScanImage, steps: tuple[int, ...]) -> npt.NDArray[Any]:
    return image.voxels[(slice(None), *(slice(None, None, step) for step in steps))]


def _modality(sampled: npt.NDArray[Any], image: ScanImage) -> tuple[Modality, str]:
    """Return the modality that all channels have, else ``other``."""
    if image.color:
        return "other", "true colour"
    header = known_modality(image.modality)
    guesses = [
        guess_modality(
            part.astype(np.float64).ravel(), low=float(whole.min()), high=float(whole.max()),
            dtype=whole.dtype, header=header,
        )
        for part, whole in zip(sampled, image.voxels, strict=True)
    ]  # fmt: skip
    if len({modality for modality, _ in guesses}) == 1:
        return guesses[0]
    return "other", "its channels look like " + ", ".join(modality for modality, _ in guesses)


def _as_header_says(header: str, values: Sample, low: float, high: float, dtype: np.dtype[Any]) -> tuple[Modality, str]:
    if header == "MR":
        return "MR", f"the header says MR; values from {low:g} to {high:g}"
    if header != "CT":
        return "other", f"the header says {header}; {_range_evidence(low, high)}"
    if dtype.itemsize == 1:
        return "other", f"the header says CT, but the values are 8-bit, {low:g} to {high:g}"
    if _can_be_hounsfield(values, low):
        return "CT", f"the header says CT; values from {low:g} to {high:g} can be Hounsfield units"
    return "other", f"the header says CT, but values from {low:g} to {high:g} are no Hounsfield units"


def _can_be_hounsfield(values: Sample, low: float) -> bool:
    """Return whether an intercept was applied: air and fat are below zero; where there are none, hardly any is bone."""
    lowest, highest = np.percentile(values, [0.5, 95])
    return bool(lowest >= _LOWEST_PADDING_HU and (low < 0 or highest <= _MOSTLY_NO_BONE_HU))


def _as_ct(values: Sample, low: float, high: float) -> tuple[Modality, str] | None:
    soft, lung = _share(values, _SOFT_TISSUE_HU), _share(values, _LUNG_HU)
    lowest = float(np.percentile(values, 0.5))
    if lowest >= _LOWEST_PADDING_HU and low <= _AIR_HU and max(soft, lung) >= _LEAST_TISSUE:
        return "CT", f"Hounsfield units: minimum {low:g} (air), {soft:.0%} between fat and blood, {lung:.0%} lung"
    if _AIR_HU < low < 0 and high - low > _EIGHT_BIT_RANGE and soft >= _MOSTLY and _is_whole(values):
        return "CT", f"Hounsfield units: whole numbers from {low:g}, {soft:.0%} of them between fat and blood"
    return None


def _as_either(values: Sample, low: float, high: float) -> tuple[Modality, str] | None:
    """Return that a scan may be a CT clipped at 0, or an MR whose background is 0; None where it is no such CT."""
    clipped, rest = float(np.mean(values == 0)), values[values > 0]
    if low != 0 or high <= _EIGHT_BIT_RANGE or clipped < _CLIPPED_SHARE or not len(rest):
        return None
    counts, edges = np.histogram(rest, bins=np.arange(0, _HIGHEST_HU + _MODE_STEP_HU, _MODE_STEP_HU))
    mode = float(edges[counts.argmax()])
    soft = float(np.mean(rest <= _CLIPPED_SOFT_HU))
    in_range = np.percentile(values, 99.5) <= _HIGHEST_HU
    if not (in_range and soft >= 0.5 and _CLIPPED_MODE_HU[0] <= mode <= _CLIPPED_MODE_HU[1]):
        return None
    return "other", (
        f"{CANNOT_TELL}: values from {low:g} to {high:g}, {clipped:.0%} of them exactly 0 and {soft:.0%} of the others "
        f"up to {_CLIPPED_SOFT_HU:g}, as a CT clipped at 0 has them, or an MR"
    )


def _as_mr(values: Sample, low: float, high: float) -> tuple[Modality, str] | None:
    darkest, brightest = (float(level) for level in np.percentile(values, [0.5, 99.5]))
    margin = _NEARLY * (brightest - darkest)
    dark, bright = float(np.mean(values <= darkest + margin)), float(np.mean(values >= brightest - margin))
    is_magnitude = dark >= max(_LEAST_DARK, _DARKER_THAN_BRIGHT * bright)
    is_cut_off = np.count_nonzero(values == high) > 1 + _MOST_SATURATED * len(values)
    if not is_magnitude or is_cut_off or not _exceeds_eight_bit(values):
        return None
    return "MR", f"magnitudes from {range_text(low, high)}, more than 8 bits, {dark:.0%} of them dark"


def _exceeds_eight_bit(values: Sample) -> bool:
    """Return whether the range has more than 255 of the smallest steps between values, whatever the unit."""
    if len(np.unique(values[:: 1 + len(values) // 2**14])) > _EIGHT_BIT_LEVELS:  # a part mostly shows it already
        return True
    steps = np.diff(np.unique(values))
    return bool(len(steps)) and float(np.sum(steps) / np.min(steps)) > _EIGHT_BIT_RANGE + 0.5


def _range_evidence(low: float, high: float) -> str:
    return f"values from {range_text(low, high)}, neither Hounsfield units nor magnitudes"


def _is_whole(values: Sample) -> bool:
    return bool(np.mean(np.abs(values - np.round(values)) < 1e-3) > 0.99)


def _share(values: Sample, band: tuple[float, float]) -> float:
    return float(np.mean((values >= band[0]) & (values <= band[1])))


def _percentiles(values: Sample) -> dict[str, float]:
    levels = np.percentile(values, PERCENTILES)
    return {f"{level:g}": float(value) for level, value in zip(PERCENTILES, levels, strict=True)}


def _tissue_shares(values: Sample) -> dict[str, float]:
    above = [1.0, *(float(np.mean(values > level)) for level in list(TISSUES_FROM_HU.values())[1:]), 0.0]
    return {name: above[index] - above[index + 1] for index, name in enumerate(TISSUES_FROM_HU)}


def _box_on_scan(box: tuple[slice, ...], steps: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return a box on the sampled grid as a box on the scan that surely holds what lies between the samples."""
    return tuple(
        (max(0, side.start * step - (step - 1)), min(size, (side.stop - 1) * step + step))
        for side, step, size in zip(box, steps, shape, strict=True)
    )
