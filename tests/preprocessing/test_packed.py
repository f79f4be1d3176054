from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from medres.errors import DataError, OutputError
from medres.preprocessing import segments
from medres.preprocessing.packed import PackedCache

SHAPE = (2, 3, 4)
KEY = "ab" * 32


def row(number: int, dtype: type = np.int16) -> np.ndarray:
    return (np.arange(24).reshape(SHAPE) + 100 * number).astype(dtype)


def rows(*numbers: int) -> list[tuple[str, np.ndarray]]:
    return [(f"scan {number}", row(number)) for number in numbers]


def open_cache(folder: Path, *, key: str = KEY, segment_bytes: int = 1, **changes: object) -> PackedCache:
    """Open a cache that closes a segment after every row."""
    values: dict[str, object] = {"shape": SHAPE, "dtype": np.int16} | changes
    return PackedCache(folder, key=key, segment_bytes=segment_bytes, **values)  # type: ignore[arg-type]


def assert_holds(cache: PackedCache, *numbers: int) -> None:
    keys = [f"scan {number}" for number in numbers]
    assert cache.contains(keys)
    assert np.array_equal(cache.read(keys), np.stack([row(number) for number in numbers]))


def index_of(cache: PackedCache) -> Path:
    return cache.folder / "index.json"


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.uint8])
def test_rows_come_back_bit_for_bit_in_the_order_asked_for(tmp_path: Path, dtype: type) -> None:
    cache = open_cache(tmp_path, dtype=dtype, segment_bytes=100)
    cache.add((f"scan {number}", row(number % 2, dtype)) for number in range(7))
    for reopened in (cache, open_cache(tmp_path, dtype=dtype)):
        read = reopened.read(["scan 3", "scan 0", "scan 3"])
        assert read.dtype == dtype
        assert np.array_equal(read, np.stack([row(1, dtype), row(0, dtype), row(1, dtype)]))
        assert len(reopened) == 7


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(1))
    cache.read(["scan 1"])[:] = 0
    assert_holds(cache, 1)


def test_it_grows_by_rows_and_never_rewrites(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0, 1))
    before = {path.name: path.stat().st_mtime_ns for path in cache.folder.glob("*.bin")}
    cache.add(rows(1, 2))
    after = {path.name: path.stat().st_mtime_ns for path in cache.folder.glob("*.bin")}
    assert after.items() > before.items()
    assert len(after) == 3
    assert_holds(open_cache(tmp_path), 0, 1, 2)


def test_keys_live_apart(tmp_path: Path) -> None:
    open_cache(tmp_path).add(rows(0))
    assert len(open_cache(tmp_path, key="cd" * 32)) == 0


def test_what_is_missing_is_named_and_not_read(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0))
    assert cache.missing(["scan 0", "scan 5", "scan 5", "scan 4"]) == ["scan 5", "scan 4"]
    assert not cache.contains(["scan 0", "scan 5"])
    with pytest.raises(DataError, match="1 of 2 scans are not in the cache"):
        cache.read(["scan 0", "scan 5"])


@pytest.mark.parametrize("wrong", [np.zeros((1, 3, 4), np.int16), np.zeros(SHAPE, np.float32)])
def test_a_row_of_another_kind_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="in a cache of"):
        open_cache(tmp_path).add([("scan 0", wrong)])


def test_what_came_before_a_failure_is_kept(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[str, np.ndarray]]:
        yield from rows(0, 1)
        raise RuntimeError("a reader's bug")

    with pytest.raises(RuntimeError, match="bug"):
        open_cache(tmp_path, segment_bytes=10**9).add(failing())
    assert_holds(open_cache(tmp_path), 0, 1)


def test_a_segment_is_closed_by_age_too(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, segment_bytes=10**9, segment_seconds=0.0)
    cache.add(rows(0, 1, 2))
    assert len(list(cache.folder.glob("*.bin"))) == 3


