"""A bright corner that lies to the patient's right, front and head is drawn there, however the plan turns volumes."""

from __future__ import annotations

import io
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medres.planning.plan import Plan
from medres.reporting.input_pictures import MOST_SLICES, channel_names, shown_as, shown_slices

CODES = ["".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)]


def plan_of(shape: tuple[int, ...], **changes: Any) -> Plan:
    given = {"spatial_dims": len(shape), "modality": "other", "shape": shape, "in_channels": 1, "batch_size": 1,
             "intensity": {"scheme": "scaled", "mean": (0.4,), "std": (0.2,)}, "augmentation": {}}  # fmt: skip
    return Plan.from_mapping(given | changes)


def drawn(plan: Plan, scan: np.ndarray, **more: Any) -> np.ndarray:
    """Return grey levels, -1 where nothing is drawn."""
    picture = shown_as(plan, scan.astype(np.float32)).picture(scan.astype(np.float32), **more)
    pixels = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    return np.where(pixels[..., 1] == 255, pixels[..., 0], -1)


def standardised(unit: np.ndarray) -> np.ndarray:
    return (unit - 0.4) / 0.2


def corner(code: str, size: int = 20) -> np.ndarray:
    """A cube that is bright towards the right, the front and the head; axes grow as the code says."""
    volume = np.zeros((size,) * 3)
    half = size // 2
    volume[tuple(slice(half - 2, None) if letter in "RAS" else slice(None, half + 2) for letter in code)] = 1
    return standardised(volume)[None]


@pytest.mark.parametrize("code", CODES)
def test_planes_are_held_as_a_radiologist_does(code: str) -> None:
    picture = drawn(plan_of((20, 20, 20), orientation=code), corner(code))
    assert picture.shape == (150, 3 * 150 + 2 * 3)
    names = shown_as(plan_of((20, 20, 20), orientation=code), corner(code).astype(np.float32)).columns.split(", ")
    assert sorted(names) == ["axial", "coronal", "sagittal"]
    for index, name in enumerate(names):
        plane = picture[:, index * 153 : index * 153 + 150]
        left, right = (plane[:, 15], plane[:, 135])
        assert plane[15, 15] == 255, name  # front or head on top; right, or front, on the left
        assert right.max() == 0, name
        assert left[135] == 0, name


def test_slices_are_those_of_the_plane_of_the_plan() -> None:
    plan = plan_of((9, 20, 20), slicewise=True, orientation="SPL", spacing_mm=(1.0, 1.0))
    volume = np.broadcast_to(np.linspace(0, 1, 9)[:, None, None], (9, 20, 20))
    kept = np.ones(9, dtype=bool)
    kept[8] = False
    picture = drawn(plan, standardised(volume)[None], kept=kept)
    levels = [int(picture[50, 107 * n + 50]) for n in range(MOST_SLICES)]
    expected = [round(255 * place / 8) for place in shown_slices(9)]
    assert levels[:-1] == pytest.approx(expected[:-1], abs=1)
    assert levels[-1] == pytest.approx(64, abs=1)  # darkened: it is not shown to the network


def test_the_pitch_is_kept_and_margins_are_transparent() -> None:
    plan = plan_of((10, 20, 20), orientation="SPL", spacing_mm=(4.0, 1.0, 1.0))
    picture = drawn(plan, standardised(np.full((1, 10, 20, 20), 0.5)))
    heights = [(picture[:, start + 5] >= 0).sum() for start in (0, 153, 153 + 75 + 3)]
    widths = [(row >= 0).sum() for row in (picture[5],)]
    assert heights == [150, 150, 150]
    assert widths == [150 + 75 + 75]


def test_grey_levels_are_those_of_the_unchanged_scan() -> None:
    plan = plan_of((8, 8))
    still = standardised(np.full((1, 8, 8), 0.5)).astype(np.float32)
    shown = shown_as(plan, still)
    for brightness, expected in ((0.0, 128), (1.0, 179), (10.0, 255), (-10.0, 0)):
        pixels = np.asarray(Image.open(io.BytesIO(shown.picture(still + brightness))))
        assert pixels[..., 0] == pytest.approx(expected, abs=1)


def test_z_scores_are_shown_between_their_own_percentiles() -> None:
    plan = plan_of((30, 30), modality="MR", intensity={"scheme": "robust_zscore"})
    values = np.random.default_rng(0).normal(size=(1, 30, 30)).astype(np.float32)
    values[0, 0, 0] = 400
    low, high = shown_as(plan, values).levels[0]
    assert -4 < low < -2 < 2 < high < 4
    assert drawn(plan, np.full((1, 30, 30), 3.0)).min() >= 0  # a flat scan has a picture as well


def test_every_channel_has_a_row_and_repeated_ones_one() -> None:
    windows = {"scheme": "hu_windows", "windows_hu": ("lung", (0.0, 80.0))}
    ct = plan_of((8, 8), modality="CT", in_channels=4, intensity=windows, reading={"sequences": ("early", "late")})
    assert channel_names(ct) == ("early lung", "early 0 to 80 HU", "late lung", "late 0 to 80 HU")
    scan = np.random.default_rng(0).uniform(-1, 1, size=(4, 8, 8)).astype(np.float32)
    assert [name for _, name in shown_as(ct, scan).rows] == list(channel_names(ct))
    assert drawn(ct, scan).shape == (4 * 200 + 3 * 3, 200)
    colours = plan_of((8, 8), in_channels=3, intensity={"scheme": "scaled", "mean": (0.5, 0.4, 0.3), "std": (1, 1, 1)})
    grey = np.full((3, 8, 8), 0.6) - np.array([0.5, 0.4, 0.3])[:, None, None]
    assert drawn(colours, grey).shape == (200, 200)


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (3, 1, 1)])
def test_odd_shapes_have_pictures(shape: tuple[int, ...]) -> None:
    assert drawn(plan_of(shape), np.zeros((1, *shape))).size
