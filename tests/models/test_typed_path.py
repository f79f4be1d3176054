"""What a user typed as weights and is no path: names, and texts that no path can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.errors import WeightsError
from medres.models.typed_path import NAMED_WEIGHTS, existing_path
from medres.models.weights import resolve_weights

#: No path can be any of them: too long, the home of nobody, a NUL, and nothing at all.
NO_PATHS = ("x" * 300, "~nobody-of-this-name/x.pth", "x\0.pth", "", " ")


def test_a_file_and_a_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ours.pth").touch()
    assert existing_path(str(tmp_path)) == tmp_path
    assert existing_path("~/ours.pth") == existing_path(str(tmp_path / "ours.pth")) == tmp_path / "ours.pth"
    assert existing_path("~/theirs.pth") is None


@pytest.mark.parametrize("name", NAMED_WEIGHTS)
def test_a_name_is_no_path_whatever_lies_about(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert existing_path(name) is None
    assert existing_path(f"./{name}") == Path(name)


@pytest.mark.parametrize("weights", NO_PATHS, ids=["long", "nobody", "nul", "empty", "blank"])
@pytest.mark.parametrize("with_folder", [True, False])
def test_what_cannot_be_a_path_is_refused_as_other_weights_are(
    weights: str, with_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDRES_WEIGHTS_DIR", raising=False)
    assert existing_path(weights) is None
    with pytest.raises(WeightsError, match=r"does not exist|neither a file|an empty text"):
        resolve_weights(weights, arch="resnet18", spatial_dims=2, weights_dir=tmp_path if with_folder else None)


@pytest.mark.parametrize("folder", ["x" * 300, "~nobody-of-this-name/weights"])
def test_a_weights_folder_that_cannot_be(folder: str) -> None:
    with pytest.raises(WeightsError, match="is not a folder"):
        resolve_weights("imagenet", arch="resnet18", spatial_dims=2, weights_dir=Path(folder))


def test_a_closed_folder_is_said_to_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(WeightsError, match=r"closed/ours\.pth cannot be looked at: Permission denied"):
        existing_path("closed/ours.pth")
