"""Phantoms: synthetic labelled CT and MR scans, to try and to test medres without patients.

How much the classes differ is set by ``signal``. With ``signal=0`` a scan is the same, bit for bit, whatever its
label: an honest evaluation must then find chance level. Scans of one patient share body and lesion, so that a split
that tears patients apart is rewarded for it, and can be caught.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image

from medres.data.phantom_anatomy import (
    Axes,
    Float32,
    Patient,
    ct_tissue,
    draw_ct_patient,
    draw_mr_patient,
    mr_tissue,
)
from medres.errors import UsageError
from medres.runs.atomic import atomic_write
from medres.runs.csv_files import write_csv
from medres.runs.plain_data import shortened

PhantomModality = Literal["CT", "MR"]

#: More are a mistake in the number: a terabyte of scans, a volume of 4 GiB.
MAX_SCANS, MAX_SIZE, MAX_SIGNAL = 1_000_000, 1024, 1000

#: Field of view in mm: left-right and front-back, head-feet.
_FIELD_OF_VIEW = {"CT": (380.0, 330.0), "MR": (220.0, 220.0)}

#: With 15 % for the scanner just below 20 mm, which the check of the data refuses: fewer voxels show less of the body.
_LARGEST_VOXEL_MM = 17.0

#: How the files' axes lie in the patient: what scanners and converters write, axial and one sagittal.
_ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PSR")

_SIGN = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1, "I": -1}
_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_CT_NOISE_HU, _MR_NOISE = 25.0, 6.0

#: What a stream of random numbers is for: each gets its own.
_LABELS, _BODY, _SCAN = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """One synthetic scan.

    Args:
        voxels: int16 ``(I, J, K)`` in HU (CT) or arbitrary units (MR); images uint8 ``(H, W)``.
        affine: Maps ``(i, j, k, 1)`` to RAS millimetres; None for images.
        lesion: Where at least half of the voxel is lesion, the shape of `voxels`.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None
    lesion: npt.NDArray[np.bool_]


def phantom(
    *, modality: PhantomModality = "CT", spatial_dims: Literal[2, 3] = 3, size: int = 32, severity: float = 0.0,
    seed: int = 0, patient: int = 0, scan: int = 0,
) -> Phantom:  # fmt: skip
    """Make one phantom; the same arguments give the same bits.

    Args:
        modality: ``CT``: a chest with a nodule. ``MR``: a head with a lesion, a bias field, Rician noise and
            a scale of its own.
        spatial_dims: 3 for a volume; 2 for the 8-bit axial slice through the lesion.
        size: Voxels along each axis.
        severity: Of the lesion: 0 = small and faint, 1 = about twice as large, dense and bumpy.
        seed: Of the data set.
        patient: Number of the patient: body and place of the lesion depend on it.
        scan: Number of the scan: placement in the file, spacing and noise depend on it as well.

    Example:
        >>> scan = phantom(size=24, severity=1.0)
        >>> scan.voxels.shape, scan.voxels.dtype.name, int(scan.voxels.min())
        ((24, 24, 24), 'int16', -1024)
    """
    draw = draw_ct_patient if modality == "CT" else draw_mr_patient
    body = draw(np.random.default_rng([seed, _BODY, patient]), severity=severity)
    rng = np.random.default_rng([seed, _SCAN, patient, scan])
    spacing_mm = _draw_spacing(rng, modality, size)
    axes, affine = _slice_axes(body, size, spacing_mm) if spatial_dims == 2 else _volume_axes(rng, size, spacing_mm)
    edge_mm = min(spacing_mm)
    values = _scanned(rng, body, axes, modality=modality, edge_mm=edge_mm)
    voxels = _eight_bit(values, modality) if spatial_dims == 2 else np.rint(values).astype(np.int16)
    return Phantom(voxels=voxels, affine=affine, lesion=body.lesion.share(axes, edge_mm=edge_mm) >= 0.5)


