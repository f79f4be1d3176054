"""Weights files on the command line: what is recorded of a good one, and one clear message for each bad one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import medres
from medres.models.factory import create_model
from medres.models.loading import LoadingReport
from medres.runs.documents import sha256_of
from medres.runs.events import read_events
from tests.integration.conftest import ARCH, inside

Tensors = dict[str, torch.Tensor]


def _tensors() -> Tensors:
    torch.manual_seed(0)
    return dict(create_model(ARCH, num_classes=2, in_channels=3).backbone.net.state_dict())


@pytest.fixture(scope="module")
def started(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[medres.Run, Path, str]:
    """A run from a file whose name claims another SHA-256, and what the terminal said."""
    folder = tmp_path_factory.mktemp("weights")
    file = folder / "ours-deadbeef.safetensors"
    safetensors.torch.save_file({**_tensors(), "fc.bias": torch.zeros(9)}, file)
    answer = inside(
        "finetune", "--data", phantoms, "--arch", ARCH, "--weights", file, "--recipe", "linear-probe", "--folds", "2",
        "--output", folder, "--name", "started", "--no-tracking",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    return medres.Run(folder / "started"), file, answer.output


def test_the_sha256_is_printed_and_recorded(started: tuple[medres.Run, Path, str]) -> None:
    run, file, output = started
    sha256 = sha256_of(file)
    assert f"weights: {file.name} (SHA-256 {sha256}): " in output
    assert "the SHA-256 does NOT agree with the file name" in output
    report = LoadingReport.read(run.path / "weights.json")
    assert (report.source, report.sha256) == (file.name, sha256)
    assert report.left_out == {"fc.bias": "classifier"}
    net = create_model(ARCH, num_classes=2).backbone.net.state_dict()
    assert {*report.taken, *report.adapted} >= {name for name in net if not name.endswith("offset_kernel")}
    event = next(event for event in read_events(run.folder.events) if event["kind"] == "weights")
    assert (event["sha256"], event["taken"]) == (sha256, len(report.taken))
    assert json.loads((run.path / "model" / "bundle.json").read_text())["weights_sha256"] == sha256
    for page in ("model/card.md", "report.html"):
        assert sha256 in (run.path / page).read_text(), page
    assert "does NOT agree" in (run.path / "report.html").read_text()
    for kept in (event, report.to_mapping()):
        assert str(file.parent) not in json.dumps(kept)


def test_random_weights_are_said_to_be_random(run: medres.Run) -> None:
    assert LoadingReport.read(run.path / "weights.json").summary() == "random weights (as asked)"
    assert "Pretrained weights" not in run.report_path.read_text()


def _safetensors(change: Callable[[Tensors], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        tensors = _tensors()
        change(tensors)
        safetensors.torch.save_file(tensors, path)

    return write


def _cut(path: Path) -> None:
    safetensors.torch.save_file(_tensors(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_torch(path: Path) -> None:
    torch.save(_tensors(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "shape": ("a.safetensors", _safetensors(lambda t: t.update({"layer1.0.conv1.weight": torch.zeros(3, 3, 5, 5)})),
              "1 of another shape (layer1.0.conv1.weight: weights 3x3x5x5, network "),
    "missing": ("a.safetensors", _safetensors(lambda t: t.pop("layer2.0.bn1.bias")), "1 missing (layer2.0.bn1.bias)"),
    "unexpected": ("a.safetensors", _safetensors(lambda t: t.update({"extra.weight": torch.zeros(2)})),
                   "1 not in the network (extra.weight)"),
    "quantised": ("a.safetensors", _safetensors(lambda t: t.update(
        {"layer2.0.bn1.weight": t["layer2.0.bn1.weight"].to(torch.int8)})), "1 of another type (layer2.0.bn1.weight"),
    "pickle": ("a.pth", lambda path: torch.save({"state_dict": _tensors(), "made": Path("x")}, path),
               "a.pth cannot be opened without pickle (pathlib."),
    "plain pickle": ("a.pkl", lambda path: path.write_bytes(pickle.dumps({"made": Path("x")})),
                     "a.pkl cannot be opened without pickle"),
    "truncated": ("a.safetensors", _cut, "a.safetensors is truncated or damaged"),
    "truncated torch file": ("a.pth", _cut_torch, "a.pth is truncated or damaged"),
    "empty": ("a.pth", lambda path: path.touch(), "a.pth is empty (0 bytes)"),
    "a page": ("a.pth", lambda path: path.write_text("<html>"), "neither a safetensors nor a torch file"),
    "wrong name": ("a-deadbeef.pth", lambda path: torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3)}, path),
                   "The SHA-256 does NOT agree with the file name."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_clear_message_on_the_command_line(name: str, phantoms: Path, tmp_path: Path) -> None:
    file_name, write, words = BAD[name]
    write(tmp_path / file_name)
    answer = inside(
        "finetune", "--data", phantoms, "--arch", ARCH, "--weights", tmp_path / file_name, "--output",
        tmp_path / "runs", "--cache-dir", phantoms.parent / "weights-cache", "--no-tracking", "--quiet",
    )  # fmt: skip
    assert answer.exit_code == 1
    assert words in answer.output
    assert answer.output.startswith("medres: ")
    assert answer.output.count("\n") == 1
    assert not (tmp_path / "runs").exists()  # nothing is left behind


def test_an_empty_name_is_no_folder(phantoms: Path, tmp_path: Path) -> None:
    for option, words in (("--weights", "The weights are an empty text."), ("--arch", "Architecture '' is not known.")):
        answer = inside("finetune", "--data", phantoms, "--arch", ARCH, option, "", "--output", tmp_path, "--quiet")
        assert (answer.exit_code, answer.output.startswith(f"medres: {words}")) == (1, True), answer.output
