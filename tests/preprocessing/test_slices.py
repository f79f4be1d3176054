"""2.5D preparation: a scan keeps its own slices, how many it has is told by shapes, and a batch shows them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch

from medres.data.image import ScanImage
from medres.planning.plan import Augmentation, Plan
from medres.preprocessing.augmentation import Augmenter, SliceAugmenter, make_augmenter
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.preprocessor import Preprocessor
from medres.preprocessing.stacks import Inputs, pad_stacks, slice_mask, with_neighbours
from tests.preprocessing.examples import INTENSITIES, affine_of, make_image, make_plan, smooth_scan

_DTYPES = {"hu_windows": np.int16, "robust_zscore": np.uint16, "scaled": np.uint8}
_HIGH = {"hu_windows": 400.0, "robust_zscore": 1500.0, "scaled": 255.0}


def slice_plan(scheme: str = "scaled", **changes: Any) -> Plan:
    """A plan of at most 9 slices of 14 x 16 pixels of 1 mm."""
    given = {"slicewise": True, "shape": (9, 14, 16), "orientation": "SPL", "spacing_mm": (1.0, 1.0)}
    return make_plan(scheme, spatial_dims=3, **(given | changes))


def stack(count: int, *, scheme: str = "scaled", spacing: Any = (5.0, 1.0, 1.0), seed: int = 0) -> ScanImage:
    """A volume of ``count`` thick slices, lying in its file as its plan wants it."""
    low = -1000.0 if scheme == "hu_windows" else 0.0
    voxels = np.rint(smooth_scan((count, 14, 16), low=low, high=_HIGH[scheme], seed=seed)).astype(_DTYPES[scheme])
    return make_image(voxels[None], affine=affine_of("SPL", spacing))


@pytest.mark.parametrize("count", [1, 2, 6, 9])
@pytest.mark.parametrize("pitch", [5.0, 0.4])
@pytest.mark.parametrize("scheme", ["hu_windows", "scaled"])
def test_prepared_slices_are_the_scans_own(scheme: str, pitch: float, count: int) -> None:
    image = stack(count, scheme=scheme, spacing=(pitch, 1.0, 1.0))
    stored, geometry = Preprocessor(slice_plan(scheme)).prepare(image)
    assert np.array_equal(stored, image.voxels)
    assert geometry.shape == (count, 14, 16)
    assert np.array_equal(geometry.affine, image.affine)


def test_slices_are_resampled_in_their_plane_alone() -> None:
    image = stack(5, spacing=(5.0, 0.5, 0.5))
    stored, geometry = Preprocessor(slice_plan()).prepare(image)
    assert geometry.scale == (1.0, 2.0, 2.0)
    for index in range(5):
        alone = make_image(image.voxels[:, index : index + 1], affine=image.affine)
        again, _ = Preprocessor(slice_plan()).prepare(alone)
        assert np.array_equal(stored[:, index], again[:, 0])


@pytest.mark.parametrize("count", [10, 18, 300])
def test_more_slices_than_planned_are_merged_evenly(count: int) -> None:
    image = stack(count)
    stored, geometry = Preprocessor(slice_plan()).prepare(image)
    assert stored.shape == (1, 9, 14, 16)
    assert geometry.scale[0] == pytest.approx(count / 9)
    first, last = geometry.offset[0], geometry.offset[0] + 8 * geometry.scale[0]
    assert first == pytest.approx(count - 1 - last)  # as far from either end
    ramp = make_image(np.broadcast_to(np.arange(count)[:, None, None] * 0.5, (1, count, 14, 16)).copy(),
                      affine=image.affine)  # fmt: skip
    plan = slice_plan(intensity={"scheme": "scaled", "scale_range": (0.0, 300.0)})
    levels = Preprocessor(plan).prepare(ramp)[0][0, 1:-1, 0, 0].astype(np.float64) * 300
    np.testing.assert_allclose(levels, 0.5 * (first + geometry.scale[0] * np.arange(1, 8)), atol=0.1)


@pytest.mark.parametrize("lying", ["LPS", "RAS", "SAR", "IPL"])
def test_d_runs_across_the_slices_however_the_file_lies(lying: str) -> None:
    from medres.preprocessing.orientation import oriented_axes

    reference = stack(6)
    axes, flips = oriented_axes(affine_of("SPL", (5.0, 1.0, 1.0)), orientation=lying)
    turned = reference.voxels[0].transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    affine = affine_of(lying, [(5.0, 1.0, 1.0)[axis] for axis in axes])
    stored, _ = Preprocessor(slice_plan()).prepare(make_image(turned[None].copy(), affine=affine))
    assert np.array_equal(stored, reference.voxels)


def test_only_the_foregrounds_slices_are_kept_where_scans_are_cropped() -> None:
    voxels = np.zeros((1, 8, 14, 16), dtype=np.uint8)
    voxels[:, 2:6, 4:10, 4:12] = 200
    image = make_image(voxels, affine=affine_of("SPL", (5.0, 1.0, 1.0)))
    stored, geometry = Preprocessor(slice_plan(crop="foreground")).prepare(image)
    assert stored.shape[1] == 4
    assert geometry.offset[0] == 2
    assert (stored[0].reshape(4, -1).max(1) == 200).all()


def test_a_map_of_slices_leads_back_to_its_scan() -> None:
    image = stack(6)
    stored, geometry = Preprocessor(slice_plan()).prepare(image)
    assert np.array_equal(geometry.to_scan(stored[0].astype(np.float32)), image.voxels[0])


def test_scans_without_spacing_are_scaled_in_their_plane() -> None:
    plan = slice_plan(orientation=None, spacing_mm=None)
    voxels = np.arange(7 * 28 * 16, dtype=np.float32).reshape(1, 16, 28, 7)  # I, J, K
    stored, geometry = Preprocessor(plan).prepare(make_image((voxels % 255).astype(np.uint8)))
    assert stored.shape == (1, 7, 14, 16)
    assert geometry.scale == (1.0, 2.0, 2.0)


# --- a batch


def test_a_batch_holds_the_slices_of_each_scan_and_says_which() -> None:
    preprocessor = Preprocessor(slice_plan("hu_windows"))
    prepared = [preprocessor.prepare(stack(count, scheme="hu_windows", seed=count))[0] for count in (3, 7, 1)]
    scans, mask = preprocessor.inputs(prepared, device=torch.device("cpu"))
    assert scans.shape == (3, 7, 2, 14, 16)
    assert mask is not None
    assert mask.sum(1).tolist() == [3, 7, 1]
    for row, one in enumerate(prepared):
        alone = preprocessor.inputs([one], device=torch.device("cpu"))
        assert alone.slice_mask is not None
        assert bool(alone.slice_mask.all())
        assert torch.equal(alone.scans[0], scans[row][mask[row]])


@pytest.mark.parametrize("scheme", INTENSITIES)
def test_slices_are_finished_as_volumes_are(scheme: str) -> None:
    plan = slice_plan(scheme)
    stored, _ = Preprocessor(plan).prepare(stack(9, scheme=scheme))
    scans, _ = Preprocessor(plan).inputs([stored], device=torch.device("cpu"))
    whole = make_plan(scheme, shape=(9, 14, 16), orientation="SPL", spacing_mm=(5.0, 1.0, 1.0))
    expected = Preprocessor(whole).finish(torch.from_numpy(stored)[None])
    assert torch.equal(scans, expected.transpose(1, 2))


def _with_neighbours(scheme: str, neighbours: int = 3, **intensity: Any) -> Plan:
    own = 2 if scheme == "hu_windows" else 1
    return slice_plan(
        scheme, neighbours=neighbours, in_channels=neighbours * own, intensity=INTENSITIES[scheme] | intensity
    )  # fmt: skip


@pytest.mark.parametrize("neighbours", [3, 5, 15])
@pytest.mark.parametrize("scheme", INTENSITIES)
def test_neighbours_are_channels_in_the_order_window_then_neighbour(scheme: str, neighbours: int) -> None:
    plan, half = _with_neighbours(scheme, neighbours), neighbours // 2
    prepared = [Preprocessor(plan).prepare(stack(count, scheme=scheme))[0] for count in (4, 9)]
    scans, mask = Preprocessor(plan).inputs(prepared, device=torch.device("cpu"))
    single, _ = Preprocessor(slice_plan(scheme)).inputs(prepared, device=torch.device("cpu"))
    assert mask is not None
    own = single.shape[2]
    for row, count in enumerate((4, 9)):
        for place in range(count):
            for step in range(-half, half + 1):
                beside = min(max(place + step, 0), count - 1)
                for channel in range(own):
                    shown = scans[row, place, channel * neighbours + step + half]
                    assert torch.equal(shown, single[row, beside, channel])


def test_each_neighbour_gets_the_statistics_of_its_colour() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plan = _with_neighbours("scaled", mean=mean, std=std)
    scans, _ = Preprocessor(plan).inputs([np.full((1, 3, 14, 16), 255, np.uint8)], device=torch.device("cpu"))
    for channel in range(3):
        expected = (1 - mean[channel]) / std[channel]
        torch.testing.assert_close(scans[0, :, channel], torch.full((3, 14, 16), expected))


def test_the_parts_of_a_batch() -> None:
    padded, counts = pad_stacks([np.full((2, 1, 3, 4), 7), np.full((2, 3, 3, 4), 8)])
    assert counts == [1, 3]
    assert padded.shape == (2, 2, 3, 3, 4)
    assert not padded[0, :, 1:].any()
    assert slice_mask(torch.tensor(counts), 3).tolist() == [[True, False, False], [True] * 3]
    volumes = torch.randn(2, 2, 3, 3, 4)
    assert torch.equal(with_neighbours(volumes, torch.tensor(counts), neighbours=1), volumes.transpose(1, 2))


# --- the cache


def test_the_cache_keeps_each_scans_own_slices(tmp_path: Path) -> None:
    given = {"key": "ab" * 32, "shape": (1, 9, 4, 5), "dtype": np.int16, "ragged": True}
    cache = PackedCache(tmp_path, **given, segment_bytes=600)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    rows = {f"scan {n}": rng.integers(-9, 9, (1, n, 4, 5), dtype=np.int16) for n in (3, 9, 1, 5, 2)}
    cache.add(rows.items())
    for opened in (cache, PackedCache(tmp_path, **given)):  # type: ignore[arg-type]
        found = opened.read_each(["scan 9", "scan 1", "scan 5", "scan 9"])
        for name, array in zip(("scan 9", "scan 1", "scan 5", "scan 9"), found, strict=True):
            assert np.array_equal(array, rows[name])
    assert sum(path.stat().st_size for path in cache.folder.glob("segment-*")) == 2 * 20 * (3 + 9 + 1 + 5 + 2)
    for wrong in ((1, 0, 4, 5), (1, 10, 4, 5), (2, 3, 4, 5), (1, 3, 4, 6)):
        with pytest.raises(ValueError, match="in a cache of"):
            cache.add([("wrong", np.zeros(wrong, np.int16))])


def test_a_cache_of_slices_that_was_tampered_with_is_prepared_again(tmp_path: Path) -> None:
    given = {"key": "ab" * 32, "shape": (1, 9, 4, 5), "dtype": np.int16, "ragged": True}
    cache = PackedCache(tmp_path, **given)  # type: ignore[arg-type]
    cache.add([("a", np.ones((1, 3, 4, 5), np.int16)), ("b", np.ones((1, 2, 4, 5), np.int16))])
    index = cache.folder / "index.json"
    text = index.read_text()
    for old, new in (("[1,3,4,5]", "[1,4,4,5]"), ("[1,2,4,5]", "[1,3,4,5]"), ("[1,2,4,5]", "[1,10,4,5]")):
        assert old in text
        index.write_text(text.replace(old, new))
        again = PackedCache(tmp_path, **given)  # type: ignore[arg-type]
        assert again.missing(["a", "b"]) == ["a", "b"]


# --- augmentation

STRONG = Augmentation(
    flip_axes=(2,), rotation_degrees=20, scale=0.2, translation=0.1, brightness=0, contrast=0, noise=0
)


def test_all_slices_of_a_scan_move_alike_and_as_an_image_would() -> None:
    image = torch.rand(1, 1, 14, 16)
    stacks = image[:, :, None].expand(2, 1, 6, 14, 16).contiguous()
    moved = SliceAugmenter(STRONG)(stacks, seeds=[3, 4], counts=[6, 4])
    plane = Augmenter(STRONG.model_copy(update={"flip_axes": (1,)}), spatial_dims=2)
    for row, seed, count in ((0, 3, 6), (1, 4, 4)):
        expected = plane(image, seeds=[seed])[0, 0]
        for index in range(count):
            torch.testing.assert_close(moved[row, 0, index], expected)
    assert not torch.equal(moved[0, 0, 0], moved[1, 0, 0])
    assert not moved[1, 0, 4:].any()


def test_what_happens_to_a_scan_depends_on_its_seed_and_its_slices_alone() -> None:
    augmenter = make_augmenter(slice_plan(augmentation={"flip_axes": (2,)}))
    assert isinstance(augmenter, SliceAugmenter)
    stacks = torch.rand(2, 2, 6, 14, 16)
    together = augmenter(stacks, seeds=[7, 8], counts=[4, 6])
    stacks[0, :, 4:] = 1e6  # what stands in the padding is not looked at
    again = augmenter(stacks, seeds=[7, 8], counts=[4, 6])
    assert torch.equal(together, again)
    assert torch.equal(augmenter(stacks[:1, :, :4], seeds=[7], counts=[4]), together[:1, :, :4])


STRONGER = STRONG.model_copy(
    update={"brightness": 0.3, "contrast": 0.3, "noise": 0.2, "crop": 0.3, "blur": 1.5, "gamma": 0.6, "bias_field": 0.4}
)


def test_every_change_of_a_scan_depends_on_its_seed_and_its_slices_alone() -> None:
    augmenter = SliceAugmenter(STRONGER)
    stacks = torch.rand(3, 2, 6, 14, 16) - 0.3
    before = stacks.clone()
    together = augmenter(stacks, seeds=[7, 8, 7], counts=[4, 6, 1])
    assert torch.equal(stacks, before)
    assert torch.isfinite(together).all()
    stacks[0, :, 4:] = torch.nan  # what stands in the padding is not looked at
    assert torch.equal(augmenter(stacks, seeds=[7, 8, 7], counts=[4, 6, 1]), together)
    for row, (seed, count) in enumerate(((7, 4), (8, 6), (7, 1))):
        alone = augmenter(stacks[row : row + 1, :, :count], seeds=[seed], counts=[count])
        assert torch.equal(alone, together[row : row + 1, :, :count])
        assert not together[row, :, count:].any()


@pytest.mark.parametrize("change", ["blur", "gamma", "bias_field", "crop", "contrast"])
def test_slices_that_show_the_same_still_do(change: str) -> None:
    still = Augmentation(rotation_degrees=0, scale=0, translation=0, brightness=0, contrast=0, noise=0)
    stack = (torch.rand(1, 2, 1, 14, 16) - 0.5).expand(1, 2, 5, 14, 16).contiguous()
    changed = SliceAugmenter(still.model_copy(update={change: 0.5}))(stack, seeds=[3], counts=[5])
    assert not torch.allclose(changed, stack, atol=1e-3)
    torch.testing.assert_close(changed, changed[:, :, :1].expand_as(changed), atol=1e-5, rtol=0)


def test_a_flat_stack_stays_as_it_is() -> None:
    flat = torch.full((1, 2, 5, 14, 16), -2.5)
    torch.testing.assert_close(SliceAugmenter(STRONGER)(flat, seeds=[3], counts=[5]), flat, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_slices_are_left_out_up_to_their_share_and_one_stays(share: float) -> None:
    augmenter = SliceAugmenter(Augmentation(slice_dropout=share))
    counts = torch.tensor([1, 2, 20, 20, 7] * 40)
    inputs = Inputs(torch.rand(200, 20, 1, 1, 1), slice_mask(counts, 20))
    seeds = list(range(200))
    thinned = augmenter.leave_out(inputs, seeds=seeds)
    assert thinned.scans is inputs.scans
    assert thinned.slice_mask is not None
    left, there = thinned.slice_mask.sum(1), inputs.slice_mask.sum(1)  # type: ignore[union-attr]
    assert not (thinned.slice_mask & ~inputs.slice_mask).any()  # type: ignore[operator]
    assert (left >= 1).all()
    drawn = augmenter.draw(seeds).left_out
    assert (there - left).tolist() == [int(some * int(count)) for some, count in zip(drawn, there, strict=True)]
    assert bool((left < there).any()) == (share > 0)
    again = augmenter.leave_out(Inputs(inputs.scans[3:5, :7], inputs.slice_mask[3:5, :20]), seeds=seeds[3:5])  # type: ignore[index]
    assert torch.equal(again.slice_mask, thinned.slice_mask[3:5])  # type: ignore[arg-type]


def test_every_slice_may_be_left_out() -> None:
    inputs = Inputs(torch.rand(400, 6, 1, 1, 1), slice_mask(torch.full((400,), 6), 6))
    mask = SliceAugmenter(Augmentation(slice_dropout=0.9)).leave_out(inputs, seeds=range(400)).slice_mask
    assert mask is not None
    shares = mask.float().mean(0)
    assert shares.max() - shares.min() < 0.12
    assert 0.5 < shares.mean() < 0.75


def test_a_slice_looks_the_same_beside_its_neighbour() -> None:
    plan = _with_neighbours("scaled").model_copy(
        update={"augmentation": Augmentation(flip_axes=(2,), noise=0.3, contrast=0.3)}
    )
    augmenter = make_augmenter(plan)
    assert isinstance(augmenter, SliceAugmenter)
    stored, _ = Preprocessor(plan).prepare(stack(6))
    scans, _ = Preprocessor(plan).inputs(
        [stored], device=torch.device("cpu"), change=lambda x, counts: augmenter(x, seeds=[5], counts=counts)
    )
    still, _ = Preprocessor(plan).inputs([stored], device=torch.device("cpu"))
    assert not torch.allclose(scans, still)
    assert torch.equal(scans[0, 1:, 0], scans[0, :-1, 1])
    assert torch.equal(scans[0, :-1, 2], scans[0, 1:, 1])


# --- the plan


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spacing_mm": (5.0, 1.0, 1.0)}, "2 positive numbers in mm, order H,W"),
        ({"shape": (14, 16)}, "3 positive sizes"),
        ({"augmentation": {"flip_axes": (0,)}}, "in their plane only"),
        ({"augmentation": {"slice_dropout": 1.0}}, "slice_dropout"),
        ({"slicewise": False, "spacing_mm": None, "augmentation": {"slice_dropout": 0.1}}, "slicewise is false"),
        ({"slicewise": False, "spacing_mm": None, "neighbours": 3, "in_channels": 3}, "slicewise is false"),
        ({"neighbours": 3, "in_channels": 4}, "do not divide"),
        ({"neighbours": 2, "in_channels": 2}, "neighbours: must be an odd number from 1 to 15"),
        ({"neighbours": 17, "in_channels": 17}, "neighbours: must be an odd number from 1 to 15"),
    ],
)
def test_plans_of_slices_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    from medres.errors import ConfigError

    with pytest.raises((ConfigError, pydantic.ValidationError), match=words):
        slice_plan(**changes)
