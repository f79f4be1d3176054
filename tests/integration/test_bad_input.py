"""Bad input: exit code 1, one message with the way out, no traceback, no half-made run, nothing touched."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.integration.conftest import ARCH, command, inside


def _images(folder: Path, counts: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(folder / label / f"{label}{index}.png")
    return folder


def _empty(folder: Path) -> list[str | Path]:
    folder.mkdir()
    return ["--data", folder]


def _missing(folder: Path) -> list[str | Path]:
    return ["--data", folder / "nowhere"]


def _one_patient(folder: Path) -> list[str | Path]:
    return ["--data", _images(folder, {"benign": 12, "malignant": 1})]


def _nothing_trained(folder: Path) -> list[str | Path]:
    return ["--data", _images(folder, {"benign": 12, "malignant": 12}), "--epochs", "0"]


def _one_class(folder: Path) -> list[str | Path]:
    return ["--data", _images(folder, {"benign": 12})]


def _missing_file(folder: Path) -> list[str | Path]:
    _images(folder, {"a": 6, "b": 6})
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows, "a/gone.png,a"]))
    return ["--data", folder]


def _corrupt(folder: Path) -> list[str | Path]:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for index in range(5):
            image = nib.Nifti1Image(rng.integers(0, 900, (12, 12, 12), dtype=np.int16), np.eye(4))
            nib.save(image, folder / label / f"{label}{index}.nii.gz")
    victim = folder / "a" / "a3.nii.gz"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    return ["--data", folder]


def _truncated_weights(folder: Path) -> list[str | Path]:
    (folder.parent / "weights.safetensors").write_bytes(gzip.compress(b"not weights"))
    return ["--data", _images(folder, {"a": 6, "b": 6}), "--weights", folder.parent / "weights.safetensors"]


def _unknown_arch(folder: Path) -> list[str | Path]:
    return ["--data", _images(folder, {"a": 6, "b": 6}), "--arch", "resnet5O"]


def _unwritable(folder: Path) -> list[str | Path]:
    (folder.parent / "file").write_text("in the way")
    return ["--data", _images(folder, {"a": 6, "b": 6}), "--output", folder.parent / "file" / "runs"]


def _absent_device(folder: Path) -> list[str | Path]:
    return ["--data", _images(folder, {"a": 6, "b": 6}), "--device", "cuda:99"]


CASES = [
    (_empty, ["no scan", "labels.csv"]),
    (_missing, ["nowhere", "does not exist"]),
    (_one_patient, ["malignant", "has 1", "add scans"]),
    (_one_class, ["benign", "class"]),
    (_nothing_trained, ["epochs is 0", "full would train nothing"]),
    (_missing_file, ["gone.png"]),
    (_corrupt, ["a3.nii.gz", "damaged"]),
    (_truncated_weights, ["weights.safetensors"]),
    (_unknown_arch, ["resnet5O", "resnet50"]),
    (_unwritable, ["Cannot write", "--output"]),
    (_absent_device, ["cuda:99", "--device cpu"]),
]


@pytest.mark.parametrize(("make", "words"), CASES, ids=[case[0].__name__.lstrip("_") for case in CASES])
def test_one_clear_message(make: object, words: list[str], tmp_path: Path) -> None:
    assert callable(make)
    arguments = make(tmp_path / "scans")
    for name, value in (("--arch", ARCH), ("--weights", "none"), ("--output", tmp_path / "runs"), ("--name", "x")):
        if name not in arguments:
            arguments += [name, value]
    done = inside("finetune", *arguments)
    assert done.exit_code == 1, done.stderr
    message = done.stderr.splitlines()
    for word in words:
        assert word.lower() in done.stderr.lower(), done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith("medres:") for line in message) == 1
    assert not (tmp_path / "runs" / "x").exists()
    assert not list(tmp_path.rglob(".part-*"))
    assert done.stdout == ""


def test_options_that_do_not_exist_are_a_usage_error(tmp_path: Path) -> None:
    assert command("finetune", "--dta", tmp_path).returncode == 2
    assert command("finetun").returncode == 2


def test_a_finished_run_is_never_overwritten(phantoms: Path, run: object, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "metrics.json").write_text("{}")
    arguments = ["--data", phantoms, "--arch", ARCH, "--weights", "none", "--output", tmp_path, "--name", "kept"]
    done = inside("finetune", *arguments)
    assert done.exit_code == 1
    assert "already holds a run" in done.stderr
    assert (tmp_path / "kept" / "metrics.json").read_text() == "{}"


def test_predict_names_what_it_could_not_read_and_predicts_the_rest(
    phantoms: Path, run: object, tmp_path: Path
) -> None:
    path = run.path  # type: ignore[attr-defined]
    good = next(phantoms.rglob("*.png"))
    shutil.copy(good, tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:200])
    done = inside("predict", path, tmp_path / "good.png", tmp_path / "bad.png", "-o", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "bad.png" in done.stderr
    assert "1 of 2 scans" in done.stderr
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 3
    assert any(row.startswith(("good", "bad")) for row in rows[1:])


def test_predict_without_a_model_says_what_to_give(tmp_path: Path, phantoms: Path) -> None:
    done = inside("predict", tmp_path / "none", phantoms, "-o", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "does not exist" in done.stderr
    assert not (tmp_path / "out.csv").exists()
