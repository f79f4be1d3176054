"""Weights into a folder, from a small hub of our own on loopback; found there without any network afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres import workflows
from medres.errors import ModelError, WeightsError
from medres.models import hub
from medres.models.fetching import published
from medres.models.weights import resolve_weights
from medres.runs.documents import sha256_of
from tests.models.nets import point_hub_to
from tests.models.test_hub import NOBODY, _this_machine_only, own_hub, weights_file  # noqa: F401 -- fixtures


@pytest.mark.usefixtures("own_hub")
@pytest.mark.parametrize(
    ("weights", "file_name"),
    [
        ("imagenet", "test_resnet.r160_in1k.safetensors"),
        ("auto", "test_resnet.r160_in1k.safetensors"),
        ("test_resnet.r160_in1k", "test_resnet.r160_in1k.safetensors"),
        ("hf-hub:hospital/nodules", "hospital--nodules.bin"),
    ],
)
def test_what_was_fetched_is_found_without_network(
    weights: str,
    file_name: str,
    tmp_path: Path,
    weights_file: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "carry" / "weights"
    fetched = workflows.fetch_weights("test_resnet", to=folder, weights=weights)
    assert [path.name for path in folder.iterdir()] == [file_name]
    assert fetched.file == folder / file_name
    assert fetched.sha256 == sha256_of(folder / file_name) == sha256_of(weights_file)
    assert not fetched.was_there
    for text in (fetched.sha256, str(fetched.file), "fetched", "export MEDRES_WEIGHTS_DIR="):
        assert text in fetched.screen()
    assert fetched.summary()["bytes"] == weights_file.stat().st_size
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("the hub was asked"))
    found = resolve_weights(weights, arch="test_resnet", spatial_dims=2, weights_dir=folder)
    assert found is not None
    assert found.sha256 == fetched.sha256
    again = workflows.fetch_weights("test_resnet", to=folder, weights=weights)
    assert again.was_there
    assert "was there already" in again.screen()


@pytest.mark.usefixtures("own_hub")
def test_weights_that_do_not_fit_are_not_left_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not fit resnet18"):
        workflows.fetch_weights("resnet18", to=tmp_path / "carry", weights="hf-hub:hospital/nodules")
    assert list((tmp_path / "carry").iterdir()) == []


@pytest.mark.usefixtures("own_hub")
def test_a_repository_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has neither resnet_50_23dataset\.pth nor resnet_50\.pth"):
        workflows.fetch_weights("resnet50", to=tmp_path, weights="medicalnet")


def test_without_network_it_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_to(NOBODY, tmp_path / "cache", monkeypatch)
    with pytest.raises(WeightsError) as caught:
        workflows.fetch_weights("resnet50", to=tmp_path / "carry", dims=3)
    for words in ("resnet50.a1_in1k, about 102 MB, could not be fetched", "machine with internet",
                  "$MEDRES_WEIGHTS_DIR",
                  "curl -L -o resnet50.a1_in1k.safetensors http://127.0.0.1:9/timm/resnet50.a1_in1k"):  # fmt: skip
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arch", "options", "words"),
    [
        ("resnet10", {"dims": 3}, "no 2D namesake"),
        ("resnet50t", {}, "publishes no ImageNet weights of resnet50t"),
        ("resnet50", {"weights": "resnet18.a1_in1k"}, "of resnet50 are not published. Give imagenet"),
        ("resnet50", {"weights": "mine.pth"}, "Tags of resnet50: resnet50.a1_in1k"),
        ("resnet50", {"weights": "hf-hub:nodules"}, "does not name a repository"),
        ("resent50", {}, "Did you mean resnet50"),
        ("resnet10", {}, "exists in 3D only. For volumes use --dims 3."),
    ],
)
def test_refusals(arch: str, options: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        workflows.fetch_weights(arch, to=tmp_path, **options)
    assert words in str(caught.value), str(caught.value)


def test_medicalnet_is_in_3d_only() -> None:
    with pytest.raises(WeightsError, match="those of 3D networks"):
        published("medicalnet", arch="resnet50", spatial_dims=2)
    assert published("medicalnet", arch="resnet101", spatial_dims=3).file_name("resnet_101.pth") == "resnet_101.pth"
