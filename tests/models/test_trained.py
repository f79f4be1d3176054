"""Networks that medres trained as weights of another run: taken bit for bit, with their statistics, or refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medres.errors import WeightsError
from medres.models.factory import backbone_facts, create_model
from medres.models.weights import resolve_weights
from medres.runs.documents import sha256_of
from tests.deployment.tiny import Tiny, make_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("hospital-a"), "images 2D", num_members=3)


@pytest.fixture
def run(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return shutil.copytree(tiny.bundle.parent, tmp_path / "ct-nodules", copy_function=_copied)


def _copied(source: str, target: str) -> None:
    # the networks are 45 MB each, and no test writes into their files
    (os.link if source.endswith(".safetensors") else shutil.copy)(source, target)


PLACES: dict[str, tuple[str, int]] = {
    "run": ("", 0), "bundle": ("model", 0), "member": ("model/member_2.safetensors", 2),
    "fold": ("fold_1/model.safetensors", 1),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_run_is_taken_bit_for_bit(run: Path, place: str) -> None:
    inner, fold = PLACES[place]
    weights = resolve_weights(str(run / inner), arch="resnet18", spatial_dims=2)
    assert weights is not None
    assert weights.source == f"medres run {weights.sha256[:8]}, fold {fold}"
    assert weights.sha256 == sha256_of(run / "model" / f"member_{fold}.safetensors")
    assert (weights.mean, weights.std, weights.input_size) == ((0.5,), (0.5,), 32)
    assert str(run.parent) not in " ".join((weights.source, *weights.notes))
    model = create_model("resnet18", num_classes=5, weights=weights)
    own = load_file(run / "model" / f"member_{fold}.safetensors")
    taken = model.state_dict()
    names = [name for name in taken if name.startswith("backbone.")]
    assert len(names) > 100
    assert all(torch.equal(taken[name], own[name]) for name in names)
    assert set(model.loading_report.left_out) == {"head.weight", "head.bias"}
    said = any("fold 0 of 3 was taken" in note for note in weights.notes)
    assert said == (place in ("run", "bundle"))
    assert "itself trained from random weights" in weights.notes


def test_statistics_travel_into_the_facts(run: Path) -> None:
    plan = run / "model" / "plan.yaml"
    plan.write_text(plan.read_text().replace("  mean:\n  - 0.5", "  mean:\n  - 0.25"))
    facts = backbone_facts("resnet18", spatial_dims=2, weights=str(run))
    assert (facts.pretrained, facts.input_mean, facts.input_std, facts.input_size) == (True, (0.25,), (0.5,), 32)


def test_a_2d_run_is_inflated_and_a_3d_run_is_not_flattened(run: Path, tmp_path: Path) -> None:
    weights = resolve_weights(str(run), arch="resnet18", spatial_dims=3)
    assert weights is not None
    assert backbone_facts("resnet18", spatial_dims=3, weights=weights).pretrained
    deep = make_tiny(tmp_path / "deep", "CT 3D", num_members=1)
    again = create_model("resnet10", spatial_dims=3, in_channels=2, num_classes=2, weights=str(deep.bundle))
    assert again.loading_report.adapted == {}
    assert again.loading_report.notes == ("itself trained from random weights",)
    manifest = deep.bundle / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"resnet10"', '"resnet18"'))
    with pytest.raises(WeightsError, match="holds a resnet18 in 3D, which cannot be used in 2D"):
        resolve_weights(str(deep.bundle), arch="resnet18", spatial_dims=2)


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        path = run / "model" / "bundle.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return spoil


def _other_weights(run: Path) -> None:
    path = run / "model" / "member_0.safetensors"
    tensors = load_file(path)
    tensors["head.bias"] = tensors["head.bias"] + 1
    path.unlink()
    save_file(tensors, path)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "json": (lambda run: (run / "model" / "bundle.json").write_text("{"), "bundle.json of ct-nodules is damaged"),
    "key": (_edit(lambda m: m.pop("members")), "is damaged"),
    "format": (_edit(lambda m: m.update(format=2)), "not of a kind that this medres reads"),
    "empty": (_edit(lambda m: m.update(members=[])), "not of a kind that this medres reads"),
    "outside": (_edit(lambda m: m["members"][0].update(file="../../x.safetensors")), "not of a kind"),
    "changed": (_other_weights, "member_0.safetensors of ct-nodules was changed after it was written"),
    "plan": (lambda run: (run / "model" / "plan.yaml").write_text("shape: 3\n"), "plan.yaml of ct-nodules"),
    "no-plan": (lambda run: (run / "model" / "plan.yaml").unlink(), "plan.yaml of ct-nodules cannot be read"),
    "no-member": (lambda run: (run / "model" / "member_0.safetensors").unlink(), "cannot be read"),
    "unfinished": (lambda run: shutil.rmtree(run / "model"), "is a run that did not finish"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_run_is_refused(run: Path, case: str) -> None:
    spoil, words = SPOILT[case]
    spoil(run)
    with pytest.raises(WeightsError) as caught:
        resolve_weights(str(run), arch="resnet18", spatial_dims=2)
    assert words in str(caught.value), str(caught.value)
    assert caught.value.fix


def test_another_architecture_is_named(run: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"ct-nodules holds a resnet18 in 2D, not a resnet50\. Use --arch resnet18\."
    ):
        resolve_weights(str(run), arch="resnet50", spatial_dims=2)


def test_a_fold_that_does_not_exist(run: Path) -> None:
    os.link(run / "model" / "member_2.safetensors", run / "model" / "member_7.safetensors")
    with pytest.raises(WeightsError, match=r"no member of fold 7\. It has those of 0, 1, 2"):
        resolve_weights(str(run / "model" / "member_7.safetensors"), arch="resnet18", spatial_dims=2)


def test_a_members_file_alone_is_a_weights_file(run: Path, tmp_path: Path) -> None:
    os.link(run / "model" / "member_0.safetensors", tmp_path / "member_0.safetensors")
    weights = resolve_weights(str(tmp_path / "member_0.safetensors"), arch="resnet18", spatial_dims=2)
    assert weights is not None
    assert weights.source == "member_0.safetensors"
    assert any("statistics are not stated" in note for note in weights.notes)
