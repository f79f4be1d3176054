from __future__ import annotations

from itertools import permutations, product
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its name everywhere
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.data.catalogue import KINDS
from medres.data.image import ScanImage
from medres.data.regions import crop_to_region, default_roi_size_mm, marked_extent_mm
from medres.errors import UnreadableScanError

RNG = np.random.default_rng(0)
_OPPOSITE = {"R": "L", "A": "P", "S": "I"}
CODES = ["".join(code) for axes in permutations("RAS") for code in product(*[(a, _OPPOSITE[a]) for a in axes])]
SHAPE = (18, 15, 12)


def image_of(voxels: Any, affine: Any = None, **fields: Any) -> ScanImage:
    spacing = None if affine is None else tuple(np.linalg.norm(affine[:3, :3], axis=0))
    given = {"spacing_mm": spacing, "content_hash": "whole", **fields}
    return ScanImage(voxels=voxels if voxels.ndim == 4 else voxels[None], affine=affine, **given)


def turned(degrees: float, axis: int) -> np.ndarray[Any, Any]:
    a, (i, j) = np.deg2rad(degrees), [n for n in range(3) if n != axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


def oblique(spacing: Any = (1.5, 0.8, 2.5), degrees: float = 13.0, origin: Any = (-40.0, 25.0, 7.0)) -> Any:
    affine = turned(degrees, 0) @ turned(-degrees / 2, 2) @ np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def ras(affine: Any, index: Any) -> Any:
    return (affine @ [*index, 1.0])[:3]


def scan(affine: Any = None) -> ScanImage:
    return image_of(RNG.integers(-900, 900, SHAPE).astype(np.int16), oblique() if affine is None else affine)


def lying(image: ScanImage, code: str) -> ScanImage:
    """The same scan with other axes in its file, by nibabel."""
    file = nib.Nifti1Image(image.voxels[0], image.affine)
    moved = file.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(file.affine), nib.orientations.axcodes2ornt(code)
        )
    )
    return image_of(np.asarray(moved.dataobj), moved.affine)


# --- against independent implementations


def as_sitk(image: ScanImage) -> sitk.Image:
    out = sitk.GetImageFromArray(image.voxels[0].T)
    assert image.affine is not None
    lps = np.diag([-1, -1, 1, 1.0]) @ image.affine
    out.SetSpacing([float(step) for step in image.spacing_mm or ()])
    out.SetDirection((lps[:3, :3] / np.array(image.spacing_mm)).ravel().tolist())
    out.SetOrigin(lps[:3, 3].tolist())
    return out


@pytest.mark.parametrize("seed", range(8))
def test_a_region_inside_is_what_simpleitk_cuts_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = scan(oblique(rng.uniform(0.5, 3, 3), rng.uniform(-20, 20)))
    center = ras(image.affine, rng.uniform(5, 7, 3))
    crop = crop_to_region(image, size_mm=3 * np.array(image.spacing_mm)[[0, 1, 2]], center_ras_mm=center)
    assert crop.region is not None
    starts, sizes = [a for a, _ in crop.region], list(crop.spatial_shape)
    expected = sitk.RegionOfInterest(as_sitk(image), sizes, starts)
    np.testing.assert_array_equal(crop.voxels[0], sitk.GetArrayFromImage(expected).T)
    found = as_sitk(crop)
    np.testing.assert_allclose(found.GetOrigin(), expected.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-9)
    middle = np.array(expected.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in sizes]))
    off = np.linalg.inv(image.affine[:3, :3]) @ (middle * [-1, -1, 1] - center)
    assert np.abs(off).max() <= 0.5 + 1e-3  # voxels


def test_every_voxel_keeps_its_place_in_the_patient() -> None:
    image = scan()
    crop = crop_to_region(image, size_mm=(14, 9, 40), center_ras_mm=ras(image.affine, (3, 13, 6)))
    inverse, checked = np.linalg.inv(image.affine), 0
    for index in np.ndindex(crop.spatial_shape):
        own = np.rint(inverse @ [*ras(crop.affine, index), 1.0])[:3].astype(int)
        if ((own >= 0) & (own < SHAPE)).all():
            assert crop.voxels[0][index] == image.voxels[0][tuple(own)]
            checked += 1
        else:
            assert crop.voxels[0][index] == image.voxels.min()
    assert 0 < checked < crop.voxels.size
    assert "roi-padded" in crop.notes[-1]
    assert (crop.content_hash, crop.spacing_mm) == ("whole", image.spacing_mm)


# --- laws


