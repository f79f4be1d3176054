"""Bytes that may be read: of one scan, and by all threads at once."""

import threading
import time

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medres.data.readers import budget, read_scan
from medres.data.readers.budget import MAX_SCAN_VARIABLE, MemoryPool, ReadingBudget, asked_limit, reading_within
from medres.errors import ConfigError, UnreadableScanError

MB = 2**20


def scan_of(folder, megabytes, name="scan.nii.gz"):
    """A file of noise whose voxels have that size."""
    voxels = np.random.default_rng(0).integers(0, 4, (megabytes * MB // 2**17, 256, 256)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / name)
    return folder / name


def budget_of(megabytes, pool=None):
    return ReadingBudget(
        max_scan_bytes=megabytes * MB, pool=MemoryPool(100 * MB, wait_s=0.05) if pool is None else pool
    )


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_scan_is_refused_by_what_it_claims_and_the_sentence_says_the_way_out(tmp_path, suffix):
    path = scan_of(tmp_path, 4, f"a.{suffix}")
    with pytest.raises(UnreadableScanError) as caught, reading_within(budget_of(3)):
        read_scan(path)
    assert "claims 4 MB of voxels, more than the limit of 3 MB" in str(caught.value)
    assert f"{MAX_SCAN_VARIABLE}=4" in str(caught.value)
    with reading_within(budget_of(4)):
        read_scan(path)


def test_what_a_request_took_is_given_back_whatever_happens(tmp_path):
    pool, good = MemoryPool(10 * MB, wait_s=0), scan_of(tmp_path, 4)
    for path in (good, tmp_path / "missing.nii", good):
        try:
            with reading_within(budget_of(8, pool)) as own:
                read_scan(path)
                assert own.taken == 4 * MB
        except UnreadableScanError:
            pass
    assert pool.take(10 * MB)


def test_what_others_hold_is_waited_for_and_then_refused(tmp_path):
    pool, path = MemoryPool(10 * MB, wait_s=5), scan_of(tmp_path, 4)
    pool.take(8 * MB)
    threading.Timer(0.2, pool.give_back, [8 * MB]).start()
    begin = time.monotonic()
    with reading_within(budget_of(8, pool)) as own:
        read_scan(path)
    assert time.monotonic() - begin > 0.15
    pool = MemoryPool(10 * MB, wait_s=0.05)
    pool.take(8 * MB)
    with pytest.raises(UnreadableScanError, match="other requests hold"), reading_within(budget_of(8, pool)) as own:
        read_scan(path)
    assert own.was_busy


def test_a_picture_is_counted_once_and_waits_for_nobody_when_it_is_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 512), dtype=np.uint8)
    for suffix in ("png", "bmp", "tif", "jpg"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        with reading_within(budget_of(2, MemoryPool(3 * MB, wait_s=0.05))) as own:
            read_scan(tmp_path / f"a.{suffix}")
            assert own.taken <= 2 * MB


def test_a_request_that_needs_more_than_the_pool_is_not_told_to_try_again(tmp_path):
    path = scan_of(tmp_path, 4)
    with reading_within(budget_of(8, MemoryPool(10 * MB, wait_s=0.05))) as own:
        read_scan(path)
        read_scan(path)
        with pytest.raises(UnreadableScanError, match="claims 4 MB of voxels, more than the limit of 2 MB"):
            read_scan(path)
        assert not own.was_busy


def test_many_threads_never_hold_more_than_the_pool(monkeypatch):
    pool, held, most = MemoryPool(100, wait_s=10), [0], [0]
    lock = threading.Lock()

    def request(size):
        with reading_within(ReadingBudget(max_scan_bytes=100, pool=pool)):
            budget.claim(size)
            with lock:
                held[0] += size
                most[0] = max(most[0], held[0])
            time.sleep(0.002)
            with lock:
                held[0] -= size

    threads = [threading.Thread(target=request, args=(10 + 7 * (index % 8),)) for index in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 50 < most[0] <= 100
    assert pool.take(100)


def test_without_a_budget_the_environment_decides(tmp_path, monkeypatch):
    path = scan_of(tmp_path, 4)
    monkeypatch.setenv(MAX_SCAN_VARIABLE, "3")
    with pytest.raises(UnreadableScanError, match="claims 4 MB of voxels, more than the limit of 3 MB"):
        read_scan(path)
    monkeypatch.setenv(MAX_SCAN_VARIABLE, "4.5")
    read_scan(path)


@pytest.mark.parametrize("value", ["much", "-3", "0", "nan", "inf", "1e99"])
def test_a_limit_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv(MAX_SCAN_VARIABLE, value)
    with pytest.raises(ConfigError, match="no number of megabytes"):
        asked_limit()


def test_a_budget_is_that_of_its_thread():
    seen = []
    with reading_within(ReadingBudget(max_scan_bytes=1, pool=MemoryPool(1, wait_s=0))):
        thread = threading.Thread(target=lambda: seen.append(budget.claim(50)))
        thread.start()
        thread.join()
        with pytest.raises(UnreadableScanError):
            budget.claim(50)
    assert seen == [None]
