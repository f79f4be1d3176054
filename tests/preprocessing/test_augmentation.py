from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
import torch

from medres.planning.plan import Augmentation
from medres.preprocessing.augmentation import Augmenter
from medres.preprocessing.blurring import gaussian_blur
from medres.preprocessing.draws import Draws
from medres.preprocessing.shading import log_fields
from medres.preprocessing.warping import rotation_matrices, sampling_matrices, warp

STILL = {
    "rotation_degrees": 0, "scale": 0, "translation": 0, "brightness": 0, "contrast": 0, "noise": 0,
}  # fmt: skip
SHAPES = [(12, 15), (9, 12, 15)]
SEEDS = [3, 2**40, 0, 71, 3]


def augmenter(shape: tuple[int, ...], **magnitudes: object) -> Augmenter:
    return Augmenter(Augmentation.from_mapping(STILL | magnitudes), spatial_dims=len(shape))


#: Every change at once, strongly.
EVERYTHING = {"crop": 0.3, "blur": 1.5, "gamma": 0.5, "bias_field": 0.4}
#: Every change by itself.
EACH: dict[str, dict[str, object]] = {
    "rotation": {"rotation_degrees": 25}, "scale": {"scale": 0.3}, "translation": {"translation": 0.2},
    "flip": {"flip_axes": (0, 1)}, "brightness": {"brightness": 0.5}, "contrast": {"contrast": 0.5},
    "noise": {"noise": 0.5}, "crop": {"crop": 0.4}, "blur": {"blur": 2.0}, "gamma": {"gamma": 1.0},
    "bias_field": {"bias_field": 0.5}, "everything": {"flip_axes": (0,), **EVERYTHING},
}  # fmt: skip


def full(shape: tuple[int, ...]) -> Augmenter:
    return Augmenter(Augmentation(flip_axes=(0, len(shape) - 1), **EVERYTHING), spatial_dims=len(shape))


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


@pytest.mark.parametrize("change", EACH)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_change_depends_on_the_seed_alone(shape: tuple[int, ...], change: str) -> None:
    changer, batch = augmenter(shape, **EACH[change]), batch_of(shape)
    before = batch.clone()
    batch[4] = batch[0]
    together = changer(batch, seeds=SEEDS)
    assert torch.equal(together, changer(batch, seeds=SEEDS))
    assert (together.shape, together.dtype) == (batch.shape, batch.dtype)
    assert together.is_contiguous()
    assert torch.equal(batch[:4], before[:4])
    assert not torch.equal(together, batch)
    backwards = changer(batch.flip(0).contiguous(), seeds=SEEDS[::-1]).flip(0)
    torch.testing.assert_close(backwards, together, atol=2e-6, rtol=1e-6)
    for n, seed in enumerate(SEEDS):
        torch.testing.assert_close(changer(batch[n : n + 1], seeds=[seed])[0], together[n], atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("change", EACH)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 9), (1, 1, 1)])
