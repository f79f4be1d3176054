"""What can be refused is refused before any scan is read, and leaves the disk as it was; the right command works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medres.data import survey
from medres.data.phantoms import write_phantoms
from tests.integration.conftest import ARCH, inside

#: What is wrong, in the place of what a good command has; ``{tmp}`` is the working folder.
REFUSED: dict[str, tuple[list[str], str]] = {
    "architecture that is none": (["--arch", "resnet5O"], "resnet50"),
    "architecture of volumes, images asked for": (["--arch", "resnet10", "--dims", "2"], "exists in 3D only"),
    "architecture of volumes, pictures given": (["--arch", "resnet10"], "exists in 3D only"),
    "architecture of images, volumes asked for": (["--arch", "resnet50d", "--dims", "3"], "exists in 2D only"),
    "volumes asked for, pictures given": (["--arch", "resnet18", "--dims", "3"], "there is no third axis"),
    "address of a server without support": (["--tracking-uri", "databricks"], "does not support"),
    "address of a folder": (["--tracking-uri", "./mlruns"], "is a folder"),
    "address without a scheme that is known": (["--tracking-uri", "htp://host"], "unknown scheme"),
    "database in the place of a folder": (["--tracking-uri", "sqlite:///{tmp}/p"], "is a folder"),
    "database below a file": (["--tracking-uri", "sqlite:///{tmp}/file/mlflow.db"], "a file stands where the folder"),
    "database that is none": (["--tracking-uri", "sqlite:///{tmp}/file"], "cannot be opened"),
    "output below a file": (["--output", "{tmp}/file/runs"], "with --output"),
    "output where no file can be": (["--output", "/proc/runs"], "no file can be made there"),
    "name that is no folder's": (["--name", "../x"], "not usable as a folder name"),
    "cache below a file": (["--cache-dir", "{tmp}/file/cache"], "with --cache-dir"),
    "name that no registry takes": (["--register", "a/b"], "not usable as the name"),
    "weights that are not there": (["--weights", "{tmp}/none.pth"], "does not exist"),
    "weights that are none": (["--weights", "{tmp}/bad.safetensors"], "bad.safetensors"),
    "weights of another architecture": (["--weights", "resnet50.a1_in1k", "--arch", "resnet18"], "weights of resnet50"),
    "folder of weights that is none": (["--weights", "imagenet", "--weights-dir", "{tmp}/none"], "is not a folder"),
    "recipe that is none": (["--recipe", "lp-tf"], "lp-ft"),
    "device that is none": (["--device", "gpu"], "is unknown"),
    "device that is not there": (["--device", "cuda:99"], "not there"),
    "precision of another device": (["--set", "planning.precision=fp16"], "fp16"),
    "plan that is not there": (["--plan", "{tmp}/plan.yaml"], "plan.yaml"),
    "key that is none": (["--set", "planing.shape=64"], "planing"),
    "finding that is none": (["--exclude-findings", "constat"], "constant"),
    "depth that cannot be dropped": (["--arch", "densenet121", "--set", "optimisation.drop_path=0.1"], "no residual"),
    "more folds than patients": (["--folds", "50"], "--folds"),
    "data that is not there": (["--data", "{tmp}/nowhere"], "does not exist"),
}  # fmt: skip


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    return write_phantoms(folder / "p", modality="MR", spatial_dims=2, num_scans=12, num_classes=2, size=32)


@pytest.fixture
def place(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with data, a file, and weights that are none."""
    shutil.copytree(phantoms, tmp_path / "p")
    (tmp_path / "file").write_text("in the way of folders, and no database\n" * 50)
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(variable)
    return tmp_path


def _command(*changed: str) -> list[str]:
    """Return a good command with some of its options changed."""
    options = {"--data": "p", "--arch": ARCH, "--weights": "none", "--recipe": "linear-probe", "--folds": "2"}
    options |= {"--name": "b", "--output": "runs"}
    several = [text for pair in zip(changed[::2], changed[1::2], strict=True) for text in pair if pair[0] == "--set"]
    options |= {key: value for key, value in zip(changed[::2], changed[1::2], strict=True) if key != "--set"}
    return ["finetune", *(text for pair in options.items() for text in pair), *several]


