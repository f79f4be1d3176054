from dataclasses import replace

import numpy as np
import pytest

from medres.data.folds import make_folds
from medres.data.given_splits import rows_of_given_splits
from medres.errors import DataError
from tests.data.making import table_of


def split_table(*, hashes=None, alike=None):
    """Return 10 scans a split; hashes and groups by sample id (``train3``)."""
    rows = [
        (f"{split}{n}", f"{split}{n}", "ab"[n % 2], (hashes or {}).get(f"{split}{n}", f"{split}{n}"), split)
        for split in ("train", "val", "test")
        for n in range(10)
    ]
    table = table_of(rows)
    groups = alike or {}
    return replace(table, scans=tuple(replace(scan, alike=groups.get(scan.sample_id, "")) for scan in table))


def ids(table, rows):
    return {table.scans[row].sample_id for row in rows}


def test_near_copies_of_scored_scans_are_left_out_like_identical_ones_and_counted_apart():
    table = split_table(
        hashes={"train0": "h", "test0": "h"},
        # train0 is identical to test0 and its near copy as well: counted once
        alike={
            **dict.fromkeys(("train0", "test0", "train1", "val2"), "g"),
            **dict.fromkeys(("train5", "val5"), "k"),
            **dict.fromkeys(("train7", "train8"), "m"),
        },
    )
    given = rows_of_given_splits(table, merge_val=False)
    assert ids(table, given.test) == {f"test{n}" for n in range(10)}
    assert ids(table, given.val) == {f"val{n}" for n in range(10)} - {"val2"}
    assert ids(table, given.train) == {f"train{n}" for n in range(10)} - {"train0", "train1", "train5"}
    assert given.notes == (
        "1 training scan identical to scans of the test split: left out of training, kept in test.",
        "2 training scans nearly the same as scans of the test split: left out of training, kept in test.",
        "1 training scan nearly the same as scans of the val split: left out of training, kept in val.",
    )


def test_where_val_is_merged_its_copies_stay_together_instead():
    table = split_table(alike={"train5": "k", "val5": "k", "train1": "g", "test1": "g"})
    folding = make_folds(table, num_folds=3, seed=0)
    learning = np.concatenate([fold.held_out for fold in folding.folds])
    assert ids(table, learning) == {f"{split}{n}" for split in ("train", "val") for n in range(10)} - {"train1"}
    assert any({"train5", "val5"} <= ids(table, fold.held_out) for fold in folding.folds)


def test_near_copies_make_patients_one():
    table = split_table().without_splits()
    groups = {scan.sample_id: f"g{n // 4}" for n, scan in enumerate(table) if n < 24}
    table = replace(table, scans=tuple(replace(scan, alike=groups.get(scan.sample_id, "")) for scan in table))
    folds = make_folds(table, num_folds=5, seed=0).folds
    held_out = {sample: fold.index for fold in folds for sample in ids(table, fold.held_out)}
    for group in set(groups.values()):
        assert len({held_out[sample] for sample, name in groups.items() if name == group}) == 1


def test_the_refusal_says_that_near_copies_count_as_one():
    table = split_table().without_splits()
    table = replace(table, scans=tuple(replace(scan, alike="g") for scan in table))
    with pytest.raises(DataError, match="patients with near copies or identical scans count as one"):
        make_folds(table, num_folds=5, seed=0)
