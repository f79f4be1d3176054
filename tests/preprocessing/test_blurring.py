from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medres.preprocessing.blurring import gaussian_blur

SHAPES = [(12, 15), (9, 12, 15), (1, 30), (2, 1, 5)]


def noise(shape: tuple[int, ...], number: int = 3, channels: int = 2) -> torch.Tensor:
    return torch.randn(number, channels, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scipy_each_sample_and_axis_with_its_own_width(shape: tuple[int, ...]) -> None:
    batch = noise(shape)
    sigmas = np.random.default_rng(0).uniform(0.2, 5, size=(3, len(shape)))
    ours = gaussian_blur(batch, sigmas).numpy()
    for n in range(3):
        for channel in range(2):
            # 20 taps on each side, as ours
            expected = ndimage.gaussian_filter(batch[n, channel].double().numpy(), sigmas[n], mode="nearest", radius=20)
            np.testing.assert_allclose(ours[n, channel], expected, atol=2e-6)


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.5])
def test_agrees_with_monai_inside(sigma: float) -> None:
    from monai.transforms import GaussianSmooth

    batch = noise((40, 40, 40), number=1, channels=1)
    ours = gaussian_blur(batch, np.full((1, 3), sigma))[0]
    theirs = GaussianSmooth(sigma=sigma, approx="sampled")(batch[0])
    # MONAI pads with zeros, and its sampled kernel is not normalised
    kernel_sum = float(GaussianSmooth(sigma=sigma, approx="sampled")(torch.ones_like(batch[0]))[0, 20, 20, 20])
    inside = (slice(None), *(slice(10, -10),) * 3)
    torch.testing.assert_close(ours[inside], torch.as_tensor(theirs)[inside] / kernel_sum, atol=5e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_width_is_the_identity_and_flat_stays_flat(shape: tuple[int, ...]) -> None:
    batch = noise(shape)
    assert torch.equal(gaussian_blur(batch, np.zeros((3, len(shape)))), batch)
    flat = torch.full((1, 1, *shape), -3.7)
    assert torch.allclose(gaussian_blur(flat, np.full((1, len(shape)), 4.0)), flat, atol=1e-5)


def test_slices_are_blurred_in_their_plane() -> None:
    stack = noise((4, 12, 15), number=1)
    sigmas = np.array([[1.2, 0.6]])
    ours = gaussian_blur(stack, sigmas)
    for index in range(4):
        torch.testing.assert_close(ours[:, :, index], gaussian_blur(stack[:, :, index].contiguous(), sigmas))


def test_a_blur_never_leaves_the_range_of_its_values() -> None:
    batch = noise((9, 12, 15))
    ours = gaussian_blur(batch, np.full((3, 3), 2.0))
    assert batch.min() <= ours.min() < ours.max() <= batch.max()
    assert (ours.std() < 0.3 * batch.std()).all()


@pytest.mark.parametrize("sigma", [0.0, 1e-3, 0.3, 5.0])
def test_no_weight_underflows(sigma: float) -> None:
    with np.errstate(all="raise"):
        blurred = gaussian_blur(torch.ones(1, 1, 7), np.array([[sigma]]))
    assert torch.allclose(blurred, torch.ones(1, 1, 7))