def write_phantoms(
    folder: Path, *, modality: PhantomModality = "CT", spatial_dims: Literal[2, 3] = 3, num_scans: int = 40,
    num_classes: int = 2, size: int = 32, signal: float = 1.0, seed: int = 0, scans_per_patient: int = 1,
) -> Path:  # fmt: skip
    """Write a labelled data set: one folder a class, and ``labels.csv`` with path, label and patient_id.

    Volumes become ``.nii.gz`` (varied spacing and orientation), images 8-bit ``.png``. The same arguments write
    the same bytes. Numbers in names follow neither class nor patient.

    Args:
        folder: Where to; made if it is missing.
        modality: See `phantom`.
        spatial_dims: 3 for volumes, 2 for images.
        num_scans: How many.
        num_classes: Two are called ``benign`` and ``malignant``, more ``grade-1``, ``grade-2``, ...
        size: Voxels along each axis.
        signal: How much the last class differs from the first: 1 = plainly, 0 = not at all.
        seed: Of everything.
        scans_per_patient: Scans that share patient and label.

    Returns:
        The folder.

    Raises:
        UsageError: An argument is out of range.
        OutputError: The folder cannot be written.
    """
    patients = -(-num_scans // max(1, scans_per_patient))
    _check_range("num_scans", num_scans, 1, MAX_SCANS)
    _check_range("seed", seed, 0, 2**32 - 1)
    _check(num_classes=num_classes, patients=patients, size=size, signal=signal, scans_per_patient=scans_per_patient)
    cases = _draw_cases(num_scans, patients, num_classes, scans_per_patient=scans_per_patient, seed=seed)
    suffix = ".png" if spatial_dims == 2 else ".nii.gz"
    for case in cases:
        made = phantom(
            modality=modality, spatial_dims=spatial_dims, size=size, severity=signal * case.severity, seed=seed,
            patient=case.patient, scan=case.scan,
        )  # fmt: skip
        _write_scan(folder / f"{case.stem}{suffix}", made)
    _write_labels(folder / "labels.csv", [(f"{case.stem}{suffix}", case.label, case.patient_id) for case in cases])
    return folder


@dataclass(frozen=True, kw_only=True)
class _Case:
    stem: str
    label: str
    patient_id: str
    patient: int
    scan: int
    severity: float


def _draw_cases(num_scans: int, patients: int, num_classes: int, *, scans_per_patient: int, seed: int) -> list[_Case]:
    """Return the scans in the order of their names, which is that of neither classes nor patients."""
    rng = np.random.default_rng([seed, _LABELS])
    classes = rng.permutation(np.arange(patients) % num_classes)
    names, digits = class_names(num_classes), max(4, len(str(num_scans)))
    cases = []
    for number, place in enumerate(rng.permutation(num_scans)):
        patient, scan = divmod(int(place), scans_per_patient)
        label = names[classes[patient]]
        case = _Case(
            stem=f"{label}/scan-{number + 1:0{digits}d}", label=label, patient_id=f"patient-{patient + 1:0{digits}d}",
            patient=patient, scan=scan, severity=float(classes[patient]) / (num_classes - 1),
        )  # fmt: skip
        cases.append(case)
    return cases


def class_names(num_classes: int) -> tuple[str, ...]:
    """Return the labels, in sorted order and from faint to plain.

    Example:
        >>> class_names(2), class_names(3)
        (('benign', 'malignant'), ('grade-1', 'grade-2', 'grade-3'))
    """
    if num_classes == 2:
        return ("benign", "malignant")
    width = len(str(num_classes))
    return tuple(f"grade-{index + 1:0{width}d}" for index in range(num_classes))


def _check(*, num_classes: int, patients: int, size: int, signal: float, scans_per_patient: int) -> None:
    rules = (
        (num_classes >= 2, f"num_classes is {shortened(num_classes)}", "Ask for at least 2 classes."),
        (scans_per_patient >= 1, f"scans_per_patient is {scans_per_patient}", "Ask for at least 1."),
        (
            patients >= num_classes,
            f"there are {patients} patients for {shortened(num_classes)} classes",
            "Ask for more scans: each class needs a patient.",
        ),
        (
            size >= 16,
            f"size is {shortened(size)}",
            "Ask for at least 16 voxels along each axis: a smaller body shows no lesion.",
        ),
        (0 <= signal < math.inf, f"signal is {signal}", "Give 0 (no difference), 1 (plain) or a number between."),
    )
    for holds, problem, fix in rules:
        if not holds:
            raise UsageError(f"Phantoms cannot be made: {problem}.", fix=fix)
    _check_range("size", size, 16, MAX_SIZE)
    _check_range("signal", signal, 0, MAX_SIGNAL)


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(
            f"Phantoms cannot be made: {name} is {shortened(value)}.", fix=f"It may be from {least:,} to {most:,}."
        )


def _draw_spacing(rng: np.random.Generator, modality: PhantomModality, size: int) -> tuple[float, float, float]:
    """Return the size of a voxel along x, y and z; scanners differ by up to 20 %."""
    in_plane, along_body = (min(length / size, _LARGEST_VOXEL_MM) for length in _FIELD_OF_VIEW[modality])
    pixel = in_plane * rng.uniform(0.95, 1.1)
    return pixel, pixel, along_body * rng.uniform(0.95, 1.15)


def _volume_axes(
    rng: np.random.Generator, size: int, spacing_mm: tuple[float, float, float]
) -> tuple[Axes, npt.NDArray[np.float64]]:
    """Return x, y, z of the voxels (three arrays that broadcast to the file's axes) and the affine."""
    code = _ORIENTATIONS[int(rng.integers(len(_ORIENTATIONS)))]
    affine, axes = np.zeros((4, 4)), [np.zeros(1, dtype=np.float32)] * 3
    affine[3, 3] = 1
    for file_axis, letter in enumerate(code):
        anatomical, step = _AXIS[letter], _SIGN[letter] * spacing_mm[_AXIS[letter]]
        line = _centred(size, step)
        affine[anatomical, file_axis], affine[anatomical, 3] = step, line[0]
        axes[anatomical] = line.reshape([-1 if axis == file_axis else 1 for axis in range(3)])
    return (axes[0], axes[1], axes[2]), affine


def _slice_axes(body: Patient, size: int, spacing_mm: tuple[float, float, float]) -> tuple[Axes, None]:
    """Return x, y, z of the pixels of the axial slice through the lesion: front at the top, right side at the left."""
    x, y = _centred(size, -spacing_mm[0])[None, :], _centred(size, -spacing_mm[1])[:, None]
    return (x, y, np.full((1, 1), body.lesion.center_mm[2], dtype=np.float32)), None


def _centred(size: int, step: float) -> Float32:
    return ((np.arange(size) - (size - 1) / 2) * step).astype(np.float32)


def _scanned(
    rng: np.random.Generator, body: Patient, axes: Axes, *, modality: PhantomModality, edge_mm: float
) -> Float32:
    """Return what a scanner measures: CT adds Gaussian noise, MR a bias field, Rician noise and a scale."""
    if modality == "CT":
        tissue = ct_tissue(body, axes, edge_mm=edge_mm)
        noise = rng.standard_normal(tissue.shape, dtype=np.float32)
        measured: Float32 = np.clip(tissue + _CT_NOISE_HU * noise, -1024, 3071)
        return measured
    tissue = mr_tissue(body, axes, edge_mm=edge_mm) * _bias_field(rng, axes)
    real, imaginary = _MR_NOISE * rng.standard_normal((2, *tissue.shape), dtype=np.float32)
    # from 2 to 40: MR units are arbitrary, and 40 times the brightest tissue (400, gain 1.7) still fits into int16
    scale = np.float32(math.exp(rng.uniform(math.log(2), math.log(40))))
    magnitude: Float32 = scale * np.hypot(tissue + real, imaginary)
    return magnitude


def _bias_field(rng: np.random.Generator, axes: Axes) -> Float32:
    """Return a smooth gain of a receiver coil, about 0.6 to 1.4 over a head."""
    slopes = rng.normal(0, 0.12, size=3)
    bends = rng.normal(0, 0.08, size=3)
    field = np.ones((1,) * axes[0].ndim, dtype=np.float32)
    for axis, slope, bend in zip(axes, slopes, bends, strict=True):
        place = axis / np.float32(100)
        field = field + np.float32(slope) * place + np.float32(bend) * place**2
    return np.clip(field, 0.3, 1.7).astype(np.float32)


def _eight_bit(values: Float32, modality: PhantomModality) -> npt.NDArray[np.uint8]:
    """Return a picture: CT in a window of -1000 to 400 HU, MR up to its own 99.5th percentile."""
    low, high = (-1000.0, 400.0) if modality == "CT" else (0.0, float(np.percentile(values, 99.5)))
    pixels: npt.NDArray[np.uint8] = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return pixels


def _write_scan(path: Path, made: Phantom) -> None:
    content = _png_bytes(made.voxels) if made.affine is None else _nifti_bytes(made.voxels, made.affine)
    with atomic_write(path) as file:
        file.write(content)


def _png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _nifti_bytes(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> bytes:
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    # without a time in the header of the compression: the same arguments write the same bytes
    return gzip.compress(bytes(image.to_bytes()), compresslevel=6, mtime=0)


def _write_labels(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    write_csv(path, ("path", "label", "patient_id"), rows)
