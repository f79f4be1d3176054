"""Laws of scans with several sequences as channels."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from medres.data.image import ScanImage
from medres.errors import ConfigError, DataError
from medres.planning.plan import Plan
from medres.preprocessing.channels import stored_channels
from medres.preprocessing.preprocessor import Preprocessor
from tests.preprocessing.examples import INTENSITIES, affine_of, make_image, make_plan, smooth_scan

NAMES = ("t1", "t2", "flair")
_WINDOWS = {"hu_windows": 2, "robust_zscore": 1, "scaled": 1}
_RANGES = {"hu_windows": (-1000.0, 600.0), "robust_zscore": (0.0, 900.0), "scaled": (0.0, 255.0)}
by_scheme = pytest.mark.parametrize("scheme", INTENSITIES)


def plan_of(scheme: str, names: tuple[str, ...] = NAMES, **changes: Any) -> Plan:
    count = max(1, len(names)) * _WINDOWS[scheme]
    return make_plan(scheme, in_channels=count, reading={"sequences": names}, orientation="SPL", **changes)


def channels_of(scheme: str) -> dict[str, np.ndarray[Any, Any]]:
    low, high = _RANGES[scheme]
    scans = (smooth_scan((20, 18, 16), low=low, high=high * (1 + n), seed=n) for n in range(3))
    return {name: np.rint(scan).astype(np.int16) for name, scan in zip(NAMES, scans, strict=True)}


def scan_of(scheme: str, names: tuple[str, ...] = NAMES) -> ScanImage:
    channels = channels_of(scheme)
    voxels = np.stack([channels[name] for name in names])
    return make_image(voxels, affine=affine_of("LPS"), channel_names=names)


def finished(plan: Plan, image: ScanImage) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    preprocessor = Preprocessor(plan)
    stored, _ = preprocessor.prepare(image)
    assert stored.shape == preprocessor.stored_shape
    return stored, preprocessor.finish(torch.from_numpy(stored)[None])[0].numpy()


@by_scheme
def test_a_sequence_is_stored_once_and_the_network_sees_every_window_of_it(scheme: str) -> None:
    plan = plan_of(scheme)
    stored, seen = finished(plan, scan_of(scheme))
    assert stored_channels(plan) == len(stored) == 3
    assert len(seen) == plan.in_channels == 3 * _WINDOWS[scheme]
    assert np.isfinite(seen).all()


@by_scheme
@pytest.mark.parametrize("crop", ["none", "foreground"])
def test_permuted_sequences_permute_what_the_network_sees(scheme: str, crop: str) -> None:
    _, reference = finished(plan_of(scheme, crop=crop), scan_of(scheme))
    blocks = reference.reshape(3, _WINDOWS[scheme], *reference.shape[1:])
    assert not np.array_equal(blocks[0], blocks[1])
    for order in permutations(range(3)):
        names = tuple(NAMES[n] for n in order)
        _, seen = finished(plan_of(scheme, names, crop=crop), scan_of(scheme, names))
        assert np.array_equal(seen.reshape(blocks.shape), blocks[list(order)])


@by_scheme
def test_one_sequence_is_read_as_a_plain_scan_is(scheme: str) -> None:
    plain = make_image(channels_of(scheme)["t1"][None], affine=affine_of("LPS"))
    expected = finished(plan_of(scheme, ()), plain)
    found = finished(plan_of(scheme, ("t1",)), scan_of(scheme, ("t1",)))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("scheme", ["hu_windows", "scaled"])
def test_fixed_scales_treat_each_sequence_as_if_it_were_alone(scheme: str) -> None:
    _, together = finished(plan_of(scheme), scan_of(scheme))
    for n, name in enumerate(NAMES):
        plain = make_image(channels_of(scheme)[name][None], affine=affine_of("LPS"))
        _, alone = finished(plan_of(scheme, ()), plain)
        assert np.array_equal(together.reshape(3, *alone.shape)[n], alone)


def test_standardised_sequences_forget_their_scales() -> None:
    plan, scan = plan_of("robust_zscore"), scan_of("robust_zscore")
    factors = np.array([3, 1, 7]).reshape(3, 1, 1, 1)
    scaled = make_image(scan.voxels * factors, affine=scan.affine, channel_names=NAMES)
    np.testing.assert_allclose(finished(plan, scaled)[1], finished(plan, scan)[1], atol=4e-3)


@by_scheme
def test_other_sequences_are_refused(scheme: str) -> None:
    preprocessor = Preprocessor(plan_of(scheme))
    swapped = scan_of(scheme, ("t2", "t1", "flair"))
    colour = make_image(scan_of(scheme).voxels, affine=affine_of("LPS"), color=True)
    grey = make_image(channels_of(scheme)["t1"][None], affine=affine_of("LPS"))  # is not repeated
    for image in (swapped, colour, grey, scan_of(scheme, ("t1", "t2"))):
        with pytest.raises(DataError, match="the plan reads t1, t2, flair"):
            preprocessor.prepare(image)
    with pytest.raises(DataError, match="the plan reads scans of one image"):
        Preprocessor(plan_of(scheme, ())).prepare(scan_of(scheme))
    with pytest.raises(ValueError, match="the batch has shape"):
        preprocessor.finish(torch.zeros(1, 1, *preprocessor.plan.shape))


@pytest.mark.parametrize(
    ("scheme", "in_channels"), [("hu_windows", 2), ("hu_windows", 3), ("robust_zscore", 1), ("scaled", 6)]
)
def test_a_plan_whose_channels_do_not_add_up_is_refused(scheme: str, in_channels: int) -> None:
    with pytest.raises(ConfigError, match=f"in_channels is {in_channels}, but .*sequences has 3|sequences 3"):
        make_plan(scheme, in_channels=in_channels, reading={"sequences": NAMES})
