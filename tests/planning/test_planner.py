"""Laws that hold for every plan, and the plans of data sets as hospitals have them."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.errors import ConfigError, PlanError
from medres.planning.fingerprint import Fingerprint, make_fingerprint
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Plan
from medres.planning.planner import check_plan, make_plan
from medres.planning.shape import QUANTUM, minimum_sides
from tests.planning import examples
from tests.planning.examples import CPU, GPU, backbone, fingerprint

CHOICES = set(Plan.model_fields) - {"format", "fingerprint_digest", "reasons"}


def plan_of(found: Fingerprint, *, machine=CPU, pretrained=False, wishes=None, scans=100, **facts) -> Plan:
    dims = 2 if found.num_images else 3
    return make_plan(
        found, backbone=backbone(dims, pretrained=pretrained, **facts), machine=machine, num_training_scans=scans,
        overrides=None if wishes is None else PlanOverrides.from_mapping(wishes),
    )  # fmt: skip


# --- laws over all fingerprints, backbones and machines


@pytest.mark.parametrize("dims", [2, 3])
@settings(max_examples=150)
@given(data=st.data())
def test_every_fingerprint_has_a_valid_plan(dims: int, data: st.DataObject) -> None:
    found = data.draw(examples.any_fingerprint(dims))
    facts, machine = data.draw(examples.any_backbone(dims)), data.draw(examples.any_machine)
    count = data.draw(st.integers(0, 10**6))
    plan = make_plan(found, backbone=facts, machine=machine, num_training_scans=count)

    assert plan == make_plan(found, backbone=facts, machine=machine, num_training_scans=count)  # pure
    assert Plan.from_mapping(plan.to_mapping()) == plan  # valid, and the same after a file
    check_plan(plan, fingerprint=found, backbone=facts)  # what is planned may be followed
    assert set(plan.reasons) == CHOICES
    assert all(reason.strip().endswith(".") for reason in plan.reasons.values())
    planned = facts.with_stem(plan.stem_stride)
    assert all(
        side >= low and side % QUANTUM == 0 for side, low in zip(plan.shape, minimum_sides(planned), strict=True)
    )
    last = [math.ceil(side / stride) for side, stride in zip(plan.shape, planned.total_strides, strict=True)]
    assert min(last) >= 2  # positions of the last feature map along each axis
    assert plan.stem_stride == facts.stem_stride or facts.stem == "free"
    assert plan.batch_size in (4, 8, 16, 32, 64)
    assert plan.fingerprint_digest == found.digest()
    assert len(plan.augmentation.flip_axes) <= 1


@settings(max_examples=100)
@given(found=examples.any_fingerprint(3), facts=examples.any_backbone(3), machine=examples.any_machine)
def test_95_percent_of_the_scans_fit_wherever_spacings_are_known(found, facts, machine) -> None:
    plan = make_plan(found, backbone=facts, machine=machine, num_training_scans=50)
    grid = found.volumes
    known = grid.num_with_spacing == grid.num_scans
    assert (plan.spacing_mm is not None) == known
    if known:
        lengths = grid.box_mm if plan.crop == "foreground" else grid.extent_mm
        names = {"SPL": (0, 1, 2), "PIL": (1, 0, 2), "LIP": (2, 0, 1), None: (0, 1, 2)}[plan.orientation]
        for axis, side, step in zip(names, plan.shape, plan.spacing_mm, strict=True):
            assert side * step >= lengths[axis].p95 * 0.999  # rounded to four digits


# --- examples


@pytest.mark.parametrize("name", examples.DATA_SETS)
@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_order_and_the_names_of_the_scans_do_not_matter(name: str, machine) -> None:
    scans = examples.DATA_SETS[name]()
    shuffled = random.Random(1).sample(scans, len(scans))
    renamed = make_fingerprint({f"other-{index}": scan for index, scan in enumerate(shuffled)})
    assert plan_of(fingerprint(scans), machine=machine) == plan_of(renamed, machine=machine)


@pytest.mark.parametrize("name", examples.DATA_SETS)
def test_a_little_more_free_memory_changes_nothing(name: str) -> None:
    found = fingerprint(examples.DATA_SETS[name]())
    plans = [plan_of(found, machine=GPU.model_copy(update={"memory_bytes": gib * 2**30})) for gib in (20, 21)]
    assert plans[0].digest() == plans[1].digest()


def test_isotropic_chest_ct() -> None:
    plan = plan_of(fingerprint(examples.chest_ct()), pretrained=True, machine=GPU)
    assert (plan.modality, plan.orientation, plan.crop, plan.spatial_dims) == ("CT", "SPL", "foreground", 3)
    assert plan.intensity.scheme == "hu_windows"
    assert plan.intensity.windows_hu == ("lung", "soft_tissue", "bone")
    assert plan.in_channels == 3
    assert plan.intensity.mean == (0.485, 0.456, 0.406)
    assert plan.precision == "bf16"
    assert plan.augmentation.flip_axes == (2,)
    assert max(plan.spacing_mm) <= 1.3 * min(plan.spacing_mm)  # near isotropic
    assert math.prod(plan.shape) > 0.6 * 128**3


def test_a_small_cpu_gets_a_small_input() -> None:
    small = plan_of(fingerprint(examples.chest_ct()), machine=CPU)
    large = plan_of(fingerprint(examples.chest_ct()), machine=CPU.model_copy(update={"num_cores": 16}))
    assert 64**3 <= math.prod(small.shape) <= 80**3
    assert math.prod(small.shape) < math.prod(large.shape) <= 96**3
    assert small.precision == "fp32"


def test_thick_slices_are_not_multiplied() -> None:
    found = fingerprint(examples.thick_ct(slices=60))
    plan = plan_of(found, machine=GPU, pretrained=True)
    assert plan.shape[0] == 64  # 60 to 64 slices
    assert plan.spacing_mm[0] > 4 > plan.spacing_mm[1]
    assert min(plan.shape[1:]) > 128
    assert plan.augmentation.rotation_degrees == 5
    thin = plan_of(fingerprint(examples.thick_ct(slices=10)), machine=GPU, total_stride=8)
    assert thin.shape[0] == 16  # as few as the slices and the stride allow
    assert "anisotropic" in plan.reasons["augmentation"]


@pytest.mark.parametrize(
    ("code", "spacing", "orientation", "left_right"),
    [("LPS", (0.6, 0.6, 5), "SPL", 2), ("LPS", (0.6, 5, 0.6), "PIL", 2), ("LPS", (5, 0.6, 0.6), "LIP", 0),
     ("PSR", (0.6, 0.6, 5), "LIP", 0), ("LPS", (1, 1, 1.5), "SPL", 2)],
)  # fmt: skip
def test_d_is_the_coarsest_axis(code, spacing, orientation, left_right) -> None:
    scans = [examples.scan((100, 110, 120), spacing_mm=spacing, orientation=code) for _ in range(9)]
    plan = plan_of(fingerprint(scans))
    assert plan.orientation == orientation
    assert plan.augmentation.flip_axes == (left_right,)
    coarse = max(spacing) >= 2 * min(spacing)
    assert not coarse or plan.spacing_mm[0] == max(plan.spacing_mm)


def test_brain_mr_in_sagittal_files() -> None:
    plan = plan_of(fingerprint(examples.brain_mr()), pretrained=True)
    assert (plan.modality, plan.intensity.scheme, plan.in_channels) == ("MR", "robust_zscore", 1)
    assert plan.orientation == "SPL"
    assert plan.crop == "foreground"
    # the file's P, S, R axes hold 190, 190, 140 mm of head: D = S, H = P, W = R
    fields = [side * step for side, step in zip(plan.shape, plan.spacing_mm, strict=True)]
    assert fields == pytest.approx([190, 190, 140], rel=0.01)
    # three colours are folded to one channel: their mean
    assert plan.intensity.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,), abs=1e-6)
    assert plan.intensity.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,), abs=1e-6)


def test_8_bit_pictures_of_mixed_sizes() -> None:
    plan = plan_of(fingerprint(examples.pictures()), pretrained=True)
    assert (plan.spatial_dims, plan.spacing_mm, plan.orientation) == (2, None, None)
    assert (plan.intensity.scheme, plan.intensity.scale_range) == ("scaled", (0, 255))
    assert plan.crop == "foreground"  # sizes differ: there is no common scale that cropping could destroy
    assert plan.augmentation.flip_axes == (1,)
    assert 160 * 160 <= math.prod(plan.shape) <= 224 * 224


@pytest.mark.parametrize("dims", [2, 3])
def test_medmnist(dims: int) -> None:
    plan = plan_of(fingerprint(examples.medmnist(dims)), pretrained=True)
    assert plan.shape == (64,) * dims
    assert plan.spacing_mm is None
    assert plan.orientation is None
    assert plan.crop == "none"
    assert "28 x 28" in plan.reasons["shape"]
    assert "enlarged" in plan.reasons["shape"]
    assert plan.intensity.scale_range == (0, 255)


def test_cubes_with_an_identity_affine() -> None:
    found = fingerprint(examples.identity_cubes())
    plan = plan_of(found, pretrained=True)
    assert plan.shape == (64, 64, 64)
    assert plan.spacing_mm == pytest.approx((51 / 64,) * 3, rel=1e-3)
    assert (plan.intensity.scheme, plan.intensity.scale_range) == ("scaled", (0, 1))
    assert plan_of(found, pretrained=True, machine=GPU).shape == (96, 96, 96)  # at most twice as many voxels an axis
    assert plan_of(found, machine=GPU).shape == (64, 64, 64)  # nothing to gain without weights


def test_scans_at_the_inputs_own_size_are_not_interpolated() -> None:
    scans = [examples.scan((64, 64, 64), spacing_mm=(1.25, 1.25, 1.25), orientation="LPS") for _ in range(5)]
    assert plan_of(fingerprint(scans)).spacing_mm == (1.25, 1.25, 1.25)


def test_the_reasons_hold_the_numbers() -> None:
    reasons = plan_of(fingerprint(examples.chest_ct()), scans=107).reasons
    assert "40" in reasons["spatial_dims"]
    assert "107" in reasons["batch_size"]
    assert "2 CPU cores" in reasons["shape"]
    assert "59%" in reasons["crop"]
    assert "mm" in reasons["spacing_mm"]


# --- wishes


def test_wishes_are_followed_and_said() -> None:
    wishes = {
        "modality": "CT", "orientation": "RAS", "shape": [64, 80, 96], "crop": "none",
        "windows": ["brain", [-100, 300]], "flip_axes": [], "batch_size": 6, "precision": "bf16",
    }  # fmt: skip
    plan = plan_of(fingerprint(examples.chest_ct()), wishes=wishes)
    assert (plan.orientation, plan.shape, plan.crop) == ("RAS", (64, 80, 96), "none")
    assert plan.intensity.windows_hu == ("brain", (-100.0, 300.0))
    assert (plan.in_channels, plan.batch_size, plan.precision) == (2, 6, "bf16")
    assert plan.augmentation.flip_axes == ()
    for field in ("modality", "orientation", "shape", "crop", "batch_size", "precision"):
        assert plan.reasons[field].startswith("Set by you (planning."), field
        assert "Without it" in plan.reasons[field]
    assert "planning.windows" in plan.reasons["intensity"]
    assert "planning.flip_axes" in plan.reasons["augmentation"]


def test_a_wished_spacing_makes_the_shape() -> None:
    plan = plan_of(fingerprint(examples.identity_cubes()), wishes={"spacing_mm": [0.5, 0.5, 0.25]})
    assert plan.spacing_mm == (0.5, 0.5, 0.25)
    assert plan.shape == (112, 112, 208)  # 51 mm, rounded up to 16
    scaled = plan_of(fingerprint(examples.identity_cubes()), wishes={"spacing_mm": "none"})
    assert scaled.spacing_mm is None


def test_a_wished_modality_changes_the_scheme() -> None:
    found = fingerprint(examples.identity_cubes())
    assert plan_of(found, wishes={"modality": "MR"}).intensity.scheme == "robust_zscore"
    assert plan_of(found, wishes={"scale_range": [0, 4]}).intensity.scale_range == (0, 4)


def test_augmentation_can_be_switched_off() -> None:
    chosen = plan_of(fingerprint(examples.pictures()), wishes={"augmentation": False}).augmentation
    assert not any(chosen.to_mapping().values())


BAD_WISHES = {
    "shape too small": ({"shape": [48, 64, 64]}, examples.chest_ct, "needs at least 64"),
    "shape of other dims": ({"shape": [64, 64]}, examples.chest_ct, "3 axes"),
    "windows for MR": ({"windows": ["lung"]}, examples.brain_mr, "planning.modality=CT"),
    "no windows": ({"windows": []}, examples.chest_ct, "empty"),
    "spacing of pictures": ({"spacing_mm": [1, 1]}, examples.pictures, "images have no spacing"),
    "spacing without any": ({"spacing_mm": [1, 1, 1]}, lambda: examples.medmnist(3), "how large their voxels are"),
    "two spacings": ({"spacing_mm": [1, 1]}, examples.chest_ct, "3 axes"),
    "orientation of pictures": ({"orientation": "SPL"}, examples.pictures, "2D images"),
    "orientation unknown": ({"orientation": "SPL"}, lambda: examples.medmnist(3), "planning.orientation=none"),
    "flip a third axis": ({"flip_axes": [2]}, examples.pictures, "flip_axes"),
    "scale of CT": ({"scheme": "hu_windows", "scale_range": [0, 1]}, examples.chest_ct, "has no scale"),
    "scale upside down": ({"scale_range": [1, 0]}, examples.identity_cubes, "must be below"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_WISHES)
def test_wishes_that_do_not_fit_are_refused(name: str) -> None:
    wishes, data_set, message = BAD_WISHES[name]
    with pytest.raises(PlanError, match=message) as caught:
        plan_of(fingerprint(data_set()), wishes=wishes)
    assert caught.value.fix


# --- refusals


def test_volumes_of_which_only_some_are_placed_are_refused() -> None:
    scans = [*examples.identity_cubes(30), *examples.medmnist(3, 5)]
    with pytest.raises(PlanError, match="30 volumes say how they lie in the patient, 5 do not") as caught:
        plan_of(fingerprint(scans))
    assert "planning.orientation=none" in caught.value.fix
    plan = plan_of(fingerprint(scans), wishes={"orientation": "none"})
    assert (plan.orientation, plan.spacing_mm) == (None, None)


def test_a_backbone_of_other_dims_is_refused() -> None:
    with pytest.raises(PlanError, match="built for 2D"):
        make_plan(fingerprint(examples.chest_ct()), backbone=backbone(2), machine=CPU, num_training_scans=9, dims="3")


# --- plan.yaml


def test_an_edited_plan_is_followed(tmp_path: Path) -> None:
    found = fingerprint(examples.chest_ct())
    plan = plan_of(found)
    path = tmp_path / "plan.yaml"
    plan.write_yaml(path, header="Edit me")
    assert Plan.read(path) == plan
    edited = yaml.safe_load(path.read_text())
    edited["intensity"]["windows_hu"] = ["brain", [-50, 150], "bone"]
    edited["batch_size"] = 5
    path.write_text(yaml.safe_dump(edited))
    read = Plan.read(path)
    assert read.intensity.window_bounds_hu() == ((0, 80), (-50, 150), (-500, 1300))
    assert read.batch_size == 5
    assert read.preparation() == plan.preparation()  # neither changes what is stored
    check_plan(read, fingerprint=found, backbone=backbone(3))


BAD_EDITS = {
    "misspelt": (lambda plan: plan.update(batchsize=3), "batchsize: unknown key"),
    "window": (lambda plan: plan["intensity"].update(windows_hu=["lungs"] * 3), "did you mean 'lung'"),
    "channels": (lambda plan: plan.update(in_channels=2), "in_channels is 2"),
    "shape": (lambda plan: plan.update(shape=[64, 64]), "order D,H,W"),
    "spacing": (lambda plan: plan.update(spacing_mm=[1, 0, 1]), "3 positive numbers"),
    "orientation": (lambda plan: plan.update(orientation="SPI"), "three different axes"),
    "missing": (lambda plan: plan.pop("shape"), "shape: is required"),
    "flip": (lambda plan: plan["augmentation"].update(flip_axes=[3]), "below 3"),
    "dims": (lambda plan: plan.update(spatial_dims=4), "spatial_dims"),
}


@pytest.mark.parametrize("name", BAD_EDITS)
def test_bad_edits_are_explained(name: str, tmp_path: Path) -> None:
    edit, message = BAD_EDITS[name]
    values = plan_of(fingerprint(examples.chest_ct())).to_mapping()
    edit(values)
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message) as caught:
        Plan.read(path)
    assert str(path) in str(caught.value)


def test_a_plan_of_other_data_is_refused() -> None:
    chest, cubes = fingerprint(examples.chest_ct()), fingerprint(examples.medmnist(3))
    plan = plan_of(chest)
    with pytest.raises(PlanError, match="spatial_dims is 3, the scans have 2"):
        check_plan(plan, fingerprint=fingerprint(examples.pictures()), backbone=backbone(2))
    with pytest.raises(PlanError, match="spacing_mm"):
        check_plan(plan, fingerprint=cubes, backbone=backbone(3))
    with pytest.raises(PlanError, match="orientation"):
        check_plan(plan.model_copy(update={"spacing_mm": None}), fingerprint=cubes, backbone=backbone(3))
    with pytest.raises(PlanError, match="at least 128"):
        check_plan(plan, fingerprint=chest, backbone=backbone(3, total_stride=64))
    with pytest.raises(PlanError, match=r"built for 3D, the scans are read in 2\.5D"):
        check_plan(plan.model_copy(update={"slicewise": True}), fingerprint=chest, backbone=backbone(3))
