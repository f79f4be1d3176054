"""Laws over units: what becomes of a scan that is no CT does not depend on the unit of its voxels.

All voxels of all scans are multiplied by a positive number, and a number is added: the same plan but for its numbers,
the same findings, the same box, the same input of the network. (A negative factor makes another picture: background
becomes bright. CT is absolute by meaning, and so are 8 bits, which are a scale of their own.)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from medres.data.checks.scans import check_scans
from medres.data.foreground import background_threshold
from medres.data.image import ScanImage
from medres.data.perceptual import coefficients_of, perceptual_hash
from medres.data.readers.voxels import make_image
from medres.data.statistics import ScanStatistics, scan_statistics
from medres.data.survey_memory import Remembered
from medres.data.table import Scan, ScanTable
from medres.data.thumbnails import thumbnail
from medres.planning.fingerprint import make_fingerprint
from medres.planning.plan import Plan
from medres.planning.planner import make_plan
from medres.preprocessing.preprocessor import Preprocessor
from tests.planning.examples import CPU, backbone

#: Outliers are looked for among ten scans and more.
NUM_SCANS = 10


class Unit(NamedTuple):
    """``x`` becomes ``factor * x + offset * factor * (the width of all scans)``, stored as ``dtype``."""

    factor: float
    offset: float
    dtype: str


USUAL = Unit(1, 0, "float64")
UNITS = [
    Unit(1e-300, 0, "float64"), Unit(1e-30, 0, "float64"), Unit(1e-9, 0, "float64"), Unit(1e-3, 0, "float64"),
    Unit(0.37, 0, "float64"), Unit(1e6, 0, "float64"), Unit(1e200, 0, "float64"), Unit(1, 1e6, "float64"),
    Unit(1e-9, -1e6, "float64"), Unit(3.7e-4, -5, "float64"), Unit(1e-30, 0, "float32"), Unit(1e-7, 0, "float32"),
    Unit(1e30, 0, "float32"), Unit(1, 1e3, "float32"), Unit(1, 0, "int16"), Unit(1e3, 0, "int32"),
    Unit(1, -1e6, "int64"),
]  # fmt: skip


def body(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A body of 60 in air of 0, with a dark and a bright organ; its size differs a little from scan to scan."""
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(grid**2 for grid in grids))
    tissue = np.where(radius < rng.uniform(0.6, 0.7), 60.0, 0.0) + np.where(radius < 0.35, 40.0, 0.0)
    return tissue + np.where(grids[0] > 0.2, 0.25, 0.0) * tissue


def magnitudes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rician noise, and a gain of each scan's own: what MR looks like."""
    noise = rng.normal(0, 2, (2, *shape))
    return 20 * rng.uniform(0.5, 4) * np.hypot(body(rng, shape) + noise[0], noise[1])


def texture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """No background, one scale: a quantitative map."""
    return 1000 + 100 * rng.normal(size=shape)


