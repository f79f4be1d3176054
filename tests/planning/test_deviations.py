"""How a scan differs from those of training: silent on the cohort, certain about what is no scan of it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from medres.data.catalogue import KINDS
from medres.data.image import ScanImage
from medres.data.phantoms import phantom
from medres.data.statistics import ScanStatistics, scan_statistics
from medres.planning.deviations import Deviation, find_deviations, foreign_codes
from medres.planning.facts import MachineFacts
from medres.planning.fingerprint import Fingerprint, make_fingerprint
from medres.planning.plan import Plan
from medres.planning.planner import make_plan
from tests.planning.examples import backbone, scan

Trained = tuple[Fingerprint, Plan]
COHORTS = {"CT": ("CT", 3), "MR": ("MR", 3), "images": ("CT", 2)}


def as_image(voxels: Any, affine: Any = None, *, header: str | None = None, color: bool = False) -> ScanImage:
    spacing = None if affine is None else tuple(float(edge) for edge in np.linalg.norm(affine[:3, :3], axis=0))
    channels = np.asarray(voxels) if color else np.asarray(voxels)[None]
    return ScanImage(
        voxels=channels, affine=affine, spacing_mm=spacing, content_hash="", modality=header, color=color
    )  # fmt: skip


def made(cohort: str, number: int) -> ScanImage:
    modality, dims = COHORTS[cohort]
    drawn = phantom(modality=modality, spatial_dims=dims, size=24, severity=number % 2, seed=11, patient=number)  # type: ignore[arg-type]
    return as_image(drawn.voxels, drawn.affine)


def trained_on(scans: list[ScanStatistics]) -> Trained:
    found = make_fingerprint({str(number): one for number, one in enumerate(scans)})
    dims = 3 if found.num_volumes else 2
    plan = make_plan(found, backbone=backbone(dims), machine=MachineFacts(), num_training_scans=len(scans))
    return found, plan


@pytest.fixture(scope="module", params=COHORTS)
def cohort(request: pytest.FixtureRequest) -> tuple[str, list[ScanStatistics]]:
    return request.param, [scan_statistics(made(request.param, number)) for number in range(40)]


@pytest.fixture(scope="module")
def ct() -> Trained:
    return trained_on([scan_statistics(made("CT", number)) for number in range(30)])


@pytest.fixture(scope="module")
def pictures() -> Trained:
    return trained_on([scan_statistics(made("images", number)) for number in range(60)])


def codes(image: ScanImage, trained: Trained) -> tuple[str, ...]:
    """The codes for which there is no decision; every finding must have a code, and neither a path nor many digits."""
    found = find_deviations(scan_statistics(image), *trained)
    for one in found:
        assert one.code in KINDS
        assert re.fullmatch(r"[A-Z0-9][^/\\]*\.", one.sentence), one.sentence
    return foreign_codes(found, trained[0])


def test_scans_of_the_cohort_are_never_flagged(cohort: tuple[str, list[ScanStatistics]]) -> None:
    _, scans = cohort
    for held_out in range(0, 40, 8):  # a fifth is left out at a time, and then all are asked
        trained = trained_on([one for number, one in enumerate(scans) if not held_out <= number < held_out + 8])
        assert [find_deviations(one, *trained) for one in scans] == [()] * 40


def test_a_large_cohort_with_normal_spreads_is_practically_never_flagged() -> None:
    rng = np.random.default_rng(0)
    flagged = total = 0
    for _ in range(20):
        sizes = np.exp(rng.normal(5, 0.3, (60, 3))).astype(int)
        levels = rng.normal(40, 60, 60)
        scans = [_drawn(size, level) for size, level in zip(sizes, levels, strict=True)]
        trained = trained_on(scans[:20])
        flagged += sum(bool(find_deviations(one, *trained)) for one in scans[20:])
        total += 40
    assert flagged <= 0.005 * total


def _drawn(size: Any, level: float) -> ScanStatistics:
    # as a CT of tissue in air: its levels move with a normal distribution of 60 HU
    return scan(
        tuple(int(edge) for edge in size), modality="CT", dtype="int16", low=level - 1000, high=level + 1000,
        spacing_mm=(1.0, 1.0, 1.0), orientation="LPS",
    )  # fmt: skip


def foreign_to_ct() -> dict[str, ScanImage]:
    own = made("CT", 100)
    voxels, rng = own.voxels[0], np.random.default_rng(0)
    return {
        "MR": made("MR", 100),
        "MR by its header": as_image(voxels, own.affine, header="MR"),
        "ultrasound": as_image(rng.integers(0, 256, voxels.shape, dtype=np.uint8), own.affine, header="US"),
        "air": as_image(np.rint(rng.normal(-1000, 15, voxels.shape)).astype(np.int16), own.affine),
        "air by its header": as_image(np.rint(rng.normal(-1000, 15, voxels.shape)).astype(np.int16), header="CT"),
        "without intercept": as_image(voxels + 1024, own.affine),
        "without intercept, header": as_image(voxels + 1024, own.affine, header="CT"),
        "without intercept, padded": as_image(np.where(voxels < -990, -2000, voxels + 1024), own.affine),
        "black": as_image(np.zeros_like(voxels), own.affine),
        "one voxel": as_image(np.where(np.arange(voxels.size).reshape(voxels.shape) == 5000, 1000, 0), own.affine),
        "eight bits": as_image(((voxels + 1024) / 12).astype(np.uint8), own.affine),
        "negative": as_image(-voxels, own.affine),
        "in metres": as_image(voxels, np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ own.affine),
        "a slice": as_image(voxels[0]),
    }


@pytest.mark.parametrize("name", foreign_to_ct())
def test_what_a_ct_model_cannot_decide_about(ct: Trained, name: str) -> None:
    assert codes(foreign_to_ct()[name], ct)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("MR", "mixed-modality"), ("MR by its header", "mixed-modality"), ("ultrasound", "mixed-modality"),
        ("air", "nearly-empty"), ("without intercept, header", "not-hounsfield"), ("black", "constant"),
        ("one voxel", "nearly-empty"), ("a slice", "mixed-dimensions"),
        ("without intercept, padded", "intensity-outlier"),
    ],
)  # fmt: skip
def test_the_code_says_why(ct: Trained, name: str, code: str) -> None:
    assert code in codes(foreign_to_ct()[name], ct)


def foreign_to_pictures() -> dict[str, ScanImage]:
    own, rng = made("images", 100), np.random.default_rng(0)
    voxels = own.voxels[0]
    return {
        "black": as_image(np.zeros_like(voxels)),
        "scaled to 1": as_image(voxels.astype(np.float32) / 255),
        "16 bits": as_image(voxels.astype(np.int32) * 16),
        "hounsfield": as_image(voxels.astype(np.int16) * 8 - 1000, header="CT"),
        "colours": as_image(rng.integers(0, 256, (3, *voxels.shape), dtype=np.uint8), color=True),
        "noise": as_image(rng.integers(0, 256, voxels.shape, dtype=np.uint8)),
    }


@pytest.mark.parametrize("name", foreign_to_pictures())
def test_what_a_model_of_pictures_cannot_decide_about(pictures: Trained, name: str) -> None:
    assert codes(foreign_to_pictures()[name], pictures)


def test_a_negative_is_told(pictures: Trained) -> None:
    negative = as_image(255 - made("images", 100).voxels[0])
    assert [one.code for one in find_deviations(scan_statistics(negative), *pictures)] == ["intensity-outlier"]


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e-14, 1e-200, 1e200])
def test_the_unit_of_the_values_does_not_matter(unit: float) -> None:
    drawn = [made("MR", number).voxels[0].astype(np.float64) for number in range(21)]
    images = [voxels / voxels.max() for voxels in drawn]  # as from scanners that agree
    trained = trained_on([scan_statistics(as_image(voxels * unit)) for voxels in images[:20]])
    usual, stretched = (scan_statistics(as_image(images[20] * (factor * unit))) for factor in (1, 1000))
    assert find_deviations(usual, *trained) == ()
    assert [one.code for one in find_deviations(stretched, *trained)] == ["intensity-outlier"]


def test_one_odd_number_warns_and_two_withhold() -> None:
    few, enough = ({"num_scans": count} for count in (9, 10))
    trained = trained_on([scan_statistics(made("CT", number)) for number in range(10)])[0]
    one, two = Deviation("size-outlier", "Large."), Deviation("texture-outlier", "Rough.")
    certain = Deviation("constant", "Black.", certain=True)
    assert foreign_codes([one], trained) == ()
    assert foreign_codes([one, one], trained) == ()
    assert foreign_codes([one, two], trained.model_copy(update=enough)) == ("size-outlier", "texture-outlier")
    assert foreign_codes([one, two], trained.model_copy(update=few)) == ()  # of nine scans nobody knows what is usual
    assert foreign_codes([one, certain], trained.model_copy(update=few)) == ("constant",)


def test_one_training_scan_that_does_not_belong_there_does_not_open_the_limits() -> None:
    scans = [scan_statistics(made("CT", number)) for number in range(39)]
    large = made("CT", 40)
    stray = scan_statistics(as_image(large.voxels[0], np.diag([50.0, 50.0, 50.0, 1.0]) @ large.affine))
    assert "size-outlier" in {one.code for one in find_deviations(stray, *trained_on([*scans, stray]))}


def test_a_model_of_small_masks_decides_about_masks() -> None:
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(20):
        voxels = np.zeros((32, 32, 32), np.uint8)
        start = rng.integers(2, 28, 3)
        voxels[tuple(slice(first, first + 2) for first in start)] = 1  # 0.02 % of the voxels
        masks.append(scan_statistics(as_image(voxels)))
    assert [find_deviations(one, *trained_on(masks)) for one in masks] == [()] * 20


def test_the_spacing_that_training_never_had_is_told_with_both(ct: Trained) -> None:
    own = made("CT", 100)
    assert own.affine is not None
    thick = as_image(own.voxels[0][:, :, ::6], own.affine @ np.diag([1, 1, 6.0, 1]))
    found = {one.code: one for one in find_deviations(scan_statistics(thick), *ct)}
    assert "in training it was" in found["spacing-outlier"].sentence
