"""`Plan`: everything that was decided about a data set, with a reason for each choice. Editable as ``plan.yaml``."""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, Literal, Self

import pydantic

from medres.data.readers.rules import ReadingRules
from medres.runs.documents import Document, Number, WholeNumber
from medres.runs.plain_data import shortened

#: Named CT windows, (low, high) in Hounsfield units: level -/+ half the usual width.
CT_WINDOWS_HU: dict[str, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "soft_tissue": (-160.0, 240.0),
    "brain": (0.0, 80.0),
    "bone": (-500.0, 1300.0),
    "wide": (-1000.0, 1000.0),
}


#: Of a window's bound: metal has 30,000.
MAX_HU = 1_000_000

#: Samples of a training step.
MAX_BATCH_SIZE = 65_536

#: Of the network's input: voxels along an axis, and voxels in all (512 x 512 x 512: half a GiB in fp32, before the
#: first layer makes 64 channels of it).
MAX_SIDE = 32_768
MAX_VOXELS = 2**27

#: Bytes of disk for activations: 1 PiB.
MAX_DISK_BYTES = 2**50

Side = Annotated[WholeNumber, pydantic.Field(le=MAX_SIDE)]
SpacingMm = Annotated[Number, pydantic.Field(le=1000)]

#: A grey value: fp32 ends at 3.4e38, and half of it must still be one.
GreyValue = Annotated[Number, pydantic.Field(ge=-1e37, le=1e37)]
#: Of a scan, in any unit: readers refuse values beyond 1e300.
VoxelValue = Annotated[Number, pydantic.Field(ge=-1e301, le=1e301)]


