"""A thick-slice stem from the plan to the prediction, to another hospital's run and back from an edited plan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml

import medres
from medres.deployment.bundle import load_bundle
from medres.deployment.predictor import Predictor
from medres.errors import BundleError
from medres.models.geometry import KEY, Geometry, geometry_of
from medres.planning.plan import Plan
from medres.runs.events import read_events
from tests.integration.conftest import inside
from tests.integration.test_slices import _paths, _write

THICK = Geometry(stem_stride=(1, 2, 2))


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("thick"), num_scans=16)


@pytest.fixture(scope="module")
def run(stacks: Path, tmp_path_factory: pytest.TempPathFactory) -> medres.Run:
    return medres.finetune(
        stacks, arch="resnet10", dims="3", weights="none", recipe="lp-ft", folds=2, epochs=1, tracking=False,
        output=tmp_path_factory.mktemp("runs"), name="thick",
    )  # fmt: skip


def test_the_plan_the_networks_and_the_files_have_one_stem(run: medres.Run) -> None:
    plan = Plan.read(run.path / "plan.yaml")
    assert (plan.stem_stride, plan.shape[0]) == (THICK.stem_stride, 16)
    assert "a stride of 1 needs 16" in plan.reasons["stem_stride"]
    for member in load_bundle(run.path / "model").members:
        assert geometry_of(member.model.backbone.net) == THICK
    tensors = safetensors.numpy.load_file(run.path / "model" / "member_0.safetensors")
    np.testing.assert_array_equal(tensors[f"backbone.net.{KEY}"], THICK.as_tensor().numpy())


def test_each_member_predicts_its_own_held_out_rows_again(run: medres.Run, stacks: Path) -> None:
    paths = _paths(run, stacks)
    classes = [f"prob_{name}" for name in run.metrics["classes"]]
    for fold in range(2):
        rows = run.predictions[run.predictions["fold"] == str(fold)]
        assert len(rows) == 8
        again = Predictor(run.path, member=fold).predict([paths[name] for name in rows["sample"]])
        np.testing.assert_allclose(again.probabilities, rows[classes].to_numpy(), atol=1e-5)


def test_a_run_that_goes_on_from_it_keeps_the_stem_and_says_so(run: medres.Run, tmp_path: Path) -> None:
    scans = _write(tmp_path / "scans", num_scans=12, seed=1)
    for options, stride in (((), [1, 2, 2]), (("--set", "planning.stem_stride=[2,2,2]"), [2, 2, 2])):
        answer = inside(
            "finetune", "--data", scans, "--arch", "resnet10", "--dims", "3", "--weights", run.path, "--recipe",
            "linear-probe", "--folds", "2", "--output", tmp_path, "--name", f"next{stride[0]}", "--no-tracking",
            *options,
        )  # fmt: skip
        assert answer.exit_code == 0, answer.output
        folder = tmp_path / f"next{stride[0]}"
        plan = yaml.safe_load((folder / "plan.yaml").read_text())
        assert plan["stem_stride"] == stride
        loaded = json.loads((folder / "weights.json").read_text())
        if stride == [1, 2, 2]:
            assert "Kept at 1 x 2 x 2" in plan["reasons"]["stem_stride"]
            assert "stem stride 1x2x2" in answer.output
        else:
            assert "trained with a stem stride of 1x2x2, used with 2x2x2" in loaded["notes"]
            assert "used with 2x2x2" in answer.output
        assert next(event for event in read_events(folder / "events.jsonl") if event["kind"] == "weights")["sha256"]


def test_a_plan_of_another_stem_than_the_networks_is_refused(run: medres.Run, tmp_path: Path) -> None:
    from medres.deployment.members import rebuild_network

    plan = Plan.read(run.path / "plan.yaml")
    file = run.path / "model" / "member_0.safetensors"
    for other in (plan, plan.model_copy(update={"stem_stride": None})):  # bundles from before the field
        assert geometry_of(rebuild_network(file, arch="resnet10", num_classes=2, plan=other).backbone.net) == THICK
    with pytest.raises(BundleError, match=r"stem stride of \(1, 2, 2\), the plan's is \(2, 2, 2\)"):
        rebuild_network(file, arch="resnet10", num_classes=2, plan=plan.model_copy(update={"stem_stride": (2, 2, 2)}))
