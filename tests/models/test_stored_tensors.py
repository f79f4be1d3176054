"""Tensors that are larger than what a file stores of them are refused before a byte is taken for them."""

from __future__ import annotations

import resource
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._utils import _rebuild_tensor_v2

from medres.errors import WeightsError
from medres.models.checkpoints import read_checkpoint

BLOCK = torch.zeros(100, 100)


class _Grown:
    """Pickled as a tensor of sizes beyond its storage."""

    def __reduce__(self) -> tuple[Any, ...]:
        storage = torch.zeros(4).storage()
        return _rebuild_tensor_v2, (storage, 0, (50_000, 50_000), (50_000, 1), False, OrderedDict())


def _compressed(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1000, 1000)}, path.with_suffix(".plain"))
    with zipfile.ZipFile(path.with_suffix(".plain")) as plain, zipfile.ZipFile(path, "w") as packed:
        for record in plain.infolist():
            packed.writestr(record.filename, plain.read(record.filename), zipfile.ZIP_DEFLATED)


def _another_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive_format", "pt2")


def _saved(tensor: Any, *, old: bool = False) -> Callable[[Path], None]:
    content = {"state_dict": {"bn1.bias": torch.ones(3), "conv1.weight": tensor}}
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=not old)


def _sparse(path: Path) -> None:
    _saved(torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (10**9, 10**9)))(path)


SMALLER: dict[str, tuple[Callable[[Path], Any], str]] = {
    "expanded": (
        _saved(torch.zeros(1).expand(50_000, 50_000)),
        "declares conv1.weight as 50,000 x 50,000 (10,000,000,000 bytes), and stores 4 bytes of it",
    ),
    "expanded-old": (_saved(torch.zeros(1).expand(50_000, 50_000), old=True), "and stores 4 bytes of it"),
    "overlapping": (_saved(torch.zeros(20_000).as_strided((10_000, 10_000), (1, 1))), "and stores 80,000 bytes of it"),
    "views": (_saved(BLOCK[:1].expand(300, 100)), "and stores"),
    "grown": (_saved(_Grown()), "grown.pth is truncated or damaged"),
    "grown-old": (_saved(_Grown(), old=True), "grown-old.pth is truncated or damaged"),
    "sparse": (_sparse, "(sparse)"),
    "meta": (_saved(torch.empty(10**6, 10**6, device="meta")), "meta device"),
    "compressed": (_compressed, "holds a compressed record ("),
    "another-archive": (_another_archive, "is a zip archive, but none of torch.save (it holds archive_format)"),
}


@pytest.mark.filterwarnings("ignore")  # torch calls its own kinds of tensors deprecated or unfinished
@pytest.mark.parametrize("case", SMALLER)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".th", ".pt2"])
def test_refused_before_anything_is_taken(case: str, suffix: str, tmp_path: Path) -> None:
    write, words = SMALLER[case]
    path = tmp_path / f"{case}{suffix}"
    write(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    assert words.replace(".pth", suffix) in str(caught.value)
    assert caught.value.fix
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; the least of these is 400 MB


@pytest.mark.parametrize("size", [100, 2_000, -1])
def test_torch_opens_no_archive_whose_records_are_not_known(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own reader might find some where Python's finds none."""
    torch.save({"conv1.weight": BLOCK}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:size])
    opened: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda path, **_: opened.append(path) or {"conv1.weight": BLOCK})
    with pytest.raises(WeightsError, match=r"cut\.pth is truncated or damaged"):
        read_checkpoint(tmp_path / "cut.pth")
    assert not opened
    read_checkpoint(tmp_path / "whole.pth")
    assert opened == [tmp_path / "whole.pth"]


def test_many_names_of_one_block(tmp_path: Path) -> None:
    torch.save({f"layer{number}.weight": BLOCK for number in range(200)}, tmp_path / "many.pth")
    with pytest.raises(WeightsError, match=r"declares 200 tensors of 8,000,000 bytes together"):
        read_checkpoint(tmp_path / "many.pth")


def test_tied_weights_are_read(tmp_path: Path) -> None:
    torch.save({"a.weight": BLOCK, "b.weight": BLOCK}, tmp_path / "tied.pth")
    assert len(read_checkpoint(tmp_path / "tied.pth").tensors) == 2


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    """The file is mapped while it is checked; what is handed out is a copy."""
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.ones(100, 100)}, path)
    tensors = read_checkpoint(path).tensors
    content = bytearray(path.read_bytes())
    with path.open("r+b") as file:  # in place, so that a mapping would see it
        file.write(bytes(len(content)))
    assert torch.equal(tensors["conv1.weight"], torch.ones(100, 100))


def test_a_larger_network_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medres.models.stored_tensors.MAX_NUMBERS", 9_999)
    torch.save({"conv1.weight": BLOCK}, tmp_path / "large.pth")
    with pytest.raises(WeightsError, match="holds a network of 10,000 numbers"):
        read_checkpoint(tmp_path / "large.pth")