def test_how_the_file_lies_does_not_matter() -> None:
    image = scan()
    size = (12.0, 8.0, 20.0)
    centers = [
        ras(image.affine, index) for index in [(8, 7, 5), (8.5, 7, 5.5), (8.3, 6.8, 5.1), (1, 14, 11), (0, 0, 0)]
    ]
    tried = 0
    for center, code in product(centers, CODES):
        crop = crop_to_region(lying(image, "RAS"), size_mm=size, center_ras_mm=center)
        other = crop_to_region(lying(image, code), size_mm=size, center_ras_mm=center)
        back = lying(other, "RAS")
        np.testing.assert_array_equal(back.voxels, crop.voxels, err_msg=code)
        np.testing.assert_allclose(back.affine, crop.affine, atol=1e-9)
        tried += 1
    assert tried == 5 * 48


@settings(max_examples=60)
@given(
    center=st.tuples(*[st.floats(-0.4, size - 0.6) for size in SHAPE]), size=st.tuples(*[st.floats(0.1, 60)] * 3),
    degrees=st.floats(-25, 25), data=st.data(),
)  # fmt: skip
def test_all_regions_have_their_size_and_hold_their_centre(center: Any, size: Any, degrees: float, data: Any) -> None:
    image = scan(oblique(data.draw(st.tuples(*[st.floats(0.4, 4)] * 3)), degrees))
    crop = crop_to_region(image, size_mm=size, center_ras_mm=ras(image.affine, center))
    for (start, stop), middle, length, step in zip(crop.region, center, size, image.spacing_mm, strict=True):  # type: ignore[arg-type]
        assert stop - start == max(1, round(length / step))
        assert abs((start + stop - 1) / 2 - middle) <= 0.5 + 1e-3
    assert crop.voxels.shape == (1, *(stop - start for start, stop in crop.region or ()))


def test_a_mask_finds_the_lesion_on_any_grid() -> None:
    image = scan()
    lesion = (slice(6, 9), slice(4, 9), slice(3, 5))
    own = image_of(np.zeros(SHAPE, np.uint8), image.affine)
    own.voxels[0][lesion] = 7
    center = ras(image.affine, (7, 6, 3.5))
    by_center = crop_to_region(image, size_mm=(9, 9, 9), center_ras_mm=center)
    by_mask = crop_to_region(image, size_mm=(9, 9, 9), mask=own)
    np.testing.assert_array_equal(by_mask.voxels, by_center.voxels)
    assert not by_mask.notes
    for code in CODES[::7]:
        assert crop_to_region(image, size_mm=(9, 9, 9), mask=lying(own, code)).region == by_center.region
    center = ras(image.affine, (7.4, 6, 3.5))  # not where half a voxel decides
    by_center = crop_to_region(image, size_mm=(9, 9, 9), center_ras_mm=center)
    fine = image_of(np.zeros((90, 90, 90), np.uint8), oblique((0.5, 0.5, 0.5), -31, center - 20))
    inside = np.rint((np.linalg.inv(fine.affine) @ [*center, 1])[:3]).astype(int)
    fine.voxels[0][tuple(slice(i - 2, i + 3) for i in inside)] = 1
    assert crop_to_region(image, size_mm=(9, 9, 9), mask=fine).region == by_center.region


def test_the_bounding_box_counts_not_the_mass() -> None:
    image, mask = scan(np.eye(4)), np.zeros(SHAPE)
    mask[2:5, 2:5, 2:5] = 1
    mask[10, 3, 3] = 1
    crop = crop_to_region(image, size_mm=(9, 3, 3), mask=image_of(mask, np.eye(4)))
    assert crop.region == ((2, 11), (2, 5), (2, 5))


def test_without_affines_voxels_are_compared() -> None:
    voxels, mask = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE), np.zeros(SHAPE, np.uint8)
    mask[5, 6, 7] = 1
    plain = image_of(voxels, spacing_mm=(1.0, 1.0, 2.0))
    crop = crop_to_region(plain, size_mm=(6, 6, 6), mask=image_of(mask))
    np.testing.assert_array_equal(crop.voxels[0], voxels[3:9, 4:10, 6:9])
    assert crop.affine is None
    assert not crop.notes
    placed = crop_to_region(plain, size_mm=(6, 6, 6), mask=image_of(mask, np.eye(4)))
    assert placed.region == crop.region
    assert placed.notes[0].startswith("mask-unplaced: ")


def test_a_mask_of_the_same_shape_in_another_place_is_told() -> None:
    image = scan(np.diag([1.0, 1, 1, 1]))
    mask = np.zeros(SHAPE)
    mask[5, 6, 7] = 1
    moved = np.eye(4)
    moved[:3, 3] = (2, 0, 0)
    crop = crop_to_region(image, size_mm=(5, 5, 5), mask=image_of(mask, moved))
    assert crop.notes[0].startswith("mask-elsewhere: ")
    assert crop.region == ((5, 10), (4, 9), (5, 10))
    moved[:3, 3] = (0.3, 0, 0)
    assert not crop_to_region(image, size_mm=(5, 5, 5), mask=image_of(mask, moved)).notes


