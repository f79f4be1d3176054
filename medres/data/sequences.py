"""Several images of one scan as its channels: stacked where they share a grid, else resampled onto the first one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from medres.data.content import content_hash
from medres.data.image import ScanImage
from medres.data.regions import largest_displacement
from medres.errors import UnreadableScanError

# Headers of one session agree to four digits: a thousandth of a voxel at the far corner is rounding.
_SAME_GRID_VOXELS = 1e-3
_SAME_SPACING = 1e-3

# Less of the first image than this in another one is worth a look: wrong session, or a slab of a few slices.
_LEAST_OVERLAP = 0.5


def stack_sequences(images: Mapping[str, ScanImage]) -> ScanImage:
    """Return one image with a channel for each sequence, on the grid of the first.

    Images on another grid are resampled linearly in space (RAS millimetres), each whole number kept a whole number of
    its type; where they show nothing stands their smallest value. The voxels take the type that holds all of them.

    Args:
        images: By name, at least one, each with one channel; the order is that of the channels. A single image is
            returned as it is (with its name, if it has one).

    Returns:
        ``voxels (N, *spatial)``, ``channel_names`` as given, ``content_hash`` of the stack; ``modality`` what all
        headers say, or ``CT+PT`` where they differ.

    Raises:
        UnreadableScanError: ``sequences-differ``; the sentence begins with a verb.

    Example:
        >>> t1, t2 = (ScanImage(voxels=np.full((1, 2, 2, 2), n), affine=None, spacing_mm=None, content_hash="")
        ...           for n in (1, 2))
        >>> stack = stack_sequences({"t1": t1, "t2": t2})
        >>> stack.voxels[:, 0, 0, 0].tolist(), stack.channel_names
        ([1, 2], ('t1', 't2'))
    """
    names = tuple(images)
    first = images[names[0]]
    if len(images) == 1:
        return replace(first, channel_names=names) if names[0] else first
    for name, image in images.items():
        _require_one_channel(name, image)
    placed = {name: _on_grid_of(first, names[0], image, name) for name, image in images.items()}
    voxels = _joined([channel for channel, _ in placed.values()])
    notes = [note for image in images.values() for note in image.notes]
    notes += [note for _, decided in placed.values() for note in decided]
    return replace(
        first, voxels=voxels, content_hash=content_hash(voxels), color=False, channel_names=names,
        modality=_common_modality(images), notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _require_one_channel(name: str, image: ScanImage) -> None:
    if len(image.voxels) == 1:
        return
    what = "is in true colour" if image.color else f"has {len(image.voxels)} channels"
    raise UnreadableScanError(
        f"has a sequence {name} that {what}; a sequence is one grey image",
        fix="Export it in grey, or leave it out.",
        code="sequences-differ",
    )


def _on_grid_of(first: ScanImage, first_name: str, image: ScanImage, name: str) -> tuple[npt.NDArray[Any], list[str]]:
    """Return one channel ``(*spatial)`` on the grid of the first image, and what had to be decided."""
    if image is first:
        return image.voxels[0], []
    if first.affine is not None and image.affine is not None:
        return _in_space(first, first_name, image, name)
    if first.spatial_shape != image.spatial_shape or _spacings_differ(first, image):
        raise UnreadableScanError(
            f"has sequences {first_name} and {name} of different shapes or spacings, "
            "and not both say how they lie in the patient",
            fix="Write them with their affines, or resample them onto one grid first.",
            code="sequences-differ",
        )
    if first.affine is None and image.affine is None:
        return image.voxels[0], []
    return image.voxels[0], [
        f"sequences-unplaced: of {first_name} and {name} only one says how it lies; they were stacked voxel by voxel"
    ]


def _in_space(first: ScanImage, first_name: str, image: ScanImage, name: str) -> tuple[npt.NDArray[Any], list[str]]:
    assert first.affine is not None
    assert image.affine is not None
    same_shape = first.spatial_shape == image.spatial_shape
    if same_shape and largest_displacement(first.affine, image.affine, first.spatial_shape) <= _SAME_GRID_VOXELS:
        return image.voxels[0], []
    matrix = np.linalg.inv(image.affine) @ first.affine
    channel, covered = _resampled(image.voxels[0], matrix, first.spatial_shape)
    if covered == 0:
        raise UnreadableScanError(
            f"has a sequence {name} that shows another place than {first_name}: they do not overlap",
            fix="Check that both are of one patient and session, or leave one out.",
            code="sequences-differ",
        )
    notes = [f"resampled-sequences: {name} was resampled onto the grid of {first_name}"]
    if covered < _LEAST_OVERLAP:
        notes.append(f"sequences-overlap: {name} shows less than half of what {first_name} shows")
    return channel, notes


def _resampled(
    voxels: npt.NDArray[Any], matrix: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[npt.NDArray[Any], float]:
    """Return ``voxels`` at ``matrix (i, j, k, 1)`` for all of ``shape``, and the share of them that lies inside.

    Plane by plane, so that coordinates take no memory to speak of. Between the centre of an outermost voxel and its
    edge its value stands; beyond the edge the smallest value of all.
    """
    out = np.empty(shape, dtype=voxels.dtype)
    fill = voxels.min()
    plane = np.stack(np.meshgrid(*[np.arange(size, dtype=np.float64) for size in shape[1:]], indexing="ij"))
    within = np.tensordot(matrix[:3, 1:3], plane, axes=1) + matrix[:3, 3, None, None]
    last = np.array(voxels.shape, dtype=np.float64)[:, None, None] - 0.5
    covered = 0
    for index in range(shape[0]):
        places = within + index * matrix[:3, 0, None, None]
        inside = ((places >= -0.5) & (places <= last)).all(axis=0)
        values = map_coordinates(voxels, places, order=1, mode="nearest", output=np.float64)
        if voxels.dtype.kind in "ui":
            values = np.rint(values)
        out[index] = np.where(inside, values, fill)
        covered += int(inside.sum())
    return out, covered / out.size


def _joined(channels: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return ``(N, *spatial)`` of the type that holds all channels, in the memory layout of the first."""
    shape, backwards = channels[0].shape, channels[0].flags.f_contiguous
    out = np.empty((len(channels), *(shape[::-1] if backwards else shape)), dtype=np.result_type(*channels))
    if backwards:
        out = out.transpose(0, *range(out.ndim - 1, 0, -1))
    for target, channel in zip(out, channels, strict=True):
        target[...] = channel
    return out


def _spacings_differ(first: ScanImage, second: ScanImage) -> bool:
    if first.spacing_mm is None or second.spacing_mm is None:
        return False
    return not np.allclose(first.spacing_mm, second.spacing_mm, rtol=_SAME_SPACING)


def _common_modality(images: Mapping[str, ScanImage]) -> str | None:
    known = dict.fromkeys(image.modality for image in images.values() if image.modality)
    return "+".join(known) or None
