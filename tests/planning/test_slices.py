"""The plan of slices (2.5D): how many, how large, which neighbours, and what it says about it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.data.statistics import ScanStatistics
from medres.errors import ConfigError, PlanError
from medres.planning.budget import estimate_bytes_per_scan, estimate_macs
from medres.planning.fingerprint import Fingerprint
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Plan
from medres.planning.planner import check_plan, make_plan
from medres.planning.shape import QUANTUM, minimum_sides
from tests.planning import examples
from tests.planning.examples import CPU, GPU, any_backbone, any_fingerprint, any_machine, backbone, fingerprint, scan


def plan_of(found: Fingerprint, *, machine: Any = GPU, net: Any = None, dims: Any = "auto", **wishes: Any) -> Plan:
    return make_plan(
        found, backbone=net or backbone(2, pretrained=True), machine=machine, num_training_scans=80, dims=dims,
        backbone_dims=(2, 3), overrides=PlanOverrides.from_mapping(wishes),
    )  # fmt: skip


def knees(count: int = 40) -> list[ScanStatistics]:
    """Sagittal MR of 4 mm, 20 to 29 slices."""
    return [
        scan((20 + index % 10, 320, 320), modality="MR", dtype="uint16", high=900.0 * 1.3**index,
             spacing_mm=(4.0, 0.5, 0.5), orientation="LPS")
        for index in range(count)
    ]  # fmt: skip


def test_thick_slices_are_planned_as_slices() -> None:
    plan = plan_of(fingerprint(examples.thick_ct()))
    assert (plan.spatial_dims, plan.slicewise, plan.neighbours, plan.orientation) == (3, True, 1, "SPL")
    assert plan.shape == (34, 320, 320)
    assert plan.spacing_mm == (0.96, 0.96)
    assert plan.in_channels == 3
    assert plan.intensity.mean == examples.IMAGENET["input_mean"]
    assert plan.augmentation.rotation_degrees == 10  # pixels are squares, however thick the slices are
    assert set(plan.reasons) >= set(Plan.model_fields) - {"format", "fingerprint_digest", "reasons"}
    assert "2.5" not in plan.reasons["spatial_dims"]
    assert "slice by slice" in plan.reasons["spatial_dims"]


def test_d_is_the_coarsest_axis() -> None:
    plan = plan_of(fingerprint(knees()))
    assert plan.orientation == "LIP"
    assert plan.shape[0] == 29
    assert plan.shape[1] == plan.shape[2]
    assert plan.augmentation.flip_axes == ()
    assert "lie across the slices" in plan.reasons["augmentation"]


def test_isotropic_volumes_are_read_as_slices_where_asked_for() -> None:
    found = fingerprint(examples.brain_mr())
    assert not plan_of(found, net=backbone(3)).slicewise
    plan = plan_of(found, dims="2.5")
    assert plan.slicewise
    assert plan.orientation == "SPL"
    assert plan.in_channels == 1
    assert plan.intensity.scheme == "robust_zscore"
    assert "asked for" in plan.reasons["spatial_dims"]


def test_volumes_without_spacing_are_read_as_slices_where_asked_for() -> None:
    plan = plan_of(fingerprint(examples.medmnist(3)), dims="2.5", machine=CPU)
    assert plan.spacing_mm is None
    assert plan.shape == (28, 64, 64)


def test_neighbours_multiply_the_channels() -> None:
    grey = plan_of(fingerprint(knees()), neighbours=3)
    assert (grey.neighbours, grey.in_channels, grey.slice_channels) == (3, 3, 1)
    wide = plan_of(fingerprint(knees()), neighbours=5)
    assert (wide.neighbours, wide.in_channels, wide.slice_channels) == (5, 5, 1)
    assert wide.intensity.mean == (pytest.approx(0.449, abs=1e-3),)  # the stem is folded: one mean for all channels
    windows = plan_of(fingerprint(examples.thick_ct()), neighbours=3)
    assert (windows.neighbours, windows.in_channels, windows.slice_channels) == (3, 9, 3)
    assert windows.intensity.mean == (pytest.approx(0.449, abs=1e-3),)
    assert "side by side" in windows.reasons["in_channels"]
    with pytest.raises(PlanError, match="not read slice by slice"):
        plan_of(fingerprint(examples.chest_ct()), net=backbone(3), neighbours=3)


@pytest.mark.parametrize("neighbours", [-1, 0, 2, 4, 17])
def test_neighbours_are_an_odd_number(neighbours: int) -> None:
    with pytest.raises(ConfigError, match=f"neighbours: must be an odd number from 1 to 15.*; got {neighbours}"):
        PlanOverrides.from_mapping({"neighbours": neighbours})


def test_two_cores_read_fewer_pixels_and_then_fewer_slices() -> None:
    few = plan_of(fingerprint(examples.thick_ct(slices=16)), machine=CPU)
    assert few.shape[0] == 20  # all that 95 % of the scans have
    many = plan_of(fingerprint(examples.thick_ct(slices=60)), machine=CPU)
    assert many.shape == (26, 96, 96)
    assert "neighbours are merged evenly" in many.reasons["shape"]
    assert estimate_macs(backbone(2), many.shape) <= 8e9


def test_cost_counts_slices() -> None:
    net = backbone(2)
    for estimate in (estimate_macs, estimate_bytes_per_scan):
        assert estimate(net, (30, 96, 96)) == pytest.approx(30 * estimate(net, (96, 96)))


@pytest.mark.parametrize(("wishes", "shape", "spacing"), [
    ({"shape": [12, 128, 64]}, (12, 128, 64), None), ({"spacing_mm": [1.5, 1.5]}, (34, 208, 208), (1.5, 1.5)),
    ({"spacing_mm": "none"}, (34, 320, 320), ()),
])  # fmt: skip
def test_wishes_are_followed(wishes: Any, shape: Any, spacing: Any) -> None:
    plan = plan_of(fingerprint(examples.thick_ct()), **wishes)
    assert plan.shape == shape
    if spacing is not None:
        assert plan.spacing_mm == (spacing or None)
    assert "Set by you" in plan.reasons["shape"] + plan.reasons["spacing_mm"]


@pytest.mark.parametrize(("wishes", "words"), [
    ({"shape": [96, 96]}, "3 sizes, order D, H, W"), ({"shape": [8, 32, 96]}, "within the slice .* at least 64"),
    ({"spacing_mm": [5, 1, 1]}, "in their plane only"), ({"flip_axes": [0]}, "in their plane only"),
])  # fmt: skip
def test_wishes_that_cannot_be_are_refused(wishes: Any, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        plan_of(fingerprint(examples.thick_ct()), **wishes)


def test_a_given_plan_of_slices_is_checked() -> None:
    found = fingerprint(examples.thick_ct())
    plan = plan_of(found)
    check_plan(plan, fingerprint=found, backbone=backbone(2))
    check_plan(plan.model_copy(update={"shape": (1, 64, 64)}), fingerprint=found, backbone=backbone(2))
    with pytest.raises(PlanError, match=r"built for 3D, the scans are read in 2\.5D"):
        check_plan(plan, fingerprint=found, backbone=backbone(3))
    with pytest.raises(PlanError, match="at least 64"):
        check_plan(plan.model_copy(update={"shape": (9, 48, 64)}), fingerprint=found, backbone=backbone(2))
    with pytest.raises(PlanError, match="the scans have 2"):
        check_plan(plan, fingerprint=fingerprint(examples.pictures()), backbone=backbone(2))


@settings(max_examples=60)
@given(any_fingerprint(3), any_backbone(2), any_machine, st.sampled_from((None, 1, 3, 5, 15)))
def test_any_volumes_can_be_planned_as_slices(found: Any, net: Any, machine: Any, neighbours: Any) -> None:
    plan = make_plan(
        found, backbone=net, machine=machine, num_training_scans=10, dims="2.5",
        overrides=PlanOverrides(neighbours=neighbours),
    )  # fmt: skip
    depth, *plane = plan.shape
    assert plan.slicewise
    assert 1 <= depth <= 700
    assert all(side % QUANTUM == 0 and side >= minimum_sides(net)[0] for side in plane)
    assert plan.in_channels == plan.slice_channels * (neighbours or 1)
    assert plan.batch_size >= 4
    assert plan.spacing_mm is None or len(plan.spacing_mm) == 2
    assert plan == Plan.from_mapping(plan.to_mapping())
    assert math.isfinite(estimate_bytes_per_scan(net, plan.shape))