def gains(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """No background, and no common scale."""
    return 10 ** rng.uniform(0, 2) * (100 + 10 * rng.normal(size=shape))


def stripped(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """An exact background, a window that was applied, one scale."""
    tissue = body(rng, shape)
    return np.where(tissue > 0, 100 * (tissue + rng.normal(0, 5, shape)).clip(20, 80), 0.0)


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One value nearly everywhere: a small mask."""
    voxels = np.zeros(shape)
    place = tuple(slice(int(rng.integers(1, 4)), 6) for _ in shape)
    voxels[place] = 700
    return voxels


FAMILIES = {"magnitudes": magnitudes, "texture": texture, "gains": gains, "stripped": stripped, "sparse": sparse}
SCHEMES = {
    "magnitudes": "robust_zscore", "texture": "scaled", "gains": "robust_zscore", "stripped": "scaled",
    "sparse": "scaled",
}  # fmt: skip
SHAPES = {2: (28, 30), 3: (14, 15, 16)}


class Made(NamedTuple):
    """What becomes of the scans of one family in one unit."""

    images: list[ScanImage]
    statistics: list[ScanStatistics]
    plan: Plan
    prepared: np.ndarray
    finished: torch.Tensor
    codes: list[tuple[str, str | None]]


@cache
def scans_of(family: str, dims: int) -> tuple[np.ndarray, ...]:
    """Whole numbers, so that each type holds them."""
    rng = np.random.default_rng(7)
    return tuple(np.rint(FAMILIES[family](rng, SHAPES[dims])) for _ in range(NUM_SCANS))


def width_of(family: str, dims: int) -> float:
    return float(max(np.ptp(scan) for scan in scans_of(family, dims)))


def in_unit(scan: np.ndarray, unit: Unit, width: float) -> np.ndarray:
    return (scan * unit.factor + np.rint(unit.offset * width) * unit.factor).astype(unit.dtype)


@cache
def made(family: str, dims: int, unit: Unit, header: str | None) -> Made:
    width = width_of(family, dims)
    affine, spacing = (np.diag([1.0, 1, 1, 1]), (1.0, 1.0, 1.0)) if dims == 3 else (None, None)
    images = [
        make_image(in_unit(scan, unit, width)[None], affine=affine, spacing_mm=spacing, modality=header)
        for scan in scans_of(family, dims)
    ]
    statistics = [scan_statistics(image) for image in images]
    found = make_fingerprint({str(number): item for number, item in enumerate(statistics)})
    plan = make_plan(found, backbone=backbone(dims, total_stride=4), machine=CPU, num_training_scans=NUM_SCANS)
    preprocessor = Preprocessor(plan)
    prepared = np.stack([preprocessor.prepare(image)[0] for image in images])
    finished = preprocessor.finish(torch.from_numpy(prepared))
    return Made(images, statistics, plan, prepared, finished, codes_of(images, statistics))


def codes_of(images: list[ScanImage], statistics: list[ScanStatistics]) -> list[tuple[str, str | None]]:
    known = {
        str(number): Remembered(content_hash=image.content_hash, statistics=item)
        for number, (image, item) in enumerate(zip(images, statistics, strict=True))
    }
    scans = [
        Scan(sample_id=name, patient_id=name, path=Path(name), label="a", content_hash=entry.content_hash)
        for name, entry in known.items()
    ]
    findings = check_scans(ScanTable(root=Path(), scans=tuple(scans), classes=("a",), source="drawn"), known)
    return sorted((finding.code, finding.sample_id) for finding in findings)


def choices_of(plan: Plan) -> dict[str, Any]:
    """All but what holds numbers of the unit."""
    choices = plan.to_mapping()
    for key in ("fingerprint_digest", "reasons"):
        choices.pop(key)
    choices["intensity"].pop("scale_range")
    return choices


def rounding_of(unit: Unit, width: float) -> float:
    """How far the type's rounding moves a value, as a share of the range."""
    if "int" in unit.dtype:
        return 0.0
    return float(np.finfo(unit.dtype).eps) * (1 + abs(unit.offset)) * 20


@pytest.mark.parametrize(
    ("family", "dims", "header"),
    [*((family, 3, None) for family in FAMILIES), ("magnitudes", 2, None), ("texture", 2, "PT"), ("texture", 3, "MR")],
)
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_nothing_depends_on_the_unit(family: str, dims: int, header: str | None, unit: Unit) -> None:
    usual, other = made(family, dims, USUAL, header), made(family, dims, unit, header)
    assert choices_of(other.plan) == choices_of(usual.plan)
    assert other.codes == usual.codes
    for one, two in zip(usual.statistics, other.statistics, strict=True):
        assert (one.modality, one.foreground_box) == (two.modality, two.foreground_box)
    # half precision has steps of 0.004 near 5 and of 0.0005 near 1; one of them may be rounded the other way
    step = 0.004 if usual.plan.intensity.scheme == "robust_zscore" else 0.0005
    atol = step + 30 * rounding_of(unit, width_of(family, dims))
    np.testing.assert_allclose(other.prepared, usual.prepared, atol=atol)
    np.testing.assert_allclose(other.finished.numpy(), usual.finished.numpy(), atol=2 * atol)
    assert np.mean(other.prepared != usual.prepared) < 0.02 or unit.dtype == "float32"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_are_planned_as_they_are_meant(family: str) -> None:
    plan = made(family, 3, USUAL, None).plan
    assert plan.intensity.scheme == SCHEMES[family]
    assert plan.modality == ("MR" if family == "magnitudes" else "other")
    assert float(made(family, 3, USUAL, None).finished.std()) > 0.05  # something is left to be learned from


@pytest.mark.parametrize("unit", [unit for unit in UNITS if not unit.offset or unit.dtype != "float32"], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_look_of_a_scan_does_not_depend_on_the_unit(family: str, unit: Unit) -> None:
    usual, other = (made(family, 3, each, None).images[0] for each in (USUAL, unit))
    looks = [perceptual_hash(image) for image in (usual, other)]
    assert bool(looks[0]) == bool(looks[1])
    if looks[0]:
        assert np.abs(np.subtract(*(coefficients_of(look).astype(int) for look in looks))).max() <= 1
    assert thumbnail(usual) == thumbnail(other)


@pytest.mark.parametrize("family", ["magnitudes", "stripped"])
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_the_background_is_the_same_voxels_in_every_unit(family: str, unit: Unit) -> None:
    scan, width = scans_of(family, 3)[0], width_of(family, 3)
    masks = []
    for each in (USUAL, unit):
        voxels = in_unit(scan, each, width)
        threshold = background_threshold(voxels)
        assert threshold is not None
        masks.append(voxels > threshold)
    np.testing.assert_array_equal(*masks)
