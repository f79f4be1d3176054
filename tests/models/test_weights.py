"""From what a user types to tensors: where weights are looked for, in which order, and every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medres.errors import ModelError, WeightsError
from medres.models import hub
from medres.models.input_statistics import IMAGENET, stated_in_config, stated_in_header
from medres.models.names import list_archs
from medres.models.timm_tags import default_tag, download_bytes, tag_of_file, tags_of
from medres.models.weights import no_weights_reason, resolve_weights
from medres.runs.documents import sha256_of
from tests.models.nets import count_connections, point_hub_to, random_net, save_net


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return random_net("test_resnet")


@pytest.fixture(autouse=True)
def _no_weights_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDRES_WEIGHTS_DIR", raising=False)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A hub on a port that nobody listens to, and an empty cache."""
    point_hub_to("http://127.0.0.1:9", tmp_path_factory.mktemp("hub"), monkeypatch)


def _resolve(weights: str, **options: object) -> object:
    return resolve_weights(weights, **{"arch": "test_resnet", "spatial_dims": 2, **options})  # type: ignore[arg-type]


def test_a_path(net: nn.Module, tmp_path: Path) -> None:
    path = save_net(net, tmp_path / "ours.safetensors", mean="0.2,0.3,0.4", std="0.5,0.6,0.7", input_size="3,160,160")
    weights = resolve_weights(str(path), arch="test_resnet", spatial_dims=2)
    assert weights is not None
    assert weights.source == "ours.safetensors"
    assert (weights.mean, weights.std, weights.input_size) == ((0.2, 0.3, 0.4), (0.5, 0.6, 0.7), 160)
    assert weights.sha256 == sha256_of(path)
    assert weights.notes == ()
    assert set(weights.tensors) == set(net.state_dict())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".th", ".ckpt"])
def test_torch_files_assume_imagenet_statistics_and_say_so(net: nn.Module, tmp_path: Path, suffix: str) -> None:
    torch.save(net.state_dict(), tmp_path / f"ours{suffix}")
    weights = resolve_weights(str(tmp_path / f"ours{suffix}"), arch="test_resnet", spatial_dims=2)
    assert weights is not None
    assert (weights.mean, weights.std, weights.input_size) == (IMAGENET.mean, IMAGENET.std, None)
    assert weights.notes == ("their input statistics are not stated: ImageNet's are assumed",)