def test_all_channels_are_cropped_and_each_is_filled_by_itself() -> None:
    voxels = np.stack([np.full(SHAPE, -1000), np.arange(np.prod(SHAPE)).reshape(SHAPE) + 5]).astype(np.int16)
    crop = crop_to_region(image_of(voxels, np.eye(4)), size_mm=(6, 6, 6), center_ras_mm=(0, 0, 0))
    assert crop.voxels.shape == (2, 6, 6, 6)
    assert crop.voxels[0].min() == crop.voxels[0].max() == -1000
    assert crop.voxels[1, 0, 0, 0] == 5
    assert crop.voxels.base is None  # the whole scan can be forgotten


# --- refusals


def empty_mask() -> ScanImage:
    return image_of(np.zeros(SHAPE), oblique())


REFUSED: dict[str, tuple[ScanImage, dict[str, Any], str]] = {
    "no region": (scan(), {}, "roi-unknown"),
    "an image": (image_of(np.zeros((1, 8, 8)).reshape(1, 8, 8), None), {"center_ras_mm": (0, 0, 0)}, "roi-unknown"),
    "outside": (scan(), {"center_ras_mm": (400, 0, 0)}, "roi-outside"),
    "not a number": (scan(), {"center_ras_mm": (float("nan"), 0, 0)}, "roi-unknown"),
    "empty mask": (scan(), {"mask": empty_mask()}, "mask-empty"),
    "mask elsewhere": (scan(), {"mask": image_of(np.ones((3, 3, 3)), oblique(origin=(900, 0, 0)))}, "roi-outside"),
    "no affine": (image_of(np.ones(SHAPE), spacing_mm=(1, 1, 1)), {"center_ras_mm": (1, 1, 1)}, "roi-unknown"),
    "no spacing": (image_of(np.ones(SHAPE)), {"mask": image_of(np.ones(SHAPE))}, "roi-unknown"),
    "shapes differ": (
        image_of(np.ones(SHAPE), spacing_mm=(1, 1, 1)),
        {"mask": image_of(np.ones((4, 4, 4)))},
        "roi-unknown",
    ),
    "mask an image": (scan(), {"mask": image_of(np.ones((1, 4, 4)).reshape(1, 4, 4))}, "roi-unknown"),
    "three edges without axes": (
        image_of(np.ones(SHAPE), spacing_mm=(1, 1, 1)),
        {"mask": image_of(np.ones(SHAPE)), "size_mm": (3, 4, 5)},
        "roi-unknown",
    ),
    "too large": (scan(), {"center_ras_mm": ras(oblique(), (5, 5, 5)), "size_mm": (1000, 1000, 1000)}, "too-large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cut_out_is_refused_with_the_way_out(name: str) -> None:
    image, how, code = REFUSED[name]
    with pytest.raises(UnreadableScanError) as caught:
        crop_to_region(image, **{"size_mm": (9.0, 9.0, 9.0), **how})
    assert caught.value.code == code
    assert code in KINDS
    assert caught.value.fix
    assert caught.value.problem[0].islower()  # the name of the file comes first


def test_an_edge_voxel_belongs_to_the_scan_up_to_its_edge() -> None:
    image = scan(np.diag([2.0, 2.0, 2.0, 1.0]))
    assert crop_to_region(image, size_mm=(2, 2, 2), center_ras_mm=(-1, -1, -1)).voxels.size == 1
    with pytest.raises(UnreadableScanError, match="1 mm outside"):
        crop_to_region(image, size_mm=(2, 2, 2), center_ras_mm=(-2, 0, 0))


# --- sizes


def test_extents_are_told_along_the_body() -> None:
    mask = np.zeros(SHAPE)
    mask[2:5, 3:10, 1:3] = 1
    image = image_of(mask, np.diag([1.0, 2.0, 5.0, 1.0]))
    assert {tuple(np.round(marked_extent_mm(lying(image, code)), 9)) for code in CODES} == {(3, 14, 10)}


def test_the_default_size_holds_most_lesions_with_their_surroundings() -> None:
    extents = RNG.uniform(5, 80, (200, 3))
    size, reason = default_roi_size_mm(extents)
    assert (extents <= np.array(size)).all(axis=1).mean() > 0.95
    assert min(size) >= 30
    assert "95 % of the 200 marked regions" in reason
    assert default_roi_size_mm([(1, 2, 3)])[0] == (30, 30, 30)
