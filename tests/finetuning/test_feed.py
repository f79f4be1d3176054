"""2.5D: what the augmenter leaves out of a scan is masked in the network's input, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medres.finetuning.feed import Feed, augmentation_seeds
from medres.planning.plan import Augmentation, Plan
from medres.preprocessing.augmentation import make_augmenter
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.preprocessor import Preprocessor

COUNTS = (1, 4, 8)


def slice_feed(folder: Path, augmentation: Augmentation) -> Feed:
    plan = Plan(
        spatial_dims=3, slicewise=True, modality="other", shape=(8, 12, 12), in_channels=3, neighbours=3, batch_size=3,
        intensity={"scheme": "scaled", "scale_range": (0, 255)}, augmentation=augmentation,
    )  # fmt: skip
    preprocessor, rng = Preprocessor(plan), np.random.default_rng(0)
    cache = PackedCache(folder, key="ab" * 32, shape=preprocessor.stored_shape, dtype=np.uint8, ragged=True)
    cache.add((str(count), rng.integers(0, 255, (1, count, 12, 12), dtype=np.uint8)) for count in COUNTS)
    return Feed(
        cache=cache, keys=[str(count) for count in COUNTS], preprocessor=preprocessor,
        augmenter=make_augmenter(plan), device=torch.device("cpu"),
    )  # fmt: skip


def test_slices_are_left_out_of_the_mask_in_training_alone(tmp_path: Path) -> None:
    rows = np.arange(3)
    thinned, whole = (
        slice_feed(tmp_path / name, Augmentation(slice_dropout=share)) for name, share in (("a", 0.9), ("b", 0.0))
    )
    still = thinned.inputs(rows)
    assert still.slice_mask is not None
    assert still.slice_mask.sum(1).tolist() == list(COUNTS)
    left = []
    for epoch in range(1, 9):
        seeds = augmentation_seeds([str(count) for count in COUNTS], seed=0, epoch=epoch)
        seen, unthinned = thinned.inputs(rows, seeds=seeds), whole.inputs(rows, seeds=seeds)
        assert torch.equal(seen.scans, unthinned.scans)  # neighbours still see what is left out
        assert seen.slice_mask is not None
        assert not (seen.slice_mask & ~still.slice_mask).any()
        left.append(seen.slice_mask.sum(1).tolist())
        alone = thinned.inputs(rows[2:], seeds=seeds[2:])
        assert alone.slice_mask is not None
        assert torch.equal(alone.slice_mask[0], seen.slice_mask[2])
    assert min(min(row) for row in left) == 1
    assert len({row[2] for row in left}) > 3


def test_random_changes_follow_from_what_a_scan_looks_like_and_not_from_its_unit(tmp_path: Path) -> None:
    feed, rows = slice_feed(tmp_path, Augmentation()), np.arange(3)
    same_looks = replace(feed, appearances=["head", "", "chest"])
    in_another_unit = replace(same_looks, keys=["a", "4", "b"])
    assert same_looks.seeds(rows, seed=0, epoch=1) == in_another_unit.seeds(rows, seed=0, epoch=1)
    assert feed.seeds(rows, seed=0, epoch=1)[1] == same_looks.seeds(rows, seed=0, epoch=1)[1]  # shows nothing: its key
    assert len(set(same_looks.seeds(rows, seed=0, epoch=1))) == 3
