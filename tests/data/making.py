"""Small scans and tables for the tests of the data room."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from medres.data.table import Scan, ScanTable

AFFINE = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 5, -30], [0, 0, 0, 1.0]])


def volume(shape=(6, 5, 4), *, seed=0, dtype=np.int16, low=-1000, high=1000):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def write_nifti(path: Path, voxels=None, *, affine=AFFINE, kind=nib.Nifti1Image, **header) -> Path:
    """Write a file with nibabel, then change fields of its header behind nibabel's back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = volume() if voxels is None else voxels
    nib.save(kind(voxels, affine, dtype=voxels.dtype), path)
    if header:
        change_header(path, **header)
    return path


def change_header(path: Path, **fields) -> None:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        content = file.read()
    header = nib.Nifti1Header(content[:348], check=False)
    for key, value in fields.items():
        header[key] = value
    with opener(path, "wb") as file:
        file.write(header.binaryblock + content[348:])


def write_png(path: Path, *, seed=0, size=(8, 6), pixels=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_pngs(root: Path, names, *, first_seed=0) -> Path:
    """Write different images under the given names."""
    for seed, name in enumerate(names, start=first_seed):
        write_png(root / name, seed=seed)
    return root


def write_medmnist(path: Path, *, counts=(6, 4, 4), shape=(8, 8), num_classes=2, **replaced) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % num_classes).astype(np.uint8)[:, None]
    arrays.update(replaced)
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def table_of(rows, *, patients_given=True, classes=None) -> ScanTable:
    """Build a table of rows (sample, patient, label, hash or "", split or None), without files."""
    scans = tuple(
        Scan(
            sample_id=row[0],
            patient_id=row[1],
            path=Path("/none", row[0]),
            label=row[2],
            content_hash=row[3] if len(row) > 3 else "",
            split=row[4] if len(row) > 4 else None,
        )
        for row in rows
    )
    labels = classes if classes is not None else tuple(sorted({row[2] for row in rows}))
    return ScanTable(root=Path("/none"), scans=scans, classes=labels, source="test", patients_given=patients_given)
