"""A file is there whole or not at all, whatever happens to its writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medres.errors import OutputError
from medres.runs.atomic import (
    PART_PREFIX,
    atomic_write,
    atomic_write_json,
    atomic_write_text,
    explained_os_errors,
    require_place,
    require_writable,
    sweep_parts,
)


def test_an_exception_in_the_block_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    atomic_write_text(target, "old")
    with pytest.raises(RuntimeError, match="boom"):
        _fail_while_writing(target)
    assert target.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [target]


def _fail_while_writing(target: Path) -> None:
    with atomic_write(target) as file:
        file.write(b"new")
        raise RuntimeError("boom")


def test_the_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "atomic", "x")
    (tmp_path / "ordinary").write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_nan_is_refused_in_json_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(tmp_path / "scores.json", {"auroc": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_the_systems_refusals_name_the_path_and_the_way_out(number: int, words: str) -> None:
    told = pytest.raises(OutputError, match=rf"/data/out.*{words}.* with --output\.")
    with told, explained_os_errors(Path("/data/out"), option="--output"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(OutputError, match=words) as inside, explained_os_errors(Path("/data/out")):
        raise OSError(number, os.strerror(number))
    assert "--" not in str(inside.value)  # where no option names the place, none is advised


def test_other_os_errors_are_not_disguised() -> None:
    with pytest.raises(FileNotFoundError), explained_os_errors(Path("/data/out")):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_file_in_the_way_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(OutputError, match="Cannot write"):
        require_writable(tmp_path / "runs")
    with pytest.raises(OutputError, match="Cannot write"):
        require_writable(tmp_path / "runs" / "deeper")


_WRITER = """
import sys
from pathlib import Path
from medres.runs.atomic import atomic_write
target = Path(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    number += 1
    with atomic_write(target) as file:
        for _ in range(64):
            file.write(bytes([number % 256]) * 65536)
"""


def test_killed_writers_never_leave_a_truncated_file(tmp_path: Path) -> None:
    target, kills = tmp_path / "weights.bin", 8
    for kill in range(kills):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(target)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.03 + 0.013 * kill)
            writer.send_signal(signal.SIGKILL)
        if target.exists():
            content = target.read_bytes()
            assert len(content) == 64 * 65536
            assert content == content[:1] * len(content)
    orphans = list(tmp_path.glob(f"{PART_PREFIX}*"))
    assert sweep_parts(tmp_path) == len(orphans)
    assert list(tmp_path.glob(f"{PART_PREFIX}*")) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files")
@pytest.mark.parametrize("folder", ["/proc", "/proc/of/nobody"])
def test_where_no_file_can_be(folder: str) -> None:
    with pytest.raises(OutputError, match=rf"Cannot write {folder}: no file can be made there\. Give another folder\."):
        require_writable(Path(folder))
    with pytest.raises(OutputError, match=rf"Cannot write {folder}/scores.txt: no file can be made there"):
        atomic_write_text(Path(folder) / "scores.txt", "0.91")


def test_a_missing_file_inside_the_block_is_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "copy.txt"):
        (tmp_path / "absent.txt").read_bytes()


def test_a_place_is_proved_without_making_anything(tmp_path: Path) -> None:
    require_writable(tmp_path / "runs" / "deeper")
    require_place(tmp_path / "pages" / "inspect.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file/inspect.html", "stands where the folder"), ("file/a/b.html", "not a folder"),
        ("folder", "a folder stands where the file"), ("link/page.html", "stands where the folder"),
        ("x" * 300, "too long"), (f"{'x' * 300}/page.html", "too long"),
    ],
)  # fmt: skip
def test_places_that_cannot_be_written_are_refused_with_their_option(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match=words) as refused:
        require_place(tmp_path / path, option="--html")
    assert "with --html" in refused.value.fix


def test_a_full_disk_is_told_with_the_bytes_that_were_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.txt: the disk is full\. 5,000 bytes are needed\. Free space there"):
        atomic_write_text(tmp_path / "a.txt", "x" * 5000)
    with pytest.raises(OutputError, match=r"b\.bin: the disk is full\. Free space"), atomic_write(tmp_path / "b.bin"):
        pass
    assert list(tmp_path.iterdir()) == []