def _listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_cannot_be_is_refused_before_any_scan_is_read(
    place: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, said = REFUSED[what]
    opened: list[Any] = []
    read = survey.read_sample
    monkeypatch.setattr(survey, "read_sample", lambda scan, **rules: opened.append(scan) or read(scan, **rules))
    before = _listing(place)
    done = inside(*_command(*(text.format(tmp=place) for text in changed)))
    assert done.exit_code in (1, 2), done.output
    assert said in " ".join(done.stderr.split()), done.stderr
    assert sum(line.startswith("medres:") for line in done.stderr.splitlines()) == 1
    assert not opened
    assert _listing(place) == before


def _unreadable(place: Path) -> list[str]:
    next((place / "p").rglob("*.png")).write_bytes(b"\x89PNG cut off")
    return []


def _one_patient(place: Path) -> list[str]:
    """Copies of one picture are one patient's: only their voxels tell that a class has too few."""
    first, *others = sorted((place / "p" / "malignant").glob("*.png"))
    for other in others:
        shutil.copy(first, other)
    return []


def _plan_of_volumes(place: Path) -> list[str]:
    return ["--set", "planning.shape=[32, 32, 32]"]


@pytest.mark.parametrize("spoil", [_unreadable, _one_patient, _plan_of_volumes])
@pytest.mark.parametrize("kept", ["nothing", "the cache and other runs"])
def test_what_only_the_scans_tell_leaves_nothing_either_and_the_right_command_works(
    place: Path, phantoms: Path, spoil: Any, kept: str
) -> None:
    changed = spoil(place)
    if kept != "nothing":
        (place / "runs" / "cache").mkdir(parents=True)
        (place / "runs" / "other").mkdir()
    before = _listing(place)
    done = inside(*_command(*changed), "--no-tracking")
    assert done.exit_code == 1, done.output
    after = _listing(place)
    assert [path for path in after if not path.endswith("survey.json")] == before
    assert kept != "nothing" or after == before
    if spoil is _unreadable and kept == "nothing":
        shutil.rmtree(place / "p")
        shutil.copytree(phantoms, place / "p")
        assert inside(*_command(), "--no-tracking", "-q").exit_code == 0


def test_a_fold_that_there_is_not_is_refused_and_leaves_nothing(place: Path) -> None:
    before = _listing(place)
    for fold, changed in ((2, []), (0, ["--folds", "50"])):
        done = inside(*_command(*changed), "--fold", str(fold))
        assert done.exit_code in (1, 2), done.output
        assert _listing(place) == before


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "runs/none", "p", "-o", "out/deeper/p.csv"],
        ["predict", "models:/none@champion", "p", "-o", "out/p.csv"],
        ["predict", "models:/none@champion", "p", "-o", "out/p.csv", "--tracking-uri", "databricks"],
        ["register", "runs/none", "name"],
        ["track", "sync", "runs/none"],
        ["inspect", "nowhere", "--html", "pages/i.html"],
        ["inspect", "p", "--html", "file/i.html"],
        ["preview", "p", "--html", "pages/v.html", "--arch", "resnet5O"],
        ["preview", "p", "--html", "file/v.html"],
        ["compare", "runs/a", "runs/b", "--html", "pages/c.html"],
        ["finetune", "--resume", "runs/none"],
        ["collect", "runs/none"],
        ["weights", "fetch", "resnet5O", "--to", "weights"],
        ["weights", "fetch", "resnet10", "--to", "weights", "--dims", "3"],
    ],
    ids=" ".join,
)
def test_no_other_command_leaves_anything_when_it_is_refused(place: Path, command: list[str]) -> None:
    before = _listing(place)
    done = inside(*command)
    assert done.exit_code in (1, 2), done.output
    assert done.stderr.count("medres:") == 1
    assert _listing(place) == before
