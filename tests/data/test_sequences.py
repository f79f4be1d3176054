from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its name everywhere

from medres.data.catalogue import KINDS
from medres.data.content import content_hash
from medres.data.image import ScanImage
from medres.data.sequences import stack_sequences
from medres.errors import UnreadableScanError
from tests.data.test_regions import CODES, as_sitk, image_of, lying, oblique

SHAPE = (11, 9, 8)


def sequence(seed: int, *, affine: Any = None, shape: Any = SHAPE, dtype: Any = np.int16, **fields: Any) -> ScanImage:
    voxels = np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)
    return image_of(voxels, oblique() if affine is None else affine, **fields)


def test_one_grid_is_stacked_as_it_is() -> None:
    images = {name: sequence(seed) for seed, name in enumerate(("t1", "t2", "flair"))}
    stack = stack_sequences(images)
    np.testing.assert_array_equal(stack.voxels, np.concatenate([image.voxels for image in images.values()]))
    assert stack.channel_names == ("t1", "t2", "flair")
    assert stack.content_hash == content_hash(stack.voxels)
    assert stack.affine is images["t1"].affine
    assert not stack.color
    assert not stack.notes


def test_permuted_sequences_permute_the_channels() -> None:
    images = {name: sequence(seed) for seed, name in enumerate("abc")}
    reference = stack_sequences(images)
    hashes = set()
    for order in permutations("abc"):
        stack = stack_sequences({name: images[name] for name in order})
        np.testing.assert_array_equal(stack.voxels, reference.voxels[["abc".index(name) for name in order]])
        hashes.add(stack.content_hash)
    assert len(hashes) == 6


def test_a_single_sequence_is_the_image_itself() -> None:
    image = sequence(0, notes=("units: said so",), modality="MR")
    stack = stack_sequences({"t1": image})
    assert stack.voxels is image.voxels
    assert (stack.content_hash, stack.channel_names, stack.notes) == (image.content_hash, ("t1",), image.notes)
    assert stack_sequences({"": image}) is image


@pytest.mark.parametrize("code", CODES[::5])
def test_how_another_file_lies_does_not_matter(code: str) -> None:
    first, second = sequence(0), sequence(1)
    stack = stack_sequences({"a": first, "b": lying(second, code)})
    np.testing.assert_array_equal(stack.voxels[1], second.voxels[0])


@pytest.mark.parametrize("seed", range(6))
def test_another_grid_is_resampled_as_simpleitk_does_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = sequence(seed, affine=oblique(rng.uniform(1, 3, 3), rng.uniform(-20, 20)))
    near = np.array([-40, 25, 7]) + rng.uniform(-3, 3, 3)
    second = sequence(
        seed + 100, affine=oblique(rng.uniform(1, 3, 3), rng.uniform(-20, 20), near),
        shape=(13, 10, 12), dtype=np.float32,
    )  # fmt: skip
    stack = stack_sequences({"a": first, "b": second})
    resampled = sitk.Resample(
        as_sitk(second), as_sitk(first), sitk.Transform(), sitk.sitkLinear, float(second.voxels.min()), sitk.sitkFloat32
    )
    expected = sitk.GetArrayFromImage(resampled).T
    np.testing.assert_allclose(stack.voxels[1], expected, atol=2e-3)
    assert (expected != second.voxels.min()).mean() > 0.1
    np.testing.assert_array_equal(stack.voxels[0], first.voxels[0])
    assert stack.voxels.dtype == np.float32
    assert stack.notes[0] == "resampled-sequences: b was resampled onto the grid of a"


def test_whole_numbers_stay_whole_numbers() -> None:
    shifted = oblique()
    shifted[:3, 3] += 0.7
    stack = stack_sequences({"a": sequence(0, dtype=np.uint8), "b": sequence(1, affine=shifted, dtype=np.uint8)})
    assert stack.voxels.dtype == np.uint8
    exact = stack_sequences({"a": sequence(0), "b": sequence(1, affine=shifted, dtype=np.float64)})
    assert np.abs(stack.voxels[1] - exact.voxels[1]).max() <= 0.5


def test_the_type_holds_all_and_the_layout_is_that_of_the_file() -> None:
    first = sequence(0, dtype=np.uint8)
    turned = image_of(np.asfortranarray(sequence(1).voxels[0]), first.affine)
    assert stack_sequences({"a": first, "b": turned}).voxels.dtype == np.int16
    assert stack_sequences({"b": turned, "a": first}).voxels[0].flags.f_contiguous


def test_modalities_of_headers_are_kept_where_they_agree() -> None:
    mr, other, ct = sequence(0, modality="MR"), sequence(1), sequence(2, modality="CT")
    assert stack_sequences({"a": mr, "b": other}).modality == "MR"
    assert stack_sequences({"a": mr, "b": ct}).modality == "MR+CT"
    assert stack_sequences({"a": other, "b": sequence(3)}).modality is None


def test_what_one_file_does_not_say_is_told() -> None:
    plain = image_of(sequence(1).voxels[0])
    stack = stack_sequences({"a": sequence(0), "b": plain})
    np.testing.assert_array_equal(stack.voxels[1], plain.voxels[0])
    assert stack.notes[0].startswith("sequences-unplaced: ")
    assert not stack_sequences({"a": plain, "b": image_of(sequence(2).voxels[0])}).notes
    half = oblique()
    half[:3, 3] += half[:3, 0] * 7
    notes = stack_sequences({"a": sequence(0), "b": sequence(1, affine=half)}).notes
    assert [note.split(":")[0] for note in notes] == ["resampled-sequences", "sequences-overlap"]
    assert {note.split(":")[0] for note in (*stack.notes, *notes)} <= set(KINDS)


def test_images_are_stacked_too() -> None:
    flat = [
        ScanImage(voxels=np.full((1, 5, 6), n, np.uint8), affine=None, spacing_mm=None, content_hash="") for n in (1, 2)
    ]
    assert stack_sequences({"a": flat[0], "b": flat[1]}).voxels.shape == (2, 5, 6)


def colour() -> ScanImage:
    return image_of(np.zeros((3, *SHAPE)), oblique(), color=True)


@pytest.mark.parametrize(
    "other",
    [
        colour(),
        image_of(np.zeros((2, *SHAPE)), oblique()),
        image_of(np.zeros((4, 4, 4))),
        sequence(0, affine=oblique(origin=(500, 0, 0))),
    ],
    ids=["colour", "two channels", "another shape", "elsewhere"],
)
def test_what_does_not_fit_together_is_refused(other: ScanImage) -> None:
    with pytest.raises(UnreadableScanError, match=r"^has (a sequence|sequences)") as caught:
        stack_sequences({"a": sequence(1), "b": other})
    assert caught.value.code == "sequences-differ"
    assert caught.value.fix


def test_spacings_that_differ_are_refused_where_places_are_unknown() -> None:
    first, second = (image_of(np.zeros(SHAPE), spacing_mm=(1.0, 1.0, z)) for z in (1.0, 2.0))
    with pytest.raises(UnreadableScanError, match="shapes or spacings"):
        stack_sequences({"a": first, "b": second})