def require_voxels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape whose voxels a network could be given.

    Raises:
        ValueError: It has more than `MAX_VOXELS`.
    """
    if math.prod(shape) > MAX_VOXELS:
        raise ValueError(f"must have at most {MAX_VOXELS:,} voxels in all, and has {math.prod(shape):,}")
    return shape


def _parse_windows(value: Any) -> Any:
    """Check each window by itself, so that one sentence says what is wrong with which."""
    windows = (value,) if isinstance(value, str) else value
    if not isinstance(windows, (list, tuple)):
        raise ValueError("must be a list of windows, such as [lung, soft_tissue] or [[-1000, 400]]")
    return tuple(_parse_window(window) for window in windows)


def _parse_window(window: Any) -> str | tuple[float, float]:
    if isinstance(window, str):
        return _known_window(window)
    numbers = isinstance(window, (list, tuple)) and len(window) == 2 and all(map(_is_bound_hu, window))
    if not numbers or not window[0] < window[1]:
        names = ", ".join(CT_WINDOWS_HU)
        raise ValueError(
            f"window {shortened(window)} must be a name ({names}) or [low, high] in HU, low < high, within "
            f"{MAX_HU:,} HU of 0"
        )
    return (float(window[0]), float(window[1]))


def _is_bound_hu(bound: Any) -> bool:
    return isinstance(bound, (int, float)) and not isinstance(bound, bool) and abs(bound) <= MAX_HU


def _known_window(name: str) -> str:
    if name in CT_WINDOWS_HU:
        return name
    near = difflib.get_close_matches(name, CT_WINDOWS_HU, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"window {shortened(name)!r} is not one of {', '.join(CT_WINDOWS_HU)}{hint}")


#: Windows by name or as (low, high) in HU.
Windows = Annotated[tuple[str | tuple[float, float], ...], pydantic.BeforeValidator(_parse_windows)]


Crop = Literal["foreground", "none"]
IntensityScheme = Literal["hu_windows", "robust_zscore", "scaled"]


class Intensity(Document):
    """How stored voxels become the network's input.

    ``hu_windows``: CT; each window of `windows_hu` becomes one channel, [low, high] mapped to [0, 1] and clipped; of
    several sequences all windows of the first come first.
    ``robust_zscore``: MR; each scan and sequence alone, median and inter-quartile spread over its foreground, clipped
    at +-5.
    ``scaled``: values that already have one scale, `scale_range` mapped to [0, 1] (8-bit images: 0 to 255).

    Every scheme ends in an affine map to `mean` and `std`, the statistics that the weights were trained with.

    Args:
        scheme: One of the three.
        windows_hu: Windows by name or as (low, high) in HU; for ``hu_windows``.
        scale_range: (low, high) of the data's own scale; for ``scaled``.
        mean: Per input channel, or one value for all.
        std: The same.
    """

    scheme: IntensityScheme
    windows_hu: Windows = ()
    scale_range: tuple[VoxelValue, VoxelValue] = (0.0, 1.0)
    mean: tuple[GreyValue, ...] = (0.5,)
    std: tuple[GreyValue, ...] = (0.5,)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.scheme == "hu_windows" and not self.windows_hu:
            raise ValueError("scheme hu_windows needs at least one window in windows_hu")
        if self.scale_range[0] >= self.scale_range[1]:
            raise ValueError(f"scale_range {list(self.scale_range)} must have low < high")
        if not self.std or min(self.std) <= 0 or len(self.mean) != len(self.std):
            raise ValueError("mean and std must have the same length and std must be positive")
        return self

    def window_bounds_hu(self) -> tuple[tuple[float, float], ...]:
        """Return the windows as (low, high) pairs in HU."""
        return tuple(CT_WINDOWS_HU[window] if isinstance(window, str) else window for window in self.windows_hu)


#: Most slices that the 2.5D network sees as channels. Estimates of memory (`medres.planning.budget`) do not count input
#: channels: with three CT windows of 15 slices ResNet-18 keeps 0.85 of its estimate, with one channel 0.61.
MAX_NEIGHBOURS = 15


def _odd(neighbours: int) -> int:
    if neighbours % 2 and 1 <= neighbours <= MAX_NEIGHBOURS:
        return neighbours
    raise ValueError(
        f"must be an odd number from 1 to {MAX_NEIGHBOURS}: a slice and as many on one side as on the other"
    )


#: How many neighbouring slices are channels; `medres.planning.overrides` has the same.
Neighbours = Annotated[WholeNumber, pydantic.AfterValidator(_odd)]

#: Magnitudes of random changes and what they may be; `medres.planning.overrides` has the same.
Degrees = Annotated[Number, pydantic.Field(ge=0, le=180)]
Relative = Annotated[Number, pydantic.Field(ge=0, lt=1)]
Deviations = Annotated[Number, pydantic.Field(ge=0, le=100)]
Shift = Annotated[Number, pydantic.Field(ge=0, le=0.5)]
CutAway = Annotated[Number, pydantic.Field(ge=0, le=0.9)]
BlurVoxels = Annotated[Number, pydantic.Field(ge=0, le=5)]
Exponent = Annotated[Number, pydantic.Field(ge=0, le=4)]
LogGain = Annotated[Number, pydantic.Field(ge=0, le=1)]


class Augmentation(Document):
    """Random changes that leave the diagnosis as it is. All magnitudes are the largest that is drawn; 0 is off.

    What each one stands for: docs/concepts/augmentation.md. Fields that an older ``plan.yaml`` lacks are off.

    Args:
        flip_axes: Spatial axes of the network's input that may be mirrored, 0 = D (or H in 2D). Slices (2.5D) are
            changed in their plane only, all slices of a scan alike: 1 = H and 2 = W.
        rotation_degrees: About each axis (in-plane only in 2D).
        scale: Relative zoom, 0.1 = 0.9 to 1.1.
        translation: As a fraction of the input's size.
        brightness: Shift in units of the input's standard deviation.
        contrast: Relative gain.
        noise: Standard deviation of additive Gaussian noise in units of the input's standard deviation.
        crop: Share of each side that a random window leaves out; the window then fills the input.
        blur: Standard deviation of a Gaussian blur in voxels, along the axis of the smallest ones; the same number of
            mm along the others.
        gamma: Exponents from 1 / (1 + gamma) to 1 + gamma, on each channel from its darkest to its brightest voxel.
        bias_field: Largest relative change of a smooth multiplicative field, as its logarithm: 0.2 = -18 % to +22 %.
        slice_dropout: Share of a scan's slices that the network is not shown; in 2.5D only.
    """

    flip_axes: tuple[WholeNumber, ...] = ()
    rotation_degrees: Degrees = 10.0
    scale: Relative = 0.1
    translation: Shift = 0.05
    brightness: Deviations = 0.1
    contrast: Relative = 0.1
    noise: Deviations = 0.05
    crop: CutAway = 0.0
    blur: BlurVoxels = 0.0
    gamma: Exponent = 0.0
    bias_field: LogGain = 0.0
    slice_dropout: Relative = 0.0


class Plan(Document):
    """What was decided.

    Args:
        format: Version of this document.
        spatial_dims: 2 for images, 3 for volumes.
        slicewise: Whether a volume is read as slices by a 2D backbone (2.5D).
        neighbours: Slices that the 2.5D network sees as channels: 1, or an odd number up to 15: 3 for the slice
            between those beside it.
        modality: Guess: ``CT``, ``MR`` or ``other``.
        reading: How files become one scan: volume, series, sequences, region of interest.
        orientation: Code that names the growth of D, H, W (volumes), such as ``SPL``; None for images and for
            volumes whose orientation is unknown.
        spacing_mm: Spacing (d, h, w) that scans are resampled to; None: each scan is scaled to `shape` by its
            own size, aspect ratio kept. In 2.5D (h, w): across the slices nothing is resampled.
        shape: Spatial shape of the network's input, (D, H, W) or (H, W). In 2.5D D is the most slices: scans with
            fewer keep theirs, those with more are resampled to D.
        stem_stride: Stride along D, H, W of a 3D network's first convolution and of the pooling after it: (1, 2, 2)
            for thick slices; None for other networks (and in old plans): as the weights state, else (2, 2, 2).
        crop: ``foreground`` crops to the bounding box of the foreground before resampling, ``none`` does not.
        in_channels: Channels of the network's input: sequences x windows x neighbours.
        intensity: See `Intensity`.
        augmentation: See `Augmentation`.
        batch_size: Samples a training step.
        precision: Arithmetic of training; final numbers are always fp32.
        activation_bytes: Disk that the activations of a frozen part may take; beyond that it runs in every epoch.
        fingerprint_digest: SHA-256 of the fingerprint that the plan was made from.
        reasons: Why, for each choice.
    """

    format: Literal[1] = 1
    spatial_dims: Literal[2, 3]
    slicewise: bool = False
    neighbours: Neighbours = 1
    modality: Literal["CT", "MR", "other"]
    reading: ReadingRules = ReadingRules()
    orientation: str | None = None
    spacing_mm: tuple[SpacingMm, ...] | None = None
    shape: Annotated[tuple[Side, ...], pydantic.AfterValidator(require_voxels)]
    stem_stride: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] | None = None
    crop: Crop = "none"
    in_channels: WholeNumber = pydantic.Field(ge=1, le=4096)
    intensity: Intensity
    augmentation: Augmentation
    batch_size: WholeNumber = pydantic.Field(ge=1, le=MAX_BATCH_SIZE)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    activation_bytes: WholeNumber = pydantic.Field(default=8 * 2**30, ge=0, le=MAX_DISK_BYTES)
    fingerprint_digest: str = ""
    reasons: dict[str, str] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        dims = self.spatial_dims
        axes = "D,H,W" if dims == 3 else "H,W"
        if len(self.shape) != dims or min(self.shape) < 1:
            raise ValueError(f"shape must be {dims} positive sizes, order {axes}; got {list(self.shape)}")
        self._check_slices()
        if self.stem_stride is not None and self.dims != 3:
            raise ValueError(f"stem_stride is {list(self.stem_stride)}, but only 3D networks have that choice")
        spacing, planned = self.spacing_mm, axes.removeprefix("D,") if self.slicewise else axes
        if spacing is not None and (len(spacing) != len(planned.split(",")) or min(spacing) <= 0):
            count = len(planned.split(","))
            raise ValueError(f"spacing_mm must be {count} positive numbers in mm, order {planned}; got {list(spacing)}")
        if self.orientation is not None and (dims == 2 or not is_orientation(self.orientation)):
            raise ValueError(f"orientation must name three different axes, such as SPL; got {self.orientation!r}")
        if any(axis not in range(dims) for axis in self.augmentation.flip_axes):
            raise ValueError(f"augmentation.flip_axes must be axes below {dims}")
        self._check_channels()
        return self

    @property
    def dims(self) -> float:
        """How scans are read: 2, 2.5 (volumes slice by slice) or 3."""
        return 2.5 if self.slicewise else self.spatial_dims

    @property
    def slice_channels(self) -> int:
        """Channels of the scan itself, without the slices beside it: sequences x windows."""
        return self.in_channels // self.neighbours

    def _check_slices(self) -> None:
        if self.slicewise and self.spatial_dims != 3:
            raise ValueError("slicewise (2.5D) reads volumes: spatial_dims must be 3")
        if self.slicewise and 0 in self.augmentation.flip_axes:
            raise ValueError("augmentation.flip_axes must be 1 (H) or 2 (W): slices are changed in their plane only")
        if self.augmentation.slice_dropout and not self.slicewise:
            raise ValueError("augmentation.slice_dropout leaves out slices, and slicewise is false")
        if self.neighbours > 1 and not self.slicewise:
            raise ValueError(f"neighbours is {self.neighbours}, but slicewise is false")
        if self.in_channels % self.neighbours:
            raise ValueError(f"in_channels is {self.in_channels}, which {self.neighbours} neighbours do not divide")

    def _check_channels(self) -> None:
        names, windows = self.reading.sequences, self.intensity.windows_hu
        given = f"in_channels is {self.in_channels}" + (f" for {self.neighbours} neighbours" * (self.neighbours > 1))
        if self.intensity.scheme == "hu_windows" and len(windows) * max(1, len(names)) != self.slice_channels:
            of_each = f", and reading.sequences {len(names)}" if names else ""
            raise ValueError(f"{given}, but intensity.windows_hu has {len(windows)}{of_each}")
        if self.intensity.scheme != "hu_windows" and names and len(names) != self.slice_channels:
            raise ValueError(f"{given}, but reading.sequences has {len(names)}")
        if len(self.intensity.mean) not in (1, self.in_channels):
            raise ValueError(f"intensity.mean must have 1 or {self.in_channels} values")

    def preparation(self) -> dict[str, object]:
        """Return the part that decides what is stored in the packed cache: not windows, batch size or weights."""
        return {
            "format": self.format,
            "spatial_dims": self.spatial_dims,
            "slicewise": self.slicewise,
            "modality": self.modality,
            "reading": self.reading.to_mapping(),
            "orientation": self.orientation,
            "spacing_mm": self.spacing_mm,
            "shape": self.shape,
            "crop": self.crop,
            "scheme": self.intensity.scheme,
        }


def is_orientation(code: str) -> bool:
    """Return whether ``code`` names three different axes of the body.

    Example:
        >>> is_orientation("SPL"), is_orientation("SPI")
        (True, False)
    """
    axes = {"L": 0, "R": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    return sorted(axes.get(letter, -1) for letter in code) == [0, 1, 2]
