import base64
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.data import near_duplicates
from medres.data.near_duplicates import _Comparison, _unit_vectors, find_near_duplicates
from medres.data.perceptual import NUM_FREQUENCIES
from tests.data.copies import COPIES, looks
from tests.data.test_perceptual import picture


def text_of(levels):
    return f"{levels.ndim}:{base64.b64encode(np.asarray(levels, dtype=np.int8).tobytes()).decode().rstrip('=')}"


def random_levels(number, dims, *, seed=0):
    return np.random.default_rng(seed).integers(-90, 91, (number, *(NUM_FREQUENCIES[dims],) * dims))


def turned_levels(levels):
    """Yield the frequencies of every flipped and rotated copy."""
    for axes in itertools.permutations(range(levels.ndim)):
        exchanged = levels.transpose(axes)
        for flips in itertools.product((False, True), repeat=levels.ndim):
            copy = exchanged.copy()
            for axis, flip in enumerate(flips):
                if flip:
                    copy[(slice(None),) * axis + (slice(1, None, 2),)] *= -1
            yield copy


def members(groups):
    return [group.members for group in groups]


# --- the comparison


@pytest.mark.parametrize(("dims", "number"), [(2, 8), (3, 48)])
def test_the_best_product_is_that_of_all_turns(dims, number):
    levels = random_levels(7, dims)
    vectors = _unit_vectors([text_of(one) for one in levels])
    comparison = _Comparison(dims, vectors.shape[1])
    turns = [_unit_vectors([text_of(copy) for copy in turned_levels(one)]) for one in levels]
    assert {len(copies) for copies in turns} == {number}
    expected = np.array([[max(copies @ vector) for copies in turns] for vector in vectors])
    assert comparison.best(vectors, vectors) == pytest.approx(expected, abs=1e-5)
    bounds = comparison.invariant(vectors)
    assert (bounds @ bounds.T >= expected - 1e-5).all()
    assert comparison.invariant(turns[0]) == pytest.approx(np.repeat(bounds[:1], number, axis=0), abs=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_turn_is_found_and_nothing_else(dims):
    levels = random_levels(30, dims)
    hashes = {f"s{n:02}": text_of(one) for n, one in enumerate(levels)}
    for index, copy in enumerate(turned_levels(levels[3])):
        (group,) = find_near_duplicates({**hashes, "t": text_of(copy)})
        assert (group.members, group.turned) == (("s03", "t"), index > 0)
        assert group.similarity == pytest.approx(1, abs=1e-5)


# --- groups


@settings(max_examples=20)
@given(st.lists(st.integers(0, 30), min_size=25, max_size=60), st.integers(16, 60), st.randoms(use_true_random=False))
def test_groups_are_those_of_the_pictures_for_any_order_and_any_tiles(pictures, tile, shuffler):
    # 80 others, so that no picture is in a fifth of the scans
    levels = random_levels(31 + 80, 2)
    pictures = [*pictures, *range(31, 111)]
    hashes = {f"s{n:03}": text_of(levels[shown]) for n, shown in enumerate(pictures)}
    expected = sorted(
        tuple(f"s{n:03}" for n, shown in enumerate(pictures) if shown == one)
        for one in set(pictures)
        if pictures.count(one) > 1
    )
    if any(len(group) > 12 for group in expected):
        return
    items = list(hashes.items())
    shuffler.shuffle(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_TILE", tile)
        assert members(find_near_duplicates(dict(items))) == expected


def test_a_fifth_of_the_scans_may_be_copies_of_one():
    levels = random_levels(80, 3)
    hashes = {f"s{n:03}": text_of(levels[max(n - 20, 0)]) for n in range(100)}
    ((first, *others),) = members(find_near_duplicates(hashes))
    assert (first, len(others)) == ("s000", 20)


@pytest.mark.parametrize("dims", [2, 3])
def test_scans_that_are_all_alike_are_no_copies_but_a_copy_among_them_is(dims):
    base, noise = random_levels(1, dims)[0], random_levels(60, dims, seed=1)
    alike = {f"s{n:02}": text_of((base * 0.8 + one * 0.2).round()) for n, one in enumerate(noise)}
    vectors = _unit_vectors(list(alike.values()))
    assert np.median(vectors @ vectors.T) > 0.93  # above what two different scans would need
    assert find_near_duplicates(alike) == ()
    flipped = next(copy for n, copy in enumerate(turned_levels((base * 0.8 + noise[7] * 0.2).round())) if n == 1)
    assert members(find_near_duplicates({**alike, "t": text_of(flipped)})) == [("s07", "t")]


def test_scans_of_one_patient_are_not_compared():
    levels = random_levels(30, 2)
    hashes = {f"s{n:02}": text_of(levels[n // 2]) for n in range(60)}
    assert len(find_near_duplicates(hashes)) == 30
    assert find_near_duplicates(hashes, patients={name: f"p{int(name[1:]) // 2}" for name in hashes}) == ()
    # a third scan of another patient brings all three together
    patients = {**{name: f"p{int(name[1:]) // 2}" for name in hashes}, "t": "other"}
    assert members(find_near_duplicates({**hashes, "t": hashes["s04"]}, patients=patients)) == [("s04", "s05", "t")]


def test_empty_hashes_images_and_volumes_are_not_alike():
    assert find_near_duplicates({}) == ()
    assert find_near_duplicates({"a": "", "b": ""}) == ()
    assert find_near_duplicates({"a": text_of(random_levels(1, 2)[0]), "b": text_of(random_levels(1, 3)[0])}) == ()


@pytest.mark.parametrize("number", range(2, 12))
def test_small_data_sets(number):
    levels = random_levels(number, 2)
    hashes = {f"s{n}": text_of(one) for n, one in enumerate(levels)}
    assert find_near_duplicates(hashes) == ()
    assert members(find_near_duplicates({**hashes, "t": hashes["s1"]})) == [("s1", "t")]


# --- pictures


@pytest.mark.parametrize("shape", [(96, 80), (40, 44, 36)])
@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_are_found_and_nothing_else(shape, kind):
    voxels = {f"s{n:02}": picture(shape, seed=n) for n in range(PICTURES)}
    hashes = _hashes_of(shape)
    planted = random.Random(kind).sample(sorted(hashes), 2)
    copies = {f"t{name}": looks(COPIES[kind](voxels[name])) for name in planted}
    assert members(find_near_duplicates({**hashes, **copies})) == [(name, f"t{name}") for name in sorted(planted)]


PICTURES = 24
_KNOWN = {}


def _hashes_of(shape):
    if shape not in _KNOWN:
        _KNOWN[shape] = {f"s{n:02}": looks(picture(shape, seed=n)) for n in range(PICTURES)}
    return _KNOWN[shape]


# --- real scans


@pytest.mark.real
def test_real_copies_are_found(brain_survey):
    table = brain_survey.table
    groups = {scan.sample_id: scan.alike for scan in table}
    identical = [
        (one.sample_id, other.sample_id)
        for one, other in itertools.combinations(table, 2)
        if one.content_hash == other.content_hash
    ]
    assert len(identical) >= 25
    assert all(groups[one] and groups[one] == groups[other] for one, other in identical)
    # 85 scans in 37 groups, every one of them looked at: the same picture, or two neighbouring slices of one head
    assert (sum(map(bool, groups.values())), len({*groups.values()} - {""})) == (85, 37)
