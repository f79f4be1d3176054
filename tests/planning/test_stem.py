"""The stem of a 3D network: chosen by the slices, kept where weights state it, wished, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.data.statistics import ScanStatistics
from medres.errors import ConfigError, PlanError
from medres.planning.budget import estimate_bytes_per_scan, estimate_macs
from medres.planning.facts import BackboneFacts
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Plan
from medres.planning.planner import check_plan, make_plan
from tests.planning import examples
from tests.planning.examples import CPU, GPU, backbone, fingerprint, scan

ORDINARY, THICK = (2, 2, 2), (1, 2, 2)
NET = backbone(3, pretrained=True, stem_stride=ORDINARY)


def plan_of(scans: list[ScanStatistics], *, machine: Any = GPU, net: BackboneFacts = NET, **wishes: Any) -> Plan:
    return make_plan(
        fingerprint(scans), backbone=net, machine=machine, num_training_scans=80, dims="3",
        overrides=PlanOverrides.from_mapping(wishes),
    )  # fmt: skip


def test_few_thick_slices_are_left_alone() -> None:
    plan = plan_of(examples.thick_ct())  # 30 to 34 slices of 5 mm
    assert plan.stem_stride == THICK
    assert plan.shape[0] in (32, 48)  # an ordinary stem would need 64
    assert plan.spacing_mm is not None
    assert 3 < plan.spacing_mm[0] < 6
    assert "would need 64" in plan.reasons["stem_stride"]


def test_slices_are_not_merged_for_a_stem_that_should_keep_them() -> None:
    plan = plan_of(examples.thick_ct(), machine=CPU)
    assert (plan.stem_stride, plan.shape[0]) == (ORDINARY, 64)
    assert "fewer slices than there are" in plan.reasons["stem_stride"]
    assert plan_of(examples.thick_ct(), machine=CPU, stem_stride=[1, 2, 2]).shape[0] < 32
    fewer = plan_of(examples.thick_ct(slices=14), machine=CPU)  # affordable: 14 to 18 slices
    assert (fewer.stem_stride, fewer.shape[0]) == (THICK, 16)


def test_many_thick_slices_too_where_their_planned_voxels_are_long() -> None:
    scans = examples.thick_ct(slices=70)
    plan = plan_of(scans)
    assert plan.spacing_mm is not None
    assert plan.shape[0] >= 64
    assert plan.spacing_mm[0] >= 2 * max(plan.spacing_mm[1:])
    assert plan.stem_stride == THICK
    assert "as long along D" in plan.reasons["stem_stride"]
    # at the resolution that a small CPU can bear, the same voxels are nearly cubes
    assert plan_of(scans, machine=CPU).stem_stride == ORDINARY


@pytest.mark.parametrize("name", ["chest CT", "brain MR", "MedMNIST 3D", "cubes"])
@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
def test_isotropic_scans_keep_the_ordinary_stem(name: str, machine: Any) -> None:
    plan = plan_of(examples.DATA_SETS[name](), machine=machine)
    fixed = plan_of(examples.DATA_SETS[name](), machine=machine, net=NET.model_copy(update={"stem_stride": None}))
    assert plan.stem_stride == ORDINARY
    assert fixed.stem_stride is None
    assert plan.shape == fixed.shape


def test_few_slices_of_unknown_thickness_are_left_alone() -> None:
    plan = plan_of([scan((256, 256, 20), dtype="uint8", high=255) for _ in range(9)])
    assert (plan.stem_stride, plan.spacing_mm) == (THICK, None)
    assert plan.shape[0] < 64 <= min(plan.shape[1:])


def test_coarse_along_another_axis_is_no_reason() -> None:
    plan = plan_of(examples.thick_ct(), orientation="LPS")  # D = left-right, W = the 5 mm slices
    assert plan.stem_stride == ORDINARY


@pytest.mark.parametrize(("stem", "words"), [("stated", "trained with it"), ("fixed", "MedicalNet")])
def test_the_stem_of_3d_weights_is_kept_and_said(stem: str, words: str) -> None:
    net = NET.model_copy(update={"stem": stem, "total_stride": 8 if stem == "fixed" else 32})
    plan = plan_of(examples.thick_ct(), net=net)
    assert plan.stem_stride == ORDINARY
    assert words in plan.reasons["stem_stride"]
    thick = plan_of(examples.chest_ct(), net=NET.with_stem(THICK).model_copy(update={"stem": "stated"}))
    assert thick.stem_stride == THICK


def test_2d_networks_and_plugins_have_no_choice() -> None:
    slices = make_plan(
        fingerprint(examples.thick_ct()), backbone=backbone(2), machine=GPU, num_training_scans=80, dims="2.5"
    )
    assert slices.stem_stride is None
    assert "3D networks" in slices.reasons["stem_stride"]
    plugin = plan_of(examples.thick_ct(), net=backbone(3))
    assert plugin.stem_stride is None
    assert "plug-in" in plugin.reasons["stem_stride"]


# --- wishes


def test_a_wish_decides_and_is_said() -> None:
    plan = plan_of(examples.chest_ct(), stem_stride=[1, 2, 2])
    assert plan.stem_stride == THICK
    assert plan.reasons["stem_stride"].startswith("Set by you (planning.stem_stride).")
    assert plan_of(examples.thick_ct(), stem_stride=[2, 2, 2]).shape[0] == 64
    stated = NET.model_copy(update={"stem": "stated"})
    assert plan_of(examples.thick_ct(), net=stated, stem_stride=[1, 2, 2]).stem_stride == THICK


def test_a_wished_shape_of_few_slices_brings_the_stem_that_can_read_it() -> None:
    plan = plan_of(examples.chest_ct(), shape=[32, 96, 96])
    assert (plan.shape, plan.stem_stride) == ((32, 96, 96), THICK)
    check_plan(plan, fingerprint=fingerprint(examples.chest_ct()), backbone=NET)
    with pytest.raises(PlanError, match="strides of 8 x 32 x 32 needs at least 16 x 64 x 64"):
        plan_of(examples.chest_ct(), shape=[8, 96, 96])
    with pytest.raises(PlanError, match="stride of 32 needs at least 64"):
        plan_of(examples.chest_ct(), shape=[32, 96, 96], stem_stride=[2, 2, 2])


@pytest.mark.parametrize(
    ("net", "words"),
    [(NET.model_copy(update={"stem": "fixed", "weights_source": "resnet_18.pth"}), "resnet_18.pth keeps"),
     (backbone(3), "plug-in")],
)  # fmt: skip
def test_a_stem_that_the_network_cannot_have_is_refused(net: BackboneFacts, words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        plan_of(examples.thick_ct(), net=net, stem_stride=[1, 2, 2])
    assert "planning.stem_stride" in str(caught.value)
    plan = plan_of(examples.thick_ct(), net=net).model_copy(update={"stem_stride": THICK})
    with pytest.raises(PlanError, match="The plan's stem_stride"):
        check_plan(plan, fingerprint=fingerprint(examples.thick_ct()), backbone=net)


@pytest.mark.parametrize("value", [[1, 2], [1, 2, 3], [0, 2, 2], "thick", [2, 2, 2, 2]])
def test_strides_are_three_of_1_or_2(value: Any) -> None:
    with pytest.raises(ConfigError, match="stem_stride"):
        PlanOverrides.from_mapping({"stem_stride": value})


# --- plan.yaml


def test_old_plans_without_the_field_are_read(tmp_path: Path) -> None:
    values = plan_of(examples.chest_ct()).to_mapping()
    assert values.pop("stem_stride") == [2, 2, 2]
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values))
    plan = Plan.read(path)
    assert plan.stem_stride is None
    check_plan(plan, fingerprint=fingerprint(examples.chest_ct()), backbone=NET)


def test_the_cache_does_not_depend_on_the_stem() -> None:
    plan = plan_of(examples.chest_ct())
    assert plan.model_copy(update={"stem_stride": THICK}).preparation() == plan.preparation()


def test_an_edited_plan_of_slices_has_no_stem() -> None:
    values = plan_of(examples.chest_ct()).to_mapping()
    values |= {"slicewise": True, "spacing_mm": values["spacing_mm"][1:]}
    with pytest.raises(ConfigError, match="only 3D networks have that choice"):
        Plan.from_mapping(values)


# --- costs


@settings(max_examples=100)
@given(facts=examples.any_backbone(3), data=st.data())
def test_a_denser_stem_is_never_cheaper(facts: BackboneFacts, data: st.DataObject) -> None:
    facts = facts.model_copy(update={"stem_stride": ORDINARY, "total_stride": 32})
    shape = data.draw(st.tuples(*[st.integers(16, 200)] * 3))
    stems = [(2, 2, 2), (1, 2, 2), (1, 1, 2), (1, 1, 1)]
    for estimate in (estimate_macs, estimate_bytes_per_scan):
        costs = [estimate(facts.with_stem(stem), shape) for stem in stems]
        assert costs == sorted(costs)
        assert costs[1] == pytest.approx(4 * costs[0])  # four times as many positions behind the stem
    assert facts.with_stem(THICK).with_stem(ORDINARY) == facts
