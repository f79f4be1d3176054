"""Files of tensors: recognised by content, unwrapped by name, refused with one message each."""

from __future__ import annotations

import argparse
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medres.errors import WeightsError
from medres.models.checkpoints import hash_note, read_checkpoint
from medres.models.key_styles import unwrapped

TENSORS = {"conv1.weight": torch.randn(4, 3, 3, 3), "bn1.running_mean": torch.randn(4), "fc.bias": torch.randn(2)}


def _wrapped(prefix: str, *, fc: str | None = None) -> dict[str, torch.Tensor]:
    names = {name: f"{prefix}{name}" for name in TENSORS}
    if fc is not None:
        names["fc.bias"] = fc
    return {names[name]: tensor for name, tensor in TENSORS.items()}


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        _wrapped("module."),
        {"state_dict": _wrapped("module."), "epoch": 3, "best_prec1": 0.9},
        {"state_dict": _wrapped("model."), "pytorch-lightning_version": "2.0"},
        {"model": TENSORS, "optimizer": {"state": {}, "param_groups": []}},
        {"state_dict": {"model": TENSORS}},
        _wrapped("backbone.", fc="fc.bias"),
        _wrapped("backbone.net.", fc="fc.bias"),
        _wrapped("module.encoder.", fc="module.fc.bias"),
        _wrapped("_orig_mod."),
        {**_wrapped("model."), "criterion.weight": torch.ones(2)},
    ],
    ids=[
        "plain", "DataParallel", "training-state", "Lightning", "nested", "twice", "backbone", "medres", "encoder",
        "compiled", "with-loss",
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".pth", ".th", ".bin"])
def test_key_styles(tmp_path: Path, content: dict[str, Any], suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(content, path)
    checkpoint = read_checkpoint(path)
    found = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith("criterion")}
    assert set(found) == set(TENSORS)
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_with_metadata_under_any_name(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "weights.pth"  # the content decides
    counter = torch.tensor(7)
    save_file({"conv1.weight": torch.ones(2, dtype=dtype), "n": counter}, path, {"mean": "0.5"})
    checkpoint = read_checkpoint(path)
    assert checkpoint.tensors["conv1.weight"].dtype == torch.float32
    assert checkpoint.tensors["n"].dtype == torch.int64
    assert checkpoint.metadata == {"mean": "0.5"}


def test_old_torch_format(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(tmp_path / "old.pth").tensors) == set(TENSORS)


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/medres-test-attack"),))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": TENSORS, "args": argparse.Namespace(lr=1)},
        {"state_dict": TENSORS, "best": np.float64(3)},
        torch.nn.Linear(2, 2),
        {"state_dict": TENSORS, "attack": _Attack()},
    ],
    ids=["namespace", "numpy", "module", "attack"],
)
def test_what_needs_pickle_is_refused_and_not_run(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth cannot be opened without pickle .* run code") as caught:
        read_checkpoint(tmp_path / "weights.pth")
    assert "save_file" in caught.value.fix
    assert not Path("/tmp/medres-test-attack").exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(pickle.dumps({"conv1.weight": np.zeros(3)}))
    with pytest.raises(WeightsError, match="without pickle"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "old-torch"])
def test_truncated_files(tmp_path: Path, kind: str, fraction: float) -> None:
    path = tmp_path / "weights.bin"
    tensors = {"conv1.weight": torch.randn(5000), "bn1.weight": torch.randn(100)}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "torch")
    content = path.read_bytes()
    path.write_bytes(content[: max(4, int(len(content) * fraction))])
    with pytest.raises(WeightsError, match=r"weights\.bin is (truncated or damaged|neither)") as caught:
        read_checkpoint(path)
    assert "Fetch it again" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46827520\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "neither a safetensors nor a torch file"),
    ],
)
def test_other_content(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [[torch.ones(2)], {"epoch": 3}, {}, torch.ones(2)])
def test_files_without_named_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    torch.save({**TENSORS, "bn1.running_var": torch.tensor([1.0, value])}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"not finite in bn1\.running_var"):
        read_checkpoint(tmp_path / "weights.pth")


def test_negative_variances(tmp_path: Path) -> None:
    torch.save({**TENSORS, "bn1.running_var": torch.tensor([1.0, -0.1])}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"negative variances in bn1\.running_var"):
        read_checkpoint(tmp_path / "weights.pth")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(tmp_path / "weights.pth")


def test_given_tensors_are_left_as_found() -> None:
    given = _wrapped("module.")
    unwrapped(given)
    assert set(given) == set(_wrapped("module."))


def test_hash_in_the_name() -> None:
    assert "agrees" in hash_note(Path("resnet50_a1_0-14fe96d1.pth"), "14fe96d1" + "0" * 56)
    assert "NOT" in hash_note(Path("resnet50_a1_0-14fe96d1.pth"), "0" * 64)
    assert hash_note(Path("resnet50-20240131.pth"), "0" * 64) == ""


@pytest.mark.filterwarnings("ignore")  # torch calls its own kinds of tensors deprecated or unfinished
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised"),
        (lambda x: torch.quantize_per_channel(x, torch.ones(4), torch.zeros(4), 0, torch.qint8), "quantised"),
        (lambda x: torch.empty(x.shape, dtype=torch.bits8), "quantised"),
        (lambda x: x.to_sparse(), "sparse"),
        (lambda x: x.to_sparse_csr(), "sparse"),
        (lambda x: x.to("meta"), "without values, on torch's meta device"),
        (lambda x: x.to(torch.complex64), "complex"),
    ],
    ids=["quantised", "by-channel", "bits", "sparse", "sparse-rows", "meta", "complex"],
)
def test_tensors_that_are_no_plain_numbers(make: Any, kind: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {**TENSORS, "bn1.running_var": make(torch.rand(4, 4))}}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(tmp_path / "odd.pth")
    assert f"odd.pth holds tensors that are no plain numbers: bn1.running_var ({kind})." in str(caught.value)
