from __future__ import annotations

import numpy as np
import pytest
import torch

from medres.preprocessing.shading import log_fields, num_coefficients, shade

CPU = torch.device("cpu")
SHAPES = [(12, 15), (9, 12, 15), (1, 7), (5, 1, 5)]


def coefficients(dims: int, number: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, size=(number, num_coefficients(dims)))


def test_the_field_is_that_of_monai() -> None:
    from monai.transforms import RandBiasField

    given = coefficients(3, number=1)
    ours = log_fields((9, 12, 15), given, largest=np.ones(1), device=CPU)[0].numpy()
    theirs = RandBiasField()._generate_random_field((9, 12, 15), 3, [0.0, *given[0]])
    np.testing.assert_allclose(ours, theirs / np.abs(theirs).max(), atol=1e-5)


def test_the_field_of_an_image_is_the_sum_of_its_polynomials() -> None:
    given, table = coefficients(2, number=1), np.zeros((4, 4))
    orders = [(i, j) for i in range(4) for j in range(4) if 1 <= i + j <= 3]
    for value, order in zip(given[0], orders, strict=True):
        table[order] = value
    expected = np.polynomial.legendre.leggrid2d(np.linspace(-1, 1, 12), np.linspace(-1, 1, 15), table)
    ours = log_fields((12, 15), given, largest=np.array([0.3]), device=CPU)[0].numpy()
    np.testing.assert_allclose(ours, 0.3 * expected / np.abs(expected).max(), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_value_is_that_which_was_asked_for(shape: tuple[int, ...]) -> None:
    fields = log_fields(shape, coefficients(len(shape)), largest=np.array([0.0, 0.2, 1.0]), device=CPU)
    assert fields.abs().flatten(1).amax(dim=1).tolist() == pytest.approx([0, 0.2, 1], abs=1e-6)
    nothing = log_fields(shape, np.zeros((1, num_coefficients(len(shape)))), largest=np.ones(1), device=CPU)
    assert not nothing.any()


def test_the_field_is_smooth() -> None:
    fields = log_fields((64, 64), coefficients(2, number=50), largest=np.ones(50), device=CPU)
    steps = torch.diff(fields, dim=1).abs().flatten(1).amax(dim=1)
    assert steps.max() < 0.35  # the steepest polynomial rises by 6 a unit at its end, 2 / 63 from voxel to voxel


def test_air_stays_and_signal_is_multiplied_alike_in_all_channels() -> None:
    signal = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    signal[:, :, 0] = 0  # air
    fields = log_fields((9, 12), coefficients(2, number=2), largest=np.array([0.2, 0.4]), device=CPU)
    centre, spread = torch.tensor([0.3, 0.5, 0.1])[:, None, None], torch.tensor([0.2, 0.1, 2.0])[:, None, None]
    shaded = shade((signal - centre) / spread, fields)  # standardised, as a scan is
    torch.testing.assert_close(shaded * spread + centre, signal * fields.exp()[:, None], atol=1e-5, rtol=0)
    assert torch.allclose(shaded[:, :, 0], (0 - centre / spread).expand(3, 1, 12)[:, 0], atol=1e-6)


def test_all_slices_are_shaded_alike() -> None:
    stack = torch.rand(1, 2, 5, 9, 12)
    fields = log_fields((9, 12), coefficients(2, number=1), largest=np.array([0.5]), device=CPU)
    stack[..., 0, 0] = 0
    expected = stack * fields[0].exp()
    torch.testing.assert_close(shade(stack.clone(), fields), expected)