def test_the_index_can_be_read_by_a_person(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0))
    document = json.loads(index_of(cache).read_text())
    assert document["format"] == 1
    assert document["key"] == KEY
    assert document["segments"][0]["file"] == "segment-1.bin"
    assert document["segments"][0]["samples"]["scan 0"][:2] == [0, list(SHAPE)]


def emptied(path: Path) -> None:
    path.write_text("")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    path.write_bytes(b"\x00\xff" * 40)


def of_another_format(path: Path) -> None:
    path.write_text(path.read_text().replace('"format":1', '"format":2'))


def without_samples(path: Path) -> None:
    path.write_text('{"format":1}')


def removed(path: Path) -> None:
    path.unlink()


INDEX_DAMAGES = [emptied, truncated, overwritten, of_another_format, without_samples, removed]


@pytest.mark.parametrize("damage", INDEX_DAMAGES)
def test_a_damaged_index_is_rebuilt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0, 1))
    damage(index_of(cache))
    healed = open_cache(tmp_path)
    assert len(healed) == 0
    healed.add(rows(1, 2))
    assert_holds(open_cache(tmp_path), 1, 2)
    assert len(list(healed.folder.glob("*.bin"))) == 2  # what the index did not name is swept


@pytest.mark.parametrize(
    "swap",
    [
        ('"segment-1.bin"', '"../segment-1.bin"'),
        ("[0,[2,3,4]", "[2,[2,3,4]"),
        ("[2,3,4]", "[4,3,2]"),
        (KEY, "cd" * 32),
        ("<i2", "<u2"),
    ],
)
def test_an_index_that_does_not_fit_its_segments_is_not_believed(tmp_path: Path, swap: tuple[str, str]) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0))
    text = index_of(cache).read_text()
    assert swap[0] in text
    index_of(cache).write_text(text.replace(*swap))
    healed = open_cache(tmp_path)
    assert len(healed) == 0
    healed.add(rows(0))
    assert_holds(healed, 0)


@pytest.mark.parametrize("damage", [emptied, truncated, removed, lambda path: path.write_bytes(path.read_bytes() * 2)])
def test_a_segment_of_another_size_is_prepared_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0, 1))
    damage(cache.folder / "segment-1.bin")
    healed = open_cache(tmp_path)
    assert healed.missing(["scan 0", "scan 1"]) == ["scan 0"]
    healed.add(rows(0))
    assert_holds(open_cache(tmp_path), 0, 1)


@pytest.mark.parametrize("noticed_late", [False, True])
def test_flipped_bits_are_never_handed_out(tmp_path: Path, noticed_late: bool) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0, 1))
    segment = cache.folder / "segment-1.bin"
    content = bytearray(segment.read_bytes())
    content[5] ^= 4
    segment.write_bytes(content)
    reader = cache if noticed_late else open_cache(tmp_path)
    with pytest.raises(OutputError, match=r"segment-1\.bin is damaged.*prepared anew the next time"):
        reader.read(["scan 1", "scan 0"])
    healed = open_cache(tmp_path)
    assert healed.missing(["scan 0", "scan 1"]) == ["scan 0"]
    healed.add(rows(0))
    assert_holds(healed, 0, 1)


