from __future__ import annotations

import numpy as np
import pytest

from medres.planning.plan import Augmentation
from medres.preprocessing.draws import draw

OLD = {"flip_axes": (0, 1), "rotation_degrees": 30, "scale": 0.2, "translation": 0.1, "brightness": 0.2,
       "contrast": 0.3, "noise": 0.1}  # fmt: skip
NEW = {"crop": 0.4, "blur": 1.0, "gamma": 0.5, "bias_field": 0.3, "slice_dropout": 0.3}


@pytest.mark.parametrize("dims", [2, 3])
def test_an_old_seed_keeps_its_geometry_and_its_noise(dims: int) -> None:
    draws = draw(Augmentation.from_mapping(OLD | NEW), [3, 77, 2**60], spatial_dims=dims)
    for row, seed in enumerate((3, 77, 2**60)):
        stream = np.random.Generator(np.random.Philox(seed))
        uniform = stream.random(13)
        signed = 2 * uniform - 1
        assert np.array_equal(draws.radians[row], np.deg2rad(30) * signed[: 3 if dims == 3 else 1])
        assert draws.zooms[row] == 1 + 0.2 * signed[3]
        assert np.array_equal(draws.shifts[row], 0.1 * signed[4 : 4 + dims])
        assert np.array_equal(draws.flips[row, :2], uniform[7:9] < 0.5)
        assert (draws.gains[row], draws.brightness[row]) == (1 + 0.3 * signed[10], 0.2 * signed[11])
        assert draws.noise[row] == 0.1 * uniform[12]
        assert draws.noise_seeds[row] == stream.integers(2**32)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_came_later_is_uniform_up_to_the_magnitudes(dims: int) -> None:
    draws = draw(Augmentation.from_mapping(NEW), range(4000), spatial_dims=dims)
    one_sided = {"crop": (1 - draws.windows, 0.4), "blur": (draws.blur, 1.0), "field": (draws.shading, 0.3),
                 "slices": (draws.left_out, 0.3)}  # fmt: skip
    for name, (values, limit) in one_sided.items():
        assert 0 <= values.min() < values.max() <= limit, name
        assert values.mean() == pytest.approx(limit / 2, rel=0.05), name
    both_sided = {"places": (draws.places, 1.0), "shape": (draws.shading_shape, 1.0),
                  "gamma": (np.log(draws.gammas), np.log(1.5))}  # fmt: skip
    for name, (values, limit) in both_sided.items():
        assert np.abs(values).max() <= limit, name
        assert values.mean() == pytest.approx(0, abs=0.05 * limit), name
        assert values.std(axis=0) == pytest.approx(limit / np.sqrt(3), rel=0.05), name
    assert draws.places.shape == (4000, dims)
    assert draws.shading_shape.shape == (4000, 9 if dims == 2 else 19)


def test_numbers_of_different_kinds_are_independent() -> None:
    draws = draw(Augmentation.from_mapping(OLD | NEW), range(4000), spatial_dims=3)
    columns = np.column_stack(
        [draws.radians, draws.zooms, draws.shifts, draws.gains, draws.brightness, draws.noise, draws.windows,
         draws.places, draws.blur, draws.gammas, draws.shading, draws.shading_shape, draws.left_out]
    )  # fmt: skip
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 0.08  # 5 standard deviations


def test_nothing_drawn_is_nothing() -> None:
    draws = draw(Augmentation(), [1, 2], spatial_dims=3)
    assert np.array_equal(draws.windows, [1, 1])
    assert np.array_equal(draws.gammas, [1, 1])
    assert not draws.blur.any()
    assert not draws.shading.any()
    assert not draws.left_out.any()
