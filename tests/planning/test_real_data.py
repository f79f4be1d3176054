"""Plans of real scans, read as a run reads them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from medres.data.readers import read_scan
from medres.data.statistics import scan_statistics
from medres.planning.fingerprint import Fingerprint, make_fingerprint
from medres.planning.plan import Plan
from medres.planning.planner import make_plan
from tests.planning.examples import CPU, backbone

pytestmark = pytest.mark.real


def fingerprint_of(paths: Any, *, members: Any = (None,)) -> Fingerprint:
    scans = ((path, member) for path in paths for member in members)
    return make_fingerprint({f"{item}": scan_statistics(read_scan(item[0], member=item[1])) for item in scans})


def plan_of(found: Fingerprint, dims: int) -> Plan:
    facts = backbone(dims, pretrained=True, input_size=64)
    return make_plan(found, backbone=facts, machine=CPU, num_training_scans=107)


def test_lidc_cubes(real_data: Path) -> None:
    files = sorted((real_data / "lidc_nodule_texture").rglob("*.nii.gz"))
    plan = plan_of(fingerprint_of(islice(files, 0, None, 6)), 3)
    assert (plan.shape, plan.orientation, plan.crop) == ((64, 64, 64), "SPL", "none")
    assert plan.intensity.scheme == "scaled"
    assert plan.intensity.scale_range == pytest.approx((0, 1), abs=0.05)  # the source scaled them so
    assert plan.batch_size == 8


def test_brain_mri_pictures(real_data: Path) -> None:
    files = sorted(path for path in (real_data / "brain_mri_tumor").rglob("*") if path.is_file())
    plan = plan_of(fingerprint_of(islice(files, 0, None, 6)), 2)
    assert (plan.spacing_mm, plan.intensity.scale_range, plan.in_channels) == (None, (0, 255), 1)
    assert 96 <= min(plan.shape) <= max(plan.shape) <= 176  # at most 128^2 pixels for weights of 64 pixels


@pytest.mark.parametrize(("name", "dims"), [("breastmnist", 2), ("adrenalmnist3d", 3)])
def test_medmnist(real_data: Path, name: str, dims: int) -> None:
    members = [f"train_images:{index}" for index in range(20)]
    plan = plan_of(fingerprint_of([real_data / "medmnist" / f"{name}.npz"], members=members), dims)
    assert plan.shape == (64,) * dims
    assert (plan.crop, plan.spacing_mm, plan.intensity.scale_range) == ("none", None, (0, 255))
