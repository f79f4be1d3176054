import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from medres.data.allocation import Groups, allocate

COUNTS = st.integers(2, 4).flatmap(
    lambda num_classes: st.lists(st.lists(st.integers(0, 4), min_size=num_classes, max_size=num_classes), max_size=7)
)


def groups_of(rows, num_classes=None):
    counts = np.array([row for row in rows if any(row)], dtype=np.int64).reshape(-1, num_classes or len(rows[0]))
    return Groups(keys=tuple(f"g{n}" for n in range(len(counts))), counts=counts)


def covers(groups, parts, num_parts):
    present = groups.counts.any(axis=0)
    return all(groups.counts[np.asarray(parts) == part][:, present].any(axis=0).all() for part in range(num_parts))


@settings(max_examples=150)
@given(COUNTS, st.integers(2, 3), st.integers(0, 5))
def test_every_class_is_in_every_part_whenever_that_is_possible(rows, num_parts, seed):
    if not rows or not any(any(row) for row in rows):
        return
    groups = groups_of(rows)
    parts = allocate(groups, shares=(1 / num_parts,) * num_parts, seed=seed)
    possible = any(
        covers(groups, choice, num_parts) for choice in itertools.product(range(num_parts), repeat=len(groups.keys))
    )
    assert (parts is not None) == possible
    assert parts is None or covers(groups, parts, num_parts)


@pytest.mark.parametrize("num_parts", [2, 3, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_as_many_groups_as_parts_are_enough_for_one_class_groups_and_for_two_classes(num_parts, seed):
    rng = np.random.default_rng(seed)
    single = [[0] * 3 for _ in range(num_parts * 9)]
    for row, label in zip(single, np.repeat([0, 1, 2], [num_parts, num_parts * 2, num_parts * 6]), strict=True):
        row[label] = int(rng.integers(1, 30))
    mixed = [[1, 1]] * (num_parts // 2) + [[2, 0]] * (num_parts - num_parts // 2) + [[0, 9]] * num_parts
    for groups in (groups_of(single), groups_of(mixed)):
        assert covers(groups, allocate(groups, shares=(1 / num_parts,) * num_parts, seed=seed), num_parts)


def test_a_division_that_single_moves_do_not_find():
    groups = groups_of([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 0, 1]])
    for seed in range(20):
        assert covers(groups, allocate(groups, shares=(0.5, 0.5), seed=seed), 2)


def test_what_is_impossible_is_none():
    triangle = groups_of([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    assert allocate(triangle, shares=(0.5, 0.5), seed=0) is None
    assert allocate(groups_of([[1, 0], [1, 0], [0, 1]]), shares=(0.5, 0.5), seed=0) is None


def test_where_scikit_learn_leaves_folds_without_a_positive():
    rows = [[3, 2]] * 3 + [[4, 0]] * 9  # 12 patients, 3 of them with positive scans
    groups = groups_of(rows)
    labels = np.concatenate([np.repeat([0, 1], row) for row in rows])
    owners = np.repeat(np.arange(12), [sum(row) for row in rows])
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, owners)
    assert min(labels[test].sum() for _, test in folds) == 0  # and not a word
    assert allocate(groups, shares=(0.2,) * 5, seed=0) is None
    assert covers(groups, allocate(groups, shares=(1 / 3,) * 3, seed=0), 3)


def mixed_cohort(seed):
    """80 patients with up to 12 scans, three in ten positive, one in ten with scans of both classes."""
    rng = np.random.default_rng(seed)
    rows = [[0, 0] for _ in range(80)]
    for row in rows:
        row[int(rng.random() < 0.3)] = int(rng.integers(1, 12))
        row[1] += int(rng.random() < 0.1)
    return rows


def spreads_of_scikit_learn(rows, seed):
    labels = np.concatenate([np.repeat([0, 1], row) for row in rows])
    owners = np.repeat(np.arange(len(rows)), [sum(row) for row in rows])
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, owners)
    return np.ptp([len(set(owners[test])) for _, test in folds])


def test_patients_are_better_balanced_than_those_of_scikit_learn_and_classes_to_within_one_patient():
    ours, theirs = [], []
    for seed in range(20):
        rows = mixed_cohort(seed)
        groups = groups_of(rows)
        parts = allocate(groups, shares=(0.2,) * 5, seed=seed)
        scans = np.array([groups.counts[parts == part].sum(axis=0) for part in range(5)])
        assert (np.ptp(scans, axis=0) <= groups.counts.max()).all()
        ours.append(np.ptp(np.bincount(parts, minlength=5)))
        theirs.append(spreads_of_scikit_learn(rows, seed))
    print(f"patients a fold, largest minus smallest: {np.mean(ours):.1f}, scikit-learn {np.mean(theirs):.1f}")
    assert np.mean(ours) < np.mean(theirs)


def test_shares_are_kept():
    rng = np.random.default_rng(0)
    counts = np.zeros((200, 2), dtype=np.int64)
    counts[np.arange(200), rng.integers(0, 2, 200)] = rng.integers(1, 9, 200)
    groups = Groups(keys=tuple(map(str, range(200))), counts=counts)
    parts = allocate(groups, shares=(0.8, 0.2), seed=0)
    share = counts[parts == 1].sum(axis=0) / counts.sum(axis=0)
    np.testing.assert_allclose(share, 0.2, atol=0.02)
    assert np.mean(parts == 1) == pytest.approx(0.2, abs=0.02)  # patients too: not many small ones


def test_order_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(0)
    counts = np.eye(2, dtype=np.int64)[rng.integers(0, 2, 60)]
    keys = tuple(f"k{n}" for n in range(60))
    order = rng.permutation(60)
    first = allocate(Groups(keys=keys, counts=counts), shares=(0.25,) * 4, seed=3)
    second = allocate(Groups(keys=tuple(keys[n] for n in order), counts=counts[order]), shares=(0.25,) * 4, seed=3)
    assert first[order].tolist() == second.tolist()
    others = {tuple(allocate(Groups(keys=keys, counts=counts), shares=(0.25,) * 4, seed=seed)) for seed in range(8)}
    assert len(others) == 8


def test_many_groups():
    counts = np.eye(3, dtype=np.int64)[np.arange(20_000) % 3]
    parts = allocate(Groups(keys=tuple(map(str, range(20_000))), counts=counts), shares=(0.2,) * 5, seed=0)
    assert Counter(parts.tolist()) == dict.fromkeys(range(5), 4000)
