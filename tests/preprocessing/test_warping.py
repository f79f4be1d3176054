from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medres.preprocessing import warping
from medres.preprocessing.warping import rotation_matrices, sampling_matrices, warp

SHAPES = [(12, 15), (9, 12, 15)]


def noise(shape: tuple[int, ...], number: int = 2, channels: int = 1) -> torch.Tensor:
    return torch.randn(number, channels, *shape, generator=torch.Generator().manual_seed(0))


def moved(
    batch: torch.Tensor,
    *,
    degrees: tuple[float, ...] | None = None,
    zoom: float = 1.0,
    flips: tuple[int, ...] = (),
    shift: tuple[float, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
) -> torch.Tensor:
    """Move all samples of a batch in the same way."""
    number, dims = len(batch), batch.ndim - 2
    radians = np.deg2rad(np.tile(degrees or (0.0,) * (1 if dims == 2 else 3), (number, 1)))
    matrices, offsets = sampling_matrices(
        rotation_matrices(radians),
        zooms=np.full(number, zoom),
        flips=np.tile(np.isin(np.arange(dims), flips), (number, 1)),
        shifts=np.tile(shift or (0.0,) * dims, (number, 1)),
        extent=np.array(batch.shape[2:]) * (spacing or (1.0,) * dims),
    )
    return warp(batch, matrices, offsets)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_movement_changes_nothing(shape: tuple[int, ...]) -> None:
    batch = noise(shape)
    assert torch.allclose(moved(batch), batch, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_mirroring_agrees_with_torch_flip(shape: tuple[int, ...]) -> None:
    batch = noise(shape)
    for axis in range(len(shape)):
        assert torch.allclose(moved(batch, flips=(axis,)), batch.flip(axis + 2), atol=1e-5)
    everything = tuple(range(len(shape)))
    assert torch.allclose(moved(batch, flips=everything), batch.flip([axis + 2 for axis in everything]), atol=1e-5)


@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_quarter_turns_of_a_square_agree_with_torch_rot90(turns: int) -> None:
    batch = noise((14, 14))
    assert torch.allclose(moved(batch, degrees=(90.0 * turns,)), torch.rot90(batch, turns, (2, 3)), atol=1e-4)


@pytest.mark.parametrize(("axis", "plane"), [(0, (3, 4)), (1, (2, 4)), (2, (2, 3))])
def test_quarter_turns_of_a_cube_agree_with_torch_rot90(axis: int, plane: tuple[int, int]) -> None:
    batch = noise((10, 10, 10))
    degrees = tuple(90.0 if about == axis else 0.0 for about in range(3))
    assert torch.allclose(moved(batch, degrees=degrees), torch.rot90(batch, 1, plane), atol=1e-4)


def test_a_quarter_turn_needs_the_proportions_of_the_voxels() -> None:
    batch = noise((10, 20))  # voxels of 2 x 1 mm: a square of 20 mm
    turned = moved(batch, degrees=(90.0,), spacing=(2.0, 1.0))
    reference = torch.nn.functional.interpolate(torch.rot90(batch, 1, (2, 3)), size=(10, 20), mode="bilinear")
    assert torch.allclose(turned, reference, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spacing", [1.0, 2.5])
def test_agrees_with_scipy(shape: tuple[int, ...], spacing: float) -> None:
    dims = len(shape)
    rng = np.random.default_rng(1)
    steps = np.array([spacing, 1.0, 0.8][:dims])
    zoom, shift = 1.15, rng.uniform(-0.1, 0.1, size=dims)
    degrees = rng.uniform(-25, 25, size=1 if dims == 2 else 3)
    batch = noise(shape, number=1)
    ours = moved(batch, degrees=tuple(degrees), zoom=zoom, flips=(0,), shift=tuple(shift), spacing=tuple(steps))
    # scipy takes output index -> input index; voxel centres lie half a voxel from the edge
    rotation = rotation_matrices(np.deg2rad(degrees)[None])[0]
    matrix = np.diag([-1.0] + [1.0] * (dims - 1)) @ np.diag(1 / steps) @ rotation @ np.diag(steps) / zoom
    centre = (np.array(shape) - 1) / 2
    offset = centre - matrix @ (centre + shift * shape)
    reference = ndimage.affine_transform(batch[0, 0].double().numpy(), matrix, offset, order=1, mode="nearest")
    assert np.allclose(ours[0, 0].numpy(), reference, atol=1e-4)


@pytest.mark.parametrize("flips", [(), (0,), (1,)])
@pytest.mark.parametrize(("shape", "axis"), [(SHAPES[0], 0), *((SHAPES[1], axis) for axis in range(3))])
def test_agrees_with_monai(shape: tuple[int, ...], axis: int, flips: tuple[int, ...]) -> None:
    from monai.transforms import Affine, Flip

    dims, shift = len(shape), np.random.default_rng(2).uniform(-0.1, 0.1, size=len(shape))
    zoom, degrees = 1.2, [23.0 if about == axis else 0.0 for about in range(1 if dims == 2 else 3)]
    batch = noise(shape, number=1, channels=2)
    ours = moved(batch, degrees=tuple(degrees), zoom=zoom, flips=flips, shift=tuple(shift))
    # MONAI turns W to H about D, and H to D about W, where ours turns H to W and D to H
    turns = np.deg2rad(degrees) * (-1 if dims == 2 else np.array([-1, 1, -1]))
    theirs, _ = Affine(
        rotate_params=turns.tolist(), translate_params=(-shift * np.array(shape) / zoom).tolist(),
        scale_params=[1 / zoom] * dims, mode="bilinear", padding_mode="border", image_only=False,
    )(Flip(flips)(batch[0]) if flips else batch[0])  # fmt: skip
    torch.testing.assert_close(ours[0], torch.as_tensor(theirs), atol=1e-4, rtol=0)


def test_rotations_agree_with_scipy() -> None:
    degrees = np.random.default_rng(0).uniform(-180, 180, size=(20, 3))
    # about D, then H, then W; ours turns H to D where a right-handed rotation about W turns D to H, and so on
    signs = np.array([-1.0, 1.0, -1.0])
    reference = Rotation.from_euler("xyz", degrees * signs, degrees=True).as_matrix()
    assert np.allclose(rotation_matrices(np.deg2rad(degrees)), reference)


def test_a_shift_moves_the_content_by_that_share_of_the_size() -> None:
    batch = torch.zeros(1, 1, 20, 20)
    batch[0, 0, 5, 10] = 1
    found = moved(batch, shift=(0.25, -0.1)).argmax().item()
    assert divmod(found, 20) == (10, 8)


def test_a_zoom_above_one_enlarges() -> None:
    batch = torch.zeros(1, 1, 20, 20)
    batch[0, 0, 7:13, 7:13] = 1
    assert moved(batch, zoom=1.5).sum() == pytest.approx(36 * 1.5**2, rel=0.05)


def test_what_comes_in_from_outside_repeats_the_border() -> None:
    batch = torch.full((1, 1, 10, 10), 3.0)
    assert torch.allclose(moved(batch, degrees=(40.0,), zoom=0.5, shift=(0.3, 0.3)), batch)


def test_samples_are_moved_each_in_its_own_way_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = noise((8, 9, 10), number=5, channels=2)
    radians = np.random.default_rng(0).uniform(-0.3, 0.3, size=(5, 3))
    matrices, offsets = sampling_matrices(
        rotation_matrices(radians),
        zooms=np.linspace(0.9, 1.1, 5),
        flips=np.eye(5, 3, dtype=bool),
        shifts=np.zeros((5, 3)),
        extent=(8, 9, 10),
    )
    whole = warp(batch, matrices, offsets)
    monkeypatch.setattr(warping, "_CHUNK_COORDINATES", 1)
    assert torch.equal(warp(batch, matrices, offsets), whole)
    for n in range(5):
        assert torch.equal(warp(batch[n : n + 1], matrices[n : n + 1], offsets[n : n + 1]), whole[n : n + 1])
