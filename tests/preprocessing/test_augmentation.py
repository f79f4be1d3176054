from __future__ import annotations

import numpy as np
import pytest
import torch

from medres.planning.plan import Augmentation
from medres.preprocessing.augmentation import Augmenter
from medres.preprocessing.warping import rotation_matrices, sampling_matrices, warp

STILL = {
    "rotation_degrees": 0, "scale": 0, "translation": 0, "brightness": 0, "contrast": 0, "noise": 0,
}  # fmt: skip
SHAPES = [(12, 15), (9, 12, 15)]
SEEDS = [3, 2**40, 0, 71, 3]


def augmenter(shape: tuple[int, ...], **magnitudes: object) -> Augmenter:
    return Augmenter(Augmentation.from_mapping(STILL | magnitudes), spatial_dims=len(shape))


def full(shape: tuple[int, ...]) -> Augmenter:
    return Augmenter(Augmentation(flip_axes=(0, len(shape) - 1)), spatial_dims=len(shape))


def batch_of(shape: tuple[int, ...], number: int = len(SEEDS), channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, channels, *shape, generator=generator) * 0.7 + 0.4


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_drawn_changes_nothing_and_returns_a_copy(shape: tuple[int, ...]) -> None:
    batch = batch_of(shape)
    changed = augmenter(shape)(batch, seeds=SEEDS)
    assert torch.equal(changed, batch)
    assert changed.data_ptr() != batch.data_ptr()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_given_batch_stays_as_it_is(shape: tuple[int, ...]) -> None:
    batch = batch_of(shape)
    before = batch.clone()
    assert not torch.equal(full(shape)(batch, seeds=SEEDS), before)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_depends_on_its_seed_alone(shape: tuple[int, ...]) -> None:
    batch = batch_of(shape)
    batch[4] = batch[0]
    together = full(shape)(batch, seeds=SEEDS)
    assert torch.equal(together, full(shape)(batch, seeds=SEEDS))
    assert torch.equal(together[4], together[0])  # the same seed
    for n, seed in enumerate(SEEDS):
        alone = full(shape)(batch[n : n + 1], seeds=[seed])
        assert torch.allclose(alone[0], together[n], atol=1e-6)
        other = full(shape)(batch[n : n + 1], seeds=[seed + 1])
        assert not torch.allclose(other, alone, atol=1e-2)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_layout_does_not_matter(layout: torch.memory_format) -> None:
    batch = batch_of((12, 15), channels=3)
    changed = full((12, 15))(batch.contiguous(memory_format=layout), seeds=SEEDS)
    assert torch.allclose(changed, full((12, 15))(batch, seeds=SEEDS), atol=1e-6)
    assert changed.is_contiguous()


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_alone_are_exact(shape: tuple[int, ...]) -> None:
    mirror = augmenter(shape, flip_axes=(0, 1))
    batch = batch_of(shape, number=40)
    changed = mirror(batch, seeds=range(40))
    flips = mirror.draw(range(40)).flips
    for n in range(40):
        axes = [int(axis) + 1 for axis in np.flatnonzero(flips[n])]
        assert torch.equal(changed[n], batch[n].flip(axes))
    assert 8 < flips[:, 0].sum() < 32
    assert 8 < flips[:, 1].sum() < 32
    assert flips[:, 2:].sum() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_movements_are_those_that_were_drawn(shape: tuple[int, ...]) -> None:
    mover = Augmenter(
        Augmentation.from_mapping(STILL | {"rotation_degrees": 20, "scale": 0.2, "translation": 0.1}),
        spatial_dims=len(shape),
        spacing_mm=(2.0, 1.0, 0.5)[: len(shape)],
    )
    draws = mover.draw(SEEDS)
    extent = [size * step for size, step in zip(shape, (2.0, 1.0, 0.5), strict=False)]
    matrices, offsets = sampling_matrices(
        rotation_matrices(draws.radians), zooms=draws.zooms, flips=draws.flips, shifts=draws.shifts, extent=extent
    )
    batch = batch_of(shape)
    assert torch.equal(mover(batch, seeds=SEEDS), warp(batch, matrices, offsets))


@pytest.mark.parametrize("shape", SHAPES)
def test_intensities_agree_with_a_slow_reference(shape: tuple[int, ...]) -> None:
    changer = augmenter(shape, contrast=0.3, brightness=0.4)
    batch = batch_of(shape)
    draws = changer.draw(SEEDS)
    changed = changer(batch, seeds=SEEDS).double().numpy()
    for n, sample in enumerate(batch.double().numpy()):
        mean, std = sample.mean(), sample.std()
        expected = mean + draws.gains[n] * (sample - mean) + draws.brightness[n] * std
        assert np.allclose(changed[n], expected, atol=1e-5)


def test_noise_is_normal_and_of_the_drawn_strength() -> None:
    shape = (64, 64)
    noisy = augmenter(shape, noise=0.5)
    batch = batch_of(shape, channels=1)
    draws = noisy.draw(SEEDS)
    added = (noisy(batch, seeds=SEEDS) - batch).numpy()
    for n in range(len(SEEDS)):
        strength = draws.noise[n] * batch[n].std().item()
        assert added[n].mean() == pytest.approx(0, abs=5 * strength / 64)
        assert added[n].std() == pytest.approx(strength, rel=0.05)
        assert np.mean(np.abs(added[n]) < strength) == pytest.approx(0.683, abs=0.03)
    assert np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1] == pytest.approx(0, abs=0.1)


def test_what_is_drawn_is_uniform_up_to_the_magnitudes() -> None:
    most = Augmentation(flip_axes=(2,))
    draws = Augmenter(most, spatial_dims=3).draw(range(4000))
    signed = {
        "radians": (draws.radians, np.deg2rad(most.rotation_degrees)),
        "zooms": (draws.zooms - 1, most.scale),
        "shifts": (draws.shifts, most.translation),
        "gains": (draws.gains - 1, most.contrast),
        "brightness": (draws.brightness, most.brightness),
    }
    for name, (values, limit) in signed.items():
        assert np.abs(values).max() <= limit, name
        assert values.std(axis=0) == pytest.approx(limit / np.sqrt(3), rel=0.05), name
    assert draws.radians.shape == draws.shifts.shape == (4000, 3)
    assert 0 <= draws.noise.min() < draws.noise.max() <= most.noise
    assert draws.flips.mean(axis=0) == pytest.approx([0, 0, 0.5], abs=0.03)
    assert len(np.unique(draws.noise_seeds)) > 3990


def test_a_flat_sample_stays_finite() -> None:
    changed = full((8, 8))(torch.full((1, 1, 8, 8), 2.0), seeds=[5])
    assert torch.allclose(changed, torch.full_like(changed, 2.0), atol=1e-5)


def test_gradients_are_not_recorded() -> None:
    batch = batch_of((8, 8)).requires_grad_()
    assert not full((8, 8))(batch, seeds=SEEDS).requires_grad


@pytest.mark.parametrize(("shape", "seeds"), [((5, 1, 8, 8), [1, 2]), ((2, 1, 8, 8, 8), [1, 2])])
def test_seeds_and_axes_must_fit_the_batch(shape: tuple[int, ...], seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="seeds for a 2D batch"):
        full((8, 8))(torch.zeros(shape), seeds=seeds)
