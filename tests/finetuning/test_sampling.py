"""The order of an epoch: laws over all label distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.finetuning.feed import augmentation_seeds
from medres.finetuning.sampling import MAX_OVERSAMPLING, epoch_order, sampled_prior

COUNTS = st.lists(st.integers(0, 60), min_size=2, max_size=5).filter(lambda counts: sum(counts) > 0)


def _labels(counts: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (7, 12)])
def test_a_shuffled_epoch_is_the_permutation_it_always_was(seed: int, epoch: int) -> None:
    order = epoch_order(_labels([5, 9]), sampling="shuffled", seed=seed, epoch=epoch)
    np.testing.assert_array_equal(order.positions, np.random.default_rng((seed, epoch)).permutation(14))
    assert not order.repeats.any()


@settings(max_examples=100)
@given(COUNTS, st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_a_balanced_epoch_has_its_length_its_shares_and_even_repeats(counts: list[int], seed: int, epoch: int) -> None:
    labels, total = _labels(counts), sum(counts)
    order = epoch_order(labels, sampling="balanced", seed=seed, epoch=epoch)
    again = epoch_order(labels, sampling="balanced", seed=seed, epoch=epoch)
    np.testing.assert_array_equal(order.positions, again.positions)
    assert len(order.positions) == total
    shown = np.bincount(labels[order.positions], minlength=len(counts))
    assert (np.abs(shown - total * sampled_prior(np.array(counts))) < 1 + 1e-9).all()
    times = np.bincount(order.positions, minlength=total)
    assert times.max() <= MAX_OVERSAMPLING + 1
    for index in range(len(counts)):
        of_class = times[labels == index]
        assert not len(of_class) or of_class.max() - of_class.min() <= 1
    for position in np.unique(order.positions):
        assert order.repeats[order.positions == position].tolist() == list(range(times[position]))


def test_shares_are_exact_in_expectation() -> None:
    counts = np.array([80, 13, 7])
    labels = _labels(counts.tolist())
    epochs = [epoch_order(labels, sampling="balanced", seed=3, epoch=epoch).positions for epoch in range(1, 2001)]
    shown = np.mean([np.bincount(labels[positions]) for positions in epochs], axis=0)
    np.testing.assert_allclose(shown, 100 / 3, atol=0.05)
    each = np.bincount(np.concatenate(epochs)) / 2000  # every scan of a class alike
    np.testing.assert_allclose(each[labels == 0], 100 / 3 / 80, atol=0.05)


@settings(max_examples=200)
@given(COUNTS)
def test_the_sampled_prior_is_even_but_for_what_would_be_oversampled(counts: list[int]) -> None:
    numbers = np.array(counts)
    shares, most = sampled_prior(numbers), MAX_OVERSAMPLING * numbers / numbers.sum()
    assert shares.sum() == pytest.approx(1.0)
    assert (shares <= most + 1e-12).all()
    assert not shares[numbers == 0].any()
    free = shares < most - 1e-12
    if free.any():
        np.testing.assert_allclose(shares[free], shares.max())


def test_epochs_and_seeds_differ() -> None:
    labels = _labels([30, 10])
    orders = {
        tuple(epoch_order(labels, sampling="balanced", seed=seed, epoch=epoch).positions)
        for seed in (0, 1)
        for epoch in (1, 2, 3)
    }
    assert len(orders) == 6


def test_a_scan_that_comes_again_is_augmented_anew_and_the_first_time_as_ever() -> None:
    rows, repeats = np.array([4, 4, 4, 9]), np.array([0, 1, 2, 0])
    seeds = augmentation_seeds(rows, seed=1, epoch=2, repeats=repeats)
    assert len(set(seeds)) == 4
    assert [seeds[0], seeds[3]] == augmentation_seeds(rows[[0, 3]], seed=1, epoch=2)
