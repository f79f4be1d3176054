"""Weights that state their architecture are loaded into no other, though the tensors may fit it."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from medres.errors import WeightsError
from medres.models import hub
from medres.models.donors import _shapes
from medres.models.factory import backbone_facts, create_model, loading_report
from medres.models.names import builtin_archs
from medres.models.stated_arch import require_stated_arch, stated_arch, twins_of
from medres.models.stem import RGB
from medres.models.timm_networks import build_timm_backbone
from medres.models.timm_tags import default_tag, tags_of
from medres.models.weights import resolve_weights
from tests.models.nets import random_net, save_net, weights_of


@pytest.fixture(autouse=True)
def _no_weights_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDRES_WEIGHTS_DIR", raising=False)


@cache
def _resnet18() -> nn.Module:
    return random_net("resnet18")


def _file(folder: Path, name: str, **metadata: str) -> Path:
    path, net = folder / name, _resnet18()
    if path.suffix == ".safetensors":
        return save_net(net, path, **metadata)
    torch.save(net.state_dict(), path)
    return path


#: File of a resnet18 to what its header states.
STATING: dict[str, dict[str, str]] = {
    "resnet18.tv_in1k.safetensors": {},
    "resnet18-f37072fd.pth": {},
    "ours.safetensors": {"arch": "resnet18"},
    "resnetblur18.safetensors": {"arch": "resnet18"},
}


@pytest.mark.parametrize("name", STATING)
def test_only_the_stated_architecture_is_loaded(name: str, tmp_path: Path) -> None:
    path = str(_file(tmp_path, name, **STATING[name]))
    for spatial_dims in (2, 3):
        weights = resolve_weights(path, arch="resnet18", spatial_dims=spatial_dims)
        assert weights is not None
        report = loading_report("resnet18", spatial_dims=spatial_dims, weights=weights)
        assert not any("architecture" in note for note in report.notes)
    for arch, dims in (("resnetblur18", 2), ("resnet34", 2), ("resnet34", 3)):
        with pytest.raises(WeightsError) as caught:
            backbone_facts(arch, spatial_dims=dims, weights=path)
        assert f"is of resnet18, not of {arch}. Use --arch resnet18, or weights of {arch}" in str(caught.value)


def test_a_network_is_not_built_from_weights_of_another(tmp_path: Path) -> None:
    path = str(_file(tmp_path, "ours.safetensors", arch="resnet18"))
    with pytest.raises(WeightsError, match="is of resnet18, not of resnetblur18"):
        create_model("resnetblur18", num_classes=2, weights=path)


def test_a_2d_namesake_is_named_as_such_in_3d(tmp_path: Path) -> None:
    weights = str(_file(tmp_path, "ours.safetensors", arch="resnetblur18"))
    assert backbone_facts("resnetblur18", spatial_dims=2, weights=weights).pretrained
    with pytest.raises(WeightsError, match=r"of resnetblur18, not of resnet18\. Use --arch resnetblur18 \(2D only\)"):
        backbone_facts("resnet18", spatial_dims=3, weights=weights)


@pytest.mark.parametrize("arch", ["resnet18", "resnetblur18"])
@pytest.mark.parametrize("header", [{}, {"arch": "our_net"}, {"arch": ""}])
def test_weights_that_state_nothing_are_loaded_with_a_note(arch: str, header: dict[str, str], tmp_path: Path) -> None:
    weights = resolve_weights(
        str(_file(tmp_path, "ours.safetensors", **header)), arch=arch, spatial_dims=2
    )  # fmt: skip
    assert weights is not None
    other = {"resnet18": "resnetblur18", "resnetblur18": "resnet18"}[arch]
    note = f"their architecture is not stated: {other} has the same tensors"
    assert note in loading_report(arch, spatial_dims=2, weights=weights).notes


def test_no_note_where_no_other_name_has_these_tensors() -> None:
    weights = weights_of(random_net("test_resnet"))
    assert loading_report("test_resnet", spatial_dims=2, weights=weights).notes == ()


def test_a_repository_states_its_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model.safetensors": _file(tmp_path, "model.safetensors"), "config.json": tmp_path / "config.json"}
    files["config.json"].write_text(json.dumps({"architecture": "resnet18"}))
    monkeypatch.setattr(hub, "fetch", lambda _, name, **__: files[name])
    for repository in ("hf-hub:hospital/nodules", "hf-hub:timm/resnet18.a1_in1k"):
        assert backbone_facts("resnet18", spatial_dims=2, weights=repository).pretrained
        with pytest.raises(WeightsError, match=f"{repository} states .* of resnet18, not of resnetblur18"):
            backbone_facts("resnetblur18", spatial_dims=2, weights=repository)


def test_a_repository_of_timm_states_it_in_the_weights_folder_too(tmp_path: Path) -> None:
    _file(tmp_path, "timm--resnet18.a1_in1k.safetensors")
    found = resolve_weights(
        "hf-hub:timm/resnet18.a1_in1k", arch="resnetblur18", spatial_dims=2, weights_dir=tmp_path
    )  # fmt: skip
    assert found is not None
    assert found.arch == "resnet18"


def test_a_header_goes_before_a_config_and_that_before_a_name() -> None:
    tag = default_tag("resnet34")
    assert stated_arch({"arch": "resnet18"}, {"architecture": "resnet26"}, tag) == "resnet18"
    assert stated_arch({}, {"architecture": "resnet26"}, tag) == "resnet26"
    assert stated_arch({"arch": "our_net"}, {"architecture": ["resnet26"]}, tag) == "resnet34"
    assert stated_arch({}, {}, None) == ""


def test_weights_found_for_one_network_are_not_put_into_another() -> None:
    weights = dataclasses.replace(weights_of(_resnet18()), arch="resnet18")
    with pytest.raises(WeightsError, match="random-net states"):
        backbone_facts("resnetblur18", spatial_dims=2, weights=weights)


def test_a_network_of_a_plug_in_is_not_compared() -> None:
    require_stated_arch("resnet18", arch="their_net", spatial_dims=2, source="ours.safetensors")


def test_no_release_file_is_of_two_architectures() -> None:
    archs = defaultdict(set)
    for arch in builtin_archs(spatial_dims=2):
        for tag in tags_of(arch).values():
            archs[tag.release_file].add(arch)
    assert [file for file, of in archs.items() if file and len(of) > 1] == []


def test_twins_are_twins_of_each_other() -> None:
    names = builtin_archs(spatial_dims=2)
    twins = {arch: twins_of(arch) for arch in names}
    assert sum(map(bool, twins.values())) == 17
    for arch in names:
        assert all(arch in twins[twin] for twin in twins[arch])
    assert twins_of("their_net") == twins_of("resnet10") == []


def _tensors_of(arch: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    with torch.device("meta"):
        return tuple(sorted(_shapes(build_timm_backbone(arch, in_channels=RGB).net.state_dict()).items()))


@pytest.mark.parametrize("arch", ["resnet18", "convnext_large", "resnet34d"])
def test_twins_have_the_same_tensors(arch: str) -> None:
    assert {_tensors_of(twin) for twin in twins_of(arch)} == {_tensors_of(arch)}


@pytest.mark.slow  # a minute: builds every network
def test_no_other_names_have_the_same_tensors() -> None:
    by_tensors = defaultdict(list)
    for arch in builtin_archs(spatial_dims=2):
        by_tensors[_tensors_of(arch)].append(arch)
    for names in by_tensors.values():
        for arch in names:
            assert sorted([arch, *twins_of(arch)]) == sorted(names)