@pytest.mark.parametrize("value", [0.0, 2.0, -5.0, 65504.0, -1e-30])
def test_a_flat_sample_stays_as_it_is(shape: tuple[int, ...], change: str, value: float) -> None:
    changed = augmenter(shape, **EACH[change])(torch.full((2, 2, *shape), value), seeds=[5, 6])
    assert torch.allclose(changed, torch.full_like(changed, value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", EACH)
@pytest.mark.parametrize("shape", SHAPES)
def test_extreme_values_stay_finite(shape: tuple[int, ...], change: str) -> None:
    batch = batch_of(shape, number=2)
    batch[0] *= 65504
    batch[1].view(-1)[::7] = -1e6
    assert torch.isfinite(augmenter(shape, **EACH[change])(batch, seeds=[5, 6])).all()


@pytest.mark.parametrize("change", [name for name in EACH if name != "noise"])
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_that_show_the_same_still_do(shape: tuple[int, ...], change: str) -> None:
    """All windows and sequences of a scan move, blur and are shaded alike; only noise is each one's own."""
    batch = batch_of(shape, channels=1).expand(-1, 3, *shape).contiguous()
    changed = augmenter(shape, **EACH[change])(batch, seeds=SEEDS)
    torch.testing.assert_close(changed[:, 1:], changed[:, :1].expand(-1, 2, *shape), atol=1e-5, rtol=0)


# --- crop


def test_a_crop_shows_a_window_that_lies_within_the_scan() -> None:
    from torchvision.transforms.v2.functional import resized_crop

    batch, cropper = batch_of((40, 60), number=30), augmenter((40, 60), crop=0.5)
    draws, changed = cropper.draw(range(30)), cropper(batch, seeds=range(30))
    assert draws.windows.min() < 0.6
    for n in range(30):
        # the window in whole voxels cannot be asked of torchvision: compare the place of its edges
        side = draws.windows[n] * np.array([40, 60])
        first = (1 - draws.windows[n]) * (1 + draws.places[n]) / 2 * np.array([40, 60])
        assert (first >= 0).all()
        assert (first + side <= np.array([40, 60]) + 1e-9).all()
    half = torch.arange(40.0)[:, None] + 100 * torch.arange(60.0)
    cropper.draw = lambda seeds: _with(draws, seeds, windows=0.5, places=(-1.0, 1.0))  # type: ignore[method-assign]
    ours = cropper(half[None, None], seeds=[0])
    theirs = resized_crop(half[None], top=0, left=30, height=20, width=30, size=[40, 60], antialias=False)
    # torchvision repeats the border of the window, ours sees what lies beyond it
    torch.testing.assert_close(ours[0, 0, 1:-1, 1:-1], theirs[0, 1:-1, 1:-1], atol=1e-3, rtol=0)
    assert changed.shape == batch.shape


def _with(draws: Draws, seeds: Sequence[int], *, windows: float, places: tuple[float, ...]) -> Draws:
    one = {field.name: getattr(draws, field.name)[: len(seeds)] for field in fields(draws)}
    return Draws(**one | {"windows": np.array([windows]), "places": np.array([places])})


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_invents_nothing(shape: tuple[int, ...]) -> None:
    """Between 0 at the first voxel and 1 at the last: a window that reached beyond would repeat an end."""
    ramp = torch.linspace(0, 1, shape[0]).reshape(-1, *(1,) * (len(shape) - 1)).expand(shape)
    cropper = augmenter(shape, crop=0.5)
    changed = cropper(ramp.expand(20, 1, *shape).contiguous(), seeds=range(20))
    steps = torch.diff(changed, dim=2)[:, 0, 1:-1].flatten(1)
    wanted = torch.tensor(cropper.draw(range(20)).windows, dtype=torch.float32)[:, None] / (shape[0] - 1)
    torch.testing.assert_close(steps, wanted.expand_as(steps), atol=1e-5, rtol=0)


# --- gamma


@pytest.mark.parametrize("shape", SHAPES)
def test_gamma_agrees_with_monai_channel_by_channel(shape: tuple[int, ...]) -> None:
    from monai.transforms import AdjustContrast

    bender, batch = augmenter(shape, gamma=1.0), batch_of(shape)
    draws, changed = bender.draw(SEEDS), bender(batch, seeds=SEEDS)
    for n in range(len(SEEDS)):
        for channel in range(batch.shape[1]):
            theirs = AdjustContrast(gamma=float(draws.gammas[n]))(batch[n, channel][None])[0]
            torch.testing.assert_close(changed[n, channel], torch.as_tensor(theirs), atol=1e-5, rtol=0)


def test_gamma_keeps_order_ends_and_statistics_of_the_weights() -> None:
    bender, batch = augmenter((12, 15), gamma=3.0), batch_of((12, 15), channels=1)
    changed = bender(batch, seeds=SEEDS)
    for before, after in zip(batch.flatten(1), changed.flatten(1), strict=True):
        assert (torch.diff(after[before.argsort()]) >= 0).all()
        assert after.min().item() == pytest.approx(before.min().item(), abs=1e-5)
        assert after.max().item() == pytest.approx(before.max().item(), abs=1e-5)
    scaled = bender(batch * 3 - 20, seeds=SEEDS)  # before or after the statistics of the weights: the same
    torch.testing.assert_close(scaled, changed * 3 - 20, atol=1e-4, rtol=0)


# --- blur and bias field


def test_a_blur_is_as_wide_in_mm_along_each_axis() -> None:
    blurrer = Augmenter(Augmentation.from_mapping(STILL | {"blur": 2.0}), spatial_dims=3, spacing_mm=(4.0, 1.0, 2.0))
    batch = batch_of((9, 12, 15))
    sigmas = blurrer.draw(SEEDS).blur[:, None] * np.array([[0.25, 1.0, 0.5]])
    assert torch.equal(blurrer(batch, seeds=SEEDS), gaussian_blur(batch, sigmas))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_field_is_that_which_was_drawn(shape: tuple[int, ...]) -> None:
    shader, batch = augmenter(shape, bias_field=0.5), batch_of(shape)
    draws = shader.draw(SEEDS)
    field = log_fields(shape, draws.shading_shape, largest=draws.shading, device=torch.device("cpu")).exp()
    darkest = batch.flatten(2).amin(dim=2).reshape(len(SEEDS), 2, *(1,) * len(shape))
    torch.testing.assert_close(shader(batch, seeds=SEEDS), darkest + (batch - darkest) * field[:, None])


def test_gradients_are_not_recorded() -> None:
    batch = batch_of((8, 8)).requires_grad_()
    assert not full((8, 8))(batch, seeds=SEEDS).requires_grad


@pytest.mark.parametrize(("shape", "seeds"), [((5, 1, 8, 8), [1, 2]), ((2, 1, 8, 8, 8), [1, 2])])
def test_seeds_and_axes_must_fit_the_batch(shape: tuple[int, ...], seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="seeds for a 2D batch"):
        full((8, 8))(torch.zeros(shape), seeds=seeds)
