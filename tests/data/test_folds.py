import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medres.data.folds import inner_split, make_folds, patient_groups
from medres.errors import DataError, UsageError
from tests.data.making import table_of

# patients as tables have them: ids that look alike stay different people
PATIENTS = st.sampled_from(["001", "1", " 1", *(f"p{n}" for n in range(12))])
HASHES = st.one_of(st.just(""), st.integers(0, 25).map("h{}".format))
LABELS = st.sampled_from(["a", "b", "c"])
COHORTS = st.lists(st.tuples(PATIENTS, LABELS, HASHES), min_size=2, max_size=60)


def cohort(rows, splits=None):
    return table_of(
        [(f"s{n:03}", *row, *([splits[n]] if splits else [])) for n, row in enumerate(rows)],
    )


def values(table, rows, field):
    return {getattr(table.scans[row], field) for row in rows} - {""}


def shared(table, left, right):
    return [
        field for field in ("patient_id", "content_hash") if values(table, left, field) & values(table, right, field)
    ]


def assert_lawful(table, folding, rows):
    """Nothing is shared between sides, every row is held out once, and every class is held out in every fold."""
    held_out = np.concatenate([fold.held_out for fold in folding.folds])
    assert sorted(held_out) == sorted(rows)
    for fold in folding.folds:
        assert shared(table, fold.train, fold.held_out) == []
        assert sorted([*fold.train, *fold.held_out]) == sorted(rows)
        assert fold.train.tolist() == sorted(fold.train)
        for part in (fold.train, fold.held_out):
            assert values(table, part, "label") == set(table.classes)
        assert {array.dtype for array in (fold.train, fold.val, fold.held_out)} == {np.dtype(np.int64)}


def brute_force_groups(table):
    groups = [{row} for row in range(len(table))]
    merged = True
    while merged:
        merged = False
        for left in groups:
            for right in groups:
                if left is not right and shared(table, left, right):
                    left |= right
                    groups.remove(right)
                    merged = True
                    break
            if merged:
                break
    return {frozenset(group) for group in groups}


# --- groups


@settings(max_examples=60)
@given(COHORTS)
def test_groups_are_the_connected_components_of_patient_and_hash(rows):
    table = cohort(rows)
    members = defaultdict(set)
    for row, group in enumerate(patient_groups(table)):
        members[group].add(row)
    assert {frozenset(group) for group in members.values()} == brute_force_groups(table)


# --- cross-validation


def fewest_groups(table):
    labels = [label for group in brute_force_groups(table) for label in {table.scans[row].label for row in group}]
    return min(Counter(labels).values())


@settings(max_examples=150)
@given(COHORTS, st.integers(2, 6), st.integers(0, 10))
def test_laws_of_cross_validation(rows, num_folds, seed):
    table = cohort(rows)
    assume(len(table.classes) >= 2)
    try:
        folding = make_folds(table, num_folds=num_folds, seed=seed)
    except DataError:
        # two classes can always be divided, more may share their patients in a way that forbids it
        assert len(table.classes) > 2 or fewest_groups(table) < num_folds
        return
    assert folding.kind == "cross-validation"
    assert len(folding.folds) == num_folds
    assert [fold.index for fold in folding.folds] == list(range(num_folds))
    assert len(folding.test) == 0
    assert_lawful(table, folding, range(len(table)))


@settings(max_examples=40)
@given(COHORTS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, shuffler):
    table = cohort(rows)
    order = list(range(len(table)))
    shuffler.shuffle(order)
    shuffled = table.subset(order)
    assert held_out_or_message(table) == held_out_or_message(shuffled)


def held_out_or_message(table):
    try:
        folding = make_folds(table, num_folds=2, seed=1)
    except DataError as error:
        return str(error)
    return [values(table, fold.held_out, "sample_id") for fold in folding.folds]


def simple(num_patients=40, scans_each=3, num_classes=2):
    rows = [(f"p{n:02}", "abcd"[n % num_classes], "") for n in range(num_patients) for _ in range(scans_each)]
    return cohort(rows)


