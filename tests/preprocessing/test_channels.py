from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medres.errors import DataError
from medres.preprocessing.channels import luminance, repeat_channels, select_channels, stored_channels
from tests.preprocessing.examples import INTENSITIES, make_image, make_plan


def pixels(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(channels, 5, 6)).astype(np.uint8)


def test_luminance_agrees_with_pil() -> None:
    colors = pixels(3)
    reference = np.asarray(Image.fromarray(colors.transpose(1, 2, 0)).convert("L"))
    assert np.abs(luminance(colors)[0] - reference).max() <= 1  # PIL rounds


@pytest.mark.parametrize(
    ("given", "color", "wanted", "kept"),
    [(1, False, 1, 1), (3, True, 3, 3), (3, True, 1, 1), (1, False, 3, 1), (2, False, 2, 2), (3, False, 3, 3)],
)
def test_channels_that_fit(given: int, color: bool, wanted: int, kept: int) -> None:
    plan = make_plan(spatial_dims=2, in_channels=wanted)
    voxels = select_channels(make_image(pixels(given), color=color), plan)
    assert len(voxels) == kept
    assert len(repeat_channels(voxels, stored_channels(plan))) == wanted


@pytest.mark.parametrize(
    ("scheme", "given", "color", "wanted", "message"),
    [
        ("scaled", 2, False, 1, "has 2 channels, the plan reads 1"),
        ("scaled", 1, False, 2, "has 1 channel, the plan reads 2"),
        ("scaled", 3, False, 1, "has 3 channels, the plan reads 1"),
        ("robust_zscore", 4, False, 3, "has 4 channels, the plan reads 3"),
        ("hu_windows", 3, True, 2, r"has 3 colour channels, the plan reads 1 \(hu_windows\)"),
        ("hu_windows", 2, False, 2, r"has 2 channels, the plan reads 1 \(hu_windows\)"),
    ],
)
def test_channels_that_do_not_fit_are_refused(scheme: str, given: int, color: bool, wanted: int, message: str) -> None:
    plan = make_plan(scheme, spatial_dims=2, in_channels=wanted)
    with pytest.raises(DataError, match=message):
        select_channels(make_image(pixels(given), color=color), plan)


def test_every_scheme_says_what_it_stores() -> None:
    assert {scheme: stored_channels(make_plan(scheme)) for scheme in INTENSITIES} == {
        "hu_windows": 1,
        "robust_zscore": 1,
        "scaled": 1,
    }