@pytest.mark.parametrize("by_variable", [True, False])
@pytest.mark.parametrize(
    ("weights", "file_name"),
    [
        ("imagenet", "test_resnet.r160_in1k.safetensors"),
        ("imagenet", "test_resnet.safetensors"),
        ("auto", "test_resnet.pth"),
        ("test_resnet.r160_in1k", "test_resnet.r160_in1k.pth"),
        ("ours", "ours.safetensors"),
        ("ours.v2", "ours.v2.safetensors"),
        ("ours.safetensors", "ours.safetensors"),
        ("hf-hub:hospital/nodules", "hospital--nodules.safetensors"),
        ("hf_hub:hospital/nodules", "hospital--nodules.bin"),
    ],
)
def test_the_weights_folder_comes_first(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, file_name: str, by_variable: bool
) -> None:
    save_net(net, tmp_path / file_name)
    if by_variable:
        monkeypatch.setenv("MEDRES_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("the hub was asked"))
    found = resolve_weights(weights, arch="test_resnet", spatial_dims=2, weights_dir=None if by_variable else tmp_path)
    assert found is not None
    assert found.source == file_name


def test_the_tag_is_preferred_to_the_architecture(net: nn.Module, tmp_path: Path) -> None:
    save_net(net, tmp_path / "test_resnet.safetensors")
    save_net(net, tmp_path / "test_resnet.r160_in1k.safetensors")
    found = resolve_weights("imagenet", arch="test_resnet", spatial_dims=2, weights_dir=tmp_path)
    assert found is not None
    assert found.source == "test_resnet.r160_in1k.safetensors"
    assert found.input_size == 160


def test_weights_of_the_2d_namesake_serve_in_3d(tmp_path: Path) -> None:
    save_net(random_net("resnet18"), tmp_path / "resnet18.a1_in1k.safetensors")
    found = resolve_weights("auto", arch="resnet18", spatial_dims=3, weights_dir=tmp_path)
    assert found is not None
    assert found.tensors["conv1.weight"].ndim == 4


def test_the_release_name_of_torchvision_is_known(tmp_path: Path) -> None:
    torch.save(random_net("resnet18").state_dict(), tmp_path / "resnet18-f37072fd.pth")
    found = resolve_weights("resnet18.tv_in1k", arch="resnet18", spatial_dims=2, weights_dir=tmp_path)
    assert found is not None
    assert found.source == "resnet18-f37072fd.pth"
    assert "the SHA-256 does NOT agree with the file name" in found.notes
    assert "their input statistics are not stated: ImageNet's are assumed" not in found.notes


def test_statistics_and_licence_of_a_tag(tmp_path: Path) -> None:
    save_net(random_net("resnetv2_18"), tmp_path / "resnetv2_18.ra4_e3600_r224_in1k.safetensors")
    save_net(random_net("resnet18"), tmp_path / "resnet18.fb_ssl_yfcc100m_ft_in1k.safetensors")
    found = resolve_weights("imagenet", arch="resnetv2_18", spatial_dims=2, weights_dir=tmp_path)
    bound = resolve_weights("resnet18.fb_ssl_yfcc100m_ft_in1k", arch="resnet18", spatial_dims=2, weights_dir=tmp_path)
    assert found is not None
    assert bound is not None
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert bound.notes == ("licence cc-by-nc-4.0",)


@pytest.mark.parametrize("weights", ["none", "auto"])
def test_random_weights(weights: str) -> None:
    assert resolve_weights(weights, arch="resnet10", spatial_dims=3) is None


def test_reasons_for_random_weights() -> None:
    assert "no 2D namesake" in no_weights_reason("resnet10", spatial_dims=3)
    assert "publishes no ImageNet weights of resnet200" in no_weights_reason("resnet200", spatial_dims=3)
    assert "publishes no ImageNet weights of resnet50t" in no_weights_reason("resnet50t", spatial_dims=2)
    assert resolve_weights("auto", arch="resnet50t", spatial_dims=2) is None
    known = [arch for arch in list_archs(spatial_dims=2) if not no_weights_reason(arch, spatial_dims=2)]
    assert len(known) > 80
    assert all(default_tag(arch) for arch in known)


@pytest.mark.parametrize(
    ("weights", "options", "words"),
    [
        ("imagenet", {"arch": "resnet10", "spatial_dims": 3}, ["no 2D namesake", "--weights none"]),
        ("imagenet", {"arch": "resnet50t"}, ["publishes no ImageNet weights of resnet50t"]),
        ("medicalnet", {"arch": "resnet50"}, ["those of 3D networks"]),
        ("resnet18.a1_in1k", {"arch": "resnet50"}, ["are weights of resnet18, not of resnet50", "--arch resnet18"]),
        ("resnet50.a9_in1k", {"arch": "resnet50"}, ["neither a file", "resnet50.a1_in1k"]),
        ("imagnet", {}, ["neither a file", "imagenet"]),
        ("missing.pth", {}, ["missing.pth does not exist", "not set"]),
        ("folder/missing", {}, ["does not exist"]),
        ("hf-hub:nodules", {}, ["does not name a repository"]),
    ],
)
def test_refusals(weights: str, options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        _resolve(weights, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_given_file_needs_no_weights_folder(net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRES_WEIGHTS_DIR", str(tmp_path / "absent"))
    assert _resolve(str(save_net(net, tmp_path / "ours.safetensors"))) is not None
    with pytest.raises(WeightsError, match=r"absent \(\$MEDRES_WEIGHTS_DIR\) is not a folder"):
        _resolve("imagenet")


def test_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither a run nor a bundle"):
        _resolve(str(tmp_path))
    with pytest.raises(WeightsError, match=r"absent \(weights_dir\) is not a folder"):
        _resolve("imagenet", weights_dir=tmp_path / "absent")


def test_an_unknown_architecture_is_found_first() -> None:
    with pytest.raises(ModelError, match="Did you mean resnet50"):
        _resolve("imagenet", arch="resent50")


@pytest.mark.parametrize("weights", ["imagenet", "auto", "test_resnet.r160_in1k", "hf-hub:timm/test_resnet.r160_in1k"])
@pytest.mark.usefixtures("offline")
def test_offline_machines_learn_it_quickly_and_completely(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = count_connections(monkeypatch)
    with pytest.raises(WeightsError) as caught:
        _resolve(weights, weights_dir=tmp_path)
    assert tried == [hub.PATIENCE_S]  # once: the hub's own client would try six times, for 23 seconds
    assert hub.PATIENCE_S < 5
    message = str(caught.value)
    assert "http://127.0.0.1:9/timm/test_resnet.r160_in1k" in message
    for word in (
        "not on this machine",
        "curl -L -o",
        "/resolve/main/model.safetensors",
        "MEDRES_WEIGHTS_DIR",
        "--weights none",
    ):
        assert word in message
    assert str(tmp_path) in message
    assert ("about 2 MB" in message) == (not weights.startswith("hf-hub"))


@pytest.mark.usefixtures("offline")
def test_what_the_offline_message_says_works(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        _resolve("imagenet", weights_dir=tmp_path)
    words = str(caught.value).split()
    save_net(net, tmp_path / words[words.index("-o") + 1])
    assert _resolve("imagenet", weights_dir=tmp_path) is not None


def test_tags_by_file_name() -> None:
    assert len(tags_of("resnet50")) > 10
    for name, tag in tags_of("resnet50").items():
        assert tag_of_file(f"{name}.safetensors") == tag_of_file(name) == tag
        assert tag.arch == "resnet50"
    tag = default_tag("resnet50")
    assert tag is not None
    assert download_bytes(tag) == pytest.approx(102.5e6, rel=0.01)


@pytest.mark.parametrize(
    "metadata",
    [
        {"mean": "a,b,c", "std": "1,1,1"},
        {"mean": "0.5,0.5", "std": "1,1,1"},
        {"mean": "0.5", "std": "0"},
        {"mean": "0.5", "std": "nan"},
        {"mean": "0.5", "std": "0.5", "input_size": "large"},
    ],
)
def test_impossible_statistics_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match=r"ours\.safetensors states input statistics that cannot be"):
        stated_in_header(metadata, "ours.safetensors")


@pytest.mark.parametrize("text", ["{}", "not json", "[]", '{"pretrained_cfg": {"mean": [0.5]}}'])
def test_a_config_without_statistics(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert stated_in_config(tmp_path / "config.json") is None