def test_defaults_are_five_balanced_folds():
    folding = make_folds(simple(), num_folds=None, seed=0)
    assert [len(fold.held_out) for fold in folding.folds] == [24] * 5
    assert folding.notes == ()


def test_the_seed_decides():
    table = simple()
    folds = {tuple(make_folds(table, num_folds=5, seed=seed).folds[0].held_out) for seed in range(10)}
    assert len(folds) == 10
    assert (
        make_folds(table, num_folds=5, seed=3).folds[2].held_out
        == make_folds(table, num_folds=5, seed=3).folds[2].held_out
    ).all()


def test_more_scans_of_a_patient_do_not_tear_it_apart():
    table = simple(num_patients=10, scans_each=30)
    for fold in make_folds(table, num_folds=5, seed=0).folds:
        assert len(values(table, fold.held_out, "patient_id")) == 2


def test_a_class_with_fewer_patients_than_folds_is_refused_with_what_works():
    rows = [(f"p{n}", "common", "") for n in range(20)] + [(f"r{n}", "rare", "") for n in range(3) for _ in range(9)]
    with pytest.raises(DataError, match=r"5 folds need 5 patients of every class .*; 'rare' has 3. Use --folds 3,"):
        make_folds(cohort(rows), num_folds=5, seed=0)
    assert len(make_folds(cohort(rows), num_folds=3, seed=0).folds) == 3


def test_a_class_with_one_patient_is_refused_for_any_number_of_folds():
    rows = [(f"p{n}", "common", "") for n in range(20)] + [("r", "rare", "")] * 9
    for num_folds in (None, 1, 2, 5):
        with pytest.raises(DataError, match=r"'rare' has 1. Add patients of that class") as caught:
            make_folds(cohort(rows), num_folds=num_folds, seed=0)
        assert "--folds" not in str(caught.value)


def test_identical_scans_make_patients_one():
    rows = [(f"p{n}", "ab"[n % 2], f"h{n // 4 if n < 8 else n}") for n in range(12)]  # two groups of four patients
    with pytest.raises(DataError, match=r"identical scans count as one\); 'a' has 4, 'b' has 4. Use --folds 4"):
        make_folds(cohort(rows), num_folds=5, seed=0)


def test_where_files_are_patients_the_message_says_scans():
    table = table_of([(f"s{n}", f"s{n}", "ab"[n % 2]) for n in range(6)], patients_given=False)
    with pytest.raises(DataError, match="5 folds need 5 scans of every class"):
        make_folds(table, num_folds=5, seed=0)


def test_classes_that_share_their_patients_may_be_impossible():
    triangle = [("p1", "ab"), ("p2", "bc"), ("p3", "ac")]
    rows = [(patient, label, "") for patient, labels in triangle for label in labels]
    with pytest.raises(DataError, match=r"do not share scans of several classes. Add patients"):
        make_folds(cohort(rows), num_folds=2, seed=0)


@pytest.mark.parametrize("num_folds", [0, -3])
def test_less_than_one_fold(num_folds):
    with pytest.raises(UsageError, match=f"--folds {num_folds} is less than 1"):
        make_folds(simple(), num_folds=num_folds, seed=0)


def test_one_class_and_unknown_labels():
    with pytest.raises(DataError, match="Folds need two classes; the data has 1 class"):
        make_folds(simple(num_classes=1), num_folds=5, seed=0)
    with pytest.raises(DataError, match="1 scan without a label: s1"):
        make_folds(table_of([("s0", "p", "a"), ("s1", "q", "z")], classes=("a", "b")), num_folds=2, seed=0)


# --- a single split


@settings(max_examples=60)
@given(COHORTS, st.integers(0, 5))
def test_laws_of_a_single_split(rows, seed):
    table = cohort(rows)
    assume(len(table.classes) >= 2)
    try:
        folding = make_folds(table, num_folds=1, seed=seed)
    except DataError:
        return
    (fold,) = folding.folds
    assert folding.kind == "single-split"
    assert shared(table, fold.train, fold.held_out) == []
    assert sorted([*fold.train, *fold.held_out]) == list(range(len(table)))
    assert values(table, fold.train, "label") == values(table, fold.held_out, "label") == set(table.classes)