@pytest.mark.parametrize("damage", [emptied, truncated, removed])
def test_a_segment_that_is_lost_while_it_is_in_use_is_an_error(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache = open_cache(tmp_path, segment_bytes=200)
    cache.add(rows(0, 1, 2, 3, 4))
    damage(cache.folder / "segment-1.bin")
    with pytest.raises(OutputError, match=r"segment-1\.bin"):
        cache.read(["scan 4", "scan 3", "scan 2", "scan 1", "scan 0"])


WRITER = textwrap.dedent(f"""
    import sys, time
    from pathlib import Path
    import numpy as np
    from medres.preprocessing.packed import PackedCache
    cache = PackedCache(Path(sys.argv[1]), key="{KEY}", shape={SHAPE}, dtype=np.int16, segment_bytes=1)
    print("ready", flush=True)
    def slowly():
        for number in range(int(sys.argv[2])):
            time.sleep(0.001)
            yield f"scan {{number}}", (np.arange(24).reshape({SHAPE}) + 100 * number).astype(np.int16)
    cache.add(slowly())
""")


def test_a_writer_killed_at_any_moment_leaves_a_cache_that_heals(tmp_path: Path) -> None:
    delays = random.Random(0)
    sizes = [0]
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "400"], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delays.uniform(0.0, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        cache = open_cache(tmp_path)
        sizes.append(len(cache))
        if sizes[-1]:  # a writer that is killed at once has written nothing that could be compared
            assert_holds(cache, *range(len(cache)))  # written in order: what is there is there from the first on
    assert sizes == sorted(sizes)
    assert len({size for size in sizes if 0 < size < 400}) >= 3  # kills did strike in the middle of the work
    healed = open_cache(tmp_path)
    healed.add(rows(*range(400)))
    assert_holds(open_cache(tmp_path), *range(400))
    named = {segment["file"] for segment in json.loads(index_of(healed).read_text())["segments"]}
    assert {path.name for path in healed.folder.iterdir()} == named | {"index.json", ".lock"}


def test_processes_that_fill_one_cache_wait_for_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), "100"]
    writers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    cache = open_cache(tmp_path)
    assert_holds(cache, *range(100))
    assert len(list(cache.folder.glob("*.bin"))) == 100  # nothing was written twice


def test_threads_may_write_and_read_at_once(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)

    def work(first: int) -> None:
        open_cache(tmp_path).add(rows(*range(first, first + 5)))
        cache.add(rows(*range(first, first + 5)))
        assert_holds(cache, *range(first, first + 5))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, 40, 5)))
    assert_holds(open_cache(tmp_path), *range(40))


def test_waiting_for_another_writer_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    holder = open_cache(tmp_path)

    def wait() -> None:
        with open_cache(tmp_path).locked(on_wait=lambda: said.append("waiting")):
            said.append("through")

    with ThreadPoolExecutor(1) as pool:
        with holder.locked():
            waiting = pool.submit(wait)
            while not said:
                time.sleep(0.01)
            assert said == ["waiting"]
            holder.add(rows(0))  # the holder itself does not wait
        waiting.result(timeout=20)
    assert said == ["waiting", "through"]


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_cache(tmp_path)
    cache.add(rows(0))
    monkeypatch.setattr(segments.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7}))
    with pytest.raises(OutputError, match=r"48 bytes are needed, 7 are free\. .*--cache-dir") as caught:
        cache.add(rows(1))
    assert str(cache.folder) in str(caught.value)
    monkeypatch.undo()
    cache.add(rows(1))
    assert_holds(open_cache(tmp_path), 0, 1)


def test_a_disk_that_fills_up_while_writing_leaves_no_half_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache(tmp_path, segment_bytes=10**9)
    cache.add(rows(0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"the disk is full\. 96 bytes are needed"):
        cache.add(rows(1, 2))
    monkeypatch.undo()
    assert [path.name for path in cache.folder.glob("*.bin")] == ["segment-1.bin"]
    cache.add(rows(1, 2))
    assert_holds(open_cache(tmp_path), 0, 1, 2)


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    shape, number = (1, 256, 1024), 200  # 100 MiB of int16 in segments of 4 MiB
    cache = PackedCache(tmp_path, key=KEY, shape=shape, dtype=np.int16, segment_bytes=4 * 2**20)
    process = psutil.Process()
    before = process.memory_info().rss
    most = 0
    one = np.random.default_rng(0).integers(-1000, 1000, size=shape).astype(np.int16)

    def prepared() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal most
        for n in range(number):
            most = max(most, process.memory_info().rss)
            yield f"scan {n}", one + np.int16(n)

    cache.add(prepared())
    for n in range(0, number, 2):
        batch = cache.read([f"scan {n}", f"scan {number - 1 - n}"])
        assert np.array_equal(batch[0], one + np.int16(n))
        most = max(most, process.memory_info().rss)
    assert most - before < 40 * 2**20
