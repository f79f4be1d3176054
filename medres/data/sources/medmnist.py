"""A MedMNIST ``.npz``: ``train_images``, ``train_labels`` and the same for ``val`` and ``test``; 2D and 3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medres.data.readers.arrays import array_shapes, read_array
from medres.data.sources.draft import Draft
from medres.data.table import Scan, Split
from medres.data.wording import counted, first_of
from medres.errors import DataError, NoLabelsError, UnreadableScanError

SPLITS: tuple[Split, ...] = ("train", "val", "test")

_FIX = "Save train_images, train_labels and the same for val and test with numpy.savez_compressed, as MedMNIST does."


def read_medmnist(path: Path) -> Draft:
    """Read the official splits and the labels; class names are the numbers, since the file has no others.

    Raises:
        NoLabelsError: It holds no labels.
        DataError: It is not laid out like that, or has several labels an image.
    """
    shapes = shapes_of(path)
    splits = [split for split in SPLITS if f"{split}_images" in shapes]
    if "train" not in splits:
        raise _missing(shapes)(f"{path} holds {first_of(sorted(shapes))}, but no 'train_images'.", fix=_FIX)
    scans = tuple(scan for split in splits for scan in _split_scans(path, split, shapes))
    return Draft(
        root=path.parent,
        source="MedMNIST .npz",
        scans=scans,
        notes=(f"{path.name} names no classes: their numbers are taken.",),
        patient_note="MedMNIST names no patients: each image is taken as its own patient.",
    )


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of an ``.npz``.

    Raises:
        DataError: It is no ``.npz``; naming the file.
    """
    try:
        return array_shapes(path)
    except UnreadableScanError as error:
        raise DataError(f"{path} {error.problem}.", fix=error.fix) from error


def member_scans(path: Path, split: Split, num_images: int) -> list[Scan]:
    """Return one row an image of one split, without labels."""
    width = max(5, len(str(num_images - 1)))
    return [
        Scan(
            sample_id=f"{split}/{index:0{width}d}",
            patient_id="",
            path=path,
            member=f"{split}_images:{index}",
            split=split,
        )
        for index in range(num_images)
    ]


def _split_scans(path: Path, split: Split, shapes: Mapping[str, tuple[int, ...]]) -> list[Scan]:
    images = shapes[f"{split}_images"]
    if len(images) not in (3, 4) or 0 in images:
        raise DataError(
            f"{path}: '{split}_images' has the shape {images}; (N, H, W) or (N, D, H, W) is needed.", fix=_FIX
        )
    labels = _labels(path, split, shapes, num_images=images[0])
    rows = member_scans(path, split, images[0])
    return [replace(row, label=str(int(label))) for row, label in zip(rows, labels, strict=True)]


def _labels(
    path: Path, split: Split, shapes: Mapping[str, tuple[int, ...]], *, num_images: int
) -> npt.NDArray[np.integer]:
    name = f"{split}_labels"
    shape = shapes.get(name)
    if shape is None or shape[0] != num_images:
        found = "no labels" if shape is None else counted(shape[0], "label")
        problem = f"{path} has {found} for {counted(num_images, 'image')} of '{split}_images'."
        raise _missing(shapes)(problem, fix=_FIX)
    if len(shape) > 1 and shape[1] != 1:
        raise DataError(
            f"{path} has {shape[1]} labels an image ('{name}'): several labels at once are not supported.",
            fix="Choose one of them: save its column as the labels.",
        )
    labels = _read(path, name).ravel()
    if labels.dtype.kind not in "iub":
        raise DataError(f"{path}: '{name}' holds {labels.dtype}, not whole numbers.", fix=_FIX)
    return labels


def _missing(shapes: Mapping[str, tuple[int, ...]]) -> type[DataError]:
    """Return what an archive is that lacks an array: images without labels, or a mistake where there are some."""
    return DataError if any(name.endswith("labels") for name in shapes) else NoLabelsError


def _read(path: Path, name: str) -> npt.NDArray[np.integer]:
    try:
        return read_array(path, name)
    except UnreadableScanError as error:
        raise DataError(f"{path} {error.problem}.", fix=error.fix) from error