def test_a_single_split_holds_out_a_fifth():
    (fold,) = make_folds(simple(num_patients=100), num_folds=1, seed=0).folds
    assert len(fold.held_out) == 60
    assert len(fold.val) == 0


# --- given splits


def split_cohort(splits="train val test", per_split=20, hashes=None):
    rows, given_splits = [], []
    for split in splits.split():
        for n in range(per_split):
            rows.append((f"{split}{n // 2}", "ab"[(n // 2) % 2], (hashes or {}).get((split, n), f"{split}{n}")))
            given_splits.append(split)
    return cohort(rows, given_splits)


def rows_of(table, *splits):
    return [row for row, scan in enumerate(table) if scan.split in splits]


@pytest.mark.parametrize("num_folds", [None, 1])
def test_train_val_test_is_one_model(num_folds):
    table = split_cohort()
    folding = make_folds(table, num_folds=num_folds, seed=0)
    (fold,) = folding.folds
    assert (folding.kind, len(folding.test), folding.notes) == ("given-split", 0, ())
    assert fold.train.tolist() == rows_of(table, "train")
    assert fold.val.tolist() == rows_of(table, "val")
    assert fold.held_out.tolist() == rows_of(table, "test")


@pytest.mark.parametrize("num_folds", [None, 1])
def test_train_val_holds_val_out(num_folds):
    table = split_cohort("train val")
    (fold,) = make_folds(table, num_folds=num_folds, seed=0).folds
    assert fold.held_out.tolist() == rows_of(table, "val")
    assert len(fold.val) == 0


@pytest.mark.parametrize(
    ("num_folds", "expected", "kind"),
    [(None, 5, "cross-validation"), (3, 3, "cross-validation"), (1, 1, "single-split")],
)
def test_train_test_divides_train(num_folds, expected, kind):
    table = split_cohort("train test")
    folding = make_folds(table, num_folds=num_folds, seed=0)
    assert (len(folding.folds), folding.kind) == (expected, kind)
    assert folding.test.tolist() == rows_of(table, "test")
    if expected > 1:
        assert_lawful(table, folding, rows_of(table, "train"))


@pytest.mark.parametrize("splits", ["train val test", "train val"])
def test_folds_merge_train_and_val_and_leave_test_alone(splits):
    table = split_cohort(splits)
    folding = make_folds(table, num_folds=4, seed=0)
    assert folding.kind == "cross-validation"
    assert folding.test.tolist() == rows_of(table, "test")
    assert folding.notes == ("The given train and val splits were merged for cross-validation.",)
    assert_lawful(table, folding, rows_of(table, "train", "val"))


def test_only_train_is_no_split():
    table = split_cohort("train", per_split=40)
    assert_lawful(table, make_folds(table, num_folds=5, seed=0), range(40))


@settings(max_examples=100)
@given(st.data(), st.sampled_from([None, 1, 2]), st.sampled_from(["train val test", "train test", "train val"]))
def test_copies_of_scored_scans_never_train(data, num_folds, splits):
    names = splits.split()
    hashes = {(split, n): f"h{data.draw(st.integers(0, 60))}" for split in names for n in range(20)}
    table = split_cohort(splits, hashes=hashes)
    try:
        folding = make_folds(table, num_folds=num_folds, seed=0)
    except DataError:
        return
    scored_test = rows_of(table, "test")
    learning = np.concatenate([np.concatenate([fold.train, fold.val]) for fold in folding.folds])
    assert not values(table, learning, "content_hash") & values(table, scored_test, "content_hash")
    for fold in folding.folds:
        assert not values(table, fold.train, "content_hash") & values(table, fold.held_out, "content_hash")
        assert not values(table, fold.train, "content_hash") & values(table, fold.val, "content_hash")
    tested = folding.test if len(folding.test) else folding.folds[0].held_out
    if scored_test:
        assert tested.tolist() == scored_test  # never out of test


def test_copies_are_counted():
    hashes = {
        ("test", 0): "x",
        ("train", 0): "x",
        ("train", 5): "x",
        ("val", 3): "x",
        ("val", 4): "y",
        ("train", 6): "y",
    }
    folding = make_folds(split_cohort(hashes=hashes), num_folds=None, seed=0)
    assert folding.notes == (
        "3 training scans identical to scans of the test split: left out of training, kept in test.",
        "1 training scan identical to scans of the val split: left out of training, kept in val.",
    )
    assert [len(rows) for rows in (folding.folds[0].train, folding.folds[0].val, folding.folds[0].held_out)] == [
        17,
        19,
        20,
    ]


def changed(table, row, **fields):
    from dataclasses import replace

    scans = [replace(scan, **fields) if n == row else scan for n, scan in enumerate(table)]
    return replace(table, scans=tuple(scans))


@pytest.mark.parametrize("num_folds", [None, 1, 3])
def test_a_patient_on_two_sides_is_refused(num_folds):
    table = changed(split_cohort(), 5, patient_id="test3")
    with pytest.raises(
        DataError, match=r"1 patient on two sides of the given splits: test3 \(test, train\). Keep each"
    ):
        make_folds(table, num_folds=num_folds, seed=0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed(split_cohort(), 5, split=None), "1 of 60 scans are in no split: s005"),
        (split_cohort("val test"), "no train split, only test and val"),
        (split_cohort("test"), "no train split, only test"),
        (
            changed(changed(split_cohort("train val", per_split=4), 2, label="a"), 3, label="a"),
            "train split has no scan of 'b'",
        ),
    ],
)
def test_given_splits_that_cannot_be_used(table, message):
    with pytest.raises(DataError, match=message):
        make_folds(table, num_folds=None, seed=0)


def test_a_scored_split_without_a_class_is_said():
    table = split_cohort(per_split=4)
    for row in (10, 11):
        table = changed(table, row, label="a")
    assert make_folds(table, num_folds=None, seed=0).notes == ("The given test split has no scan of 'b'.",)


# --- inner split


@settings(max_examples=60)
@given(COHORTS, st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.5]))
def test_laws_of_the_inner_split(rows, seed, fraction):
    table = cohort(rows)
    indices = np.array(sorted(random.Random(seed).sample(range(len(table)), len(table) // 2 + 1)))
    try:
        train, val = inner_split(table, indices, fraction=fraction, seed=seed)
    except DataError:
        assert fewest_groups(table.subset(indices)) < 2 or len(table.classes) > 2
        return
    assert sorted([*train, *val]) == indices.tolist()
    assert shared(table, train, val) == []
    assert values(table, train, "label") == values(table, val, "label") == values(table, indices, "label")


def test_the_inner_split_of_a_class_with_one_patient_is_refused():
    rows = [(f"p{n}", "a", "") for n in range(5)] + [("q", "b", "")]
    with pytest.raises(DataError, match=r"Holding out a part of the training scans needs 2 patients .*'b' has 1"):
        inner_split(cohort(rows), np.arange(6), seed=0)


def test_the_inner_split_keeps_its_fraction():
    train, val = inner_split(simple(num_patients=100), np.arange(300), fraction=0.2, seed=0)
    assert (len(train), len(val)) == (240, 60)


# --- real cohorts


@pytest.mark.real
@pytest.mark.parametrize("num_folds", [5, 10])
def test_real_lesions_no_exam_in_two_folds(lesion_slices, num_folds):
    table = lesion_slices
    folding = make_folds(table, num_folds=num_folds, seed=0)
    assert_lawful(table, folding, range(5043))
    for fold in folding.folds:
        assert not values(table, fold.train, "unit") & values(table, fold.held_out, "unit")
        share = np.mean(table.class_indices[fold.held_out])
        assert share == pytest.approx(np.mean(table.class_indices), abs=0.02)


@pytest.mark.real
def test_real_copies_stay_on_one_side(brain_survey):
    table = brain_survey.table
    by_hash = len({scan.content_hash for scan in table})
    by_look = len({scan.alike or scan.sample_id for scan in table})
    # 25 pixel-identical copies; 23 more are the same picture in another size or tone, or its neighbour in the same head
    assert (by_hash, by_look, len(set(patient_groups(table)))) == (253 - 25, 253 - 48, 253 - 48)
    assert_lawful(table, make_folds(table, num_folds=5, seed=0), range(253))
