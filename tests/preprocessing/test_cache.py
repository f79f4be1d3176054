from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medres.data.image import ScanImage
from medres.data.readers import read_scan
from medres.data.table import Scan, ScanTable
from medres.errors import DataError, OutputError
from medres.preprocessing import cache as cache_module
from medres.preprocessing import segments
from medres.preprocessing.cache import prepare_table
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Silent
from tests.preprocessing.examples import make_plan


class Seen(Silent):
    """Remember what a progress bar would show."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.done = 0
        self.notes: list[str] = []

    def track(self, items: Iterable[Any], *, description: str, total: int) -> Iterator[Any]:
        self.totals.append(total)
        for item in items:
            yield item
            self.done += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


class Counting(Preprocessor):
    """Count what is prepared."""

    prepared = 0
    lock = threading.Lock()

    def prepare(self, image: ScanImage) -> Any:
        with self.lock:
            self.prepared += 1
        return super().prepare(image)


def write_table(folder: Path, number: int, *, twice: int = 0) -> ScanTable:
    """Write images, the first ``twice`` of them under two names, and return their table."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    scans = []
    for n in range(number):
        pixels = rng.integers(0, 256, size=(20, 24)).astype(np.uint8)
        for copy in range(1 + (n < twice)):
            path = folder / f"{n}-{copy}.png"
            Image.fromarray(pixels).save(path)
            scans.append(
                Scan(sample_id=path.stem, patient_id=path.stem, path=path, content_hash=read_scan(path).content_hash)
            )
    return ScanTable(root=folder, scans=tuple(scans), classes=(), source="test")


def counting(**changes: Any) -> Counting:
    return Counting(make_plan(spatial_dims=2, shape=(16, 16), **changes))


def test_every_scan_is_prepared_as_the_preprocessor_does(tmp_path: Path) -> None:
    table, preprocessor, progress = write_table(tmp_path / "scans", 9), counting(), Seen()
    cache = prepare_table(table, preprocessor=preprocessor, cache_dir=tmp_path / "c", images={}, progress=progress)
    stored = cache.read([scan.content_hash for scan in table])
    for scan, row in zip(table, stored, strict=True):
        assert np.array_equal(row, preprocessor.prepare(read_scan(scan.path))[0])
    assert (progress.totals, progress.done) == ([9], 9)


def test_equal_scans_are_prepared_once_and_a_second_run_prepares_nothing(tmp_path: Path) -> None:
    table, preprocessor = write_table(tmp_path / "scans", 5, twice=3), counting()
    for _ in range(2):
        cache = prepare_table(table, preprocessor=preprocessor, cache_dir=tmp_path / "c", images={}, progress=Silent())
        assert (len(table), len(cache), preprocessor.prepared) == (8, 5, 5)


def test_new_scans_are_added_to_the_old(tmp_path: Path) -> None:
    table, preprocessor, progress = write_table(tmp_path / "scans", 6), counting(), Seen()
    prepare_table(table.subset([0, 1]), preprocessor=preprocessor, cache_dir=tmp_path, images={}, progress=progress)
    prepare_table(table, preprocessor=preprocessor, cache_dir=tmp_path, images={}, progress=progress)
    assert preprocessor.prepared == 6
    assert progress.totals == [2, 4]


def test_decoded_scans_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_table(tmp_path / "scans", 3)
    images = {scan.sample_id: read_scan(scan.path) for scan in table}
    monkeypatch.setattr(cache_module, "read_sample", lambda *_, **__: pytest.fail("read again"))
    cache = prepare_table(table, preprocessor=counting(), cache_dir=tmp_path, images=images, progress=Silent())
    assert len(cache) == 3


def test_plans_that_store_the_same_share_a_cache(tmp_path: Path) -> None:
    table, first = write_table(tmp_path / "scans", 3), counting()
    second = counting(batch_size=7, augmentation={"noise": 0.5})
    other = counting(crop="foreground")
    for preprocessor in (first, second, other):
        prepare_table(table, preprocessor=preprocessor, cache_dir=tmp_path / "c", images={}, progress=Silent())
    assert (first.prepared, second.prepared, other.prepared) == (3, 0, 3)


def test_bad_scans_are_all_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    table = write_table(tmp_path / "scans", 16)
    for scan in table.scans[:12]:
        scan.path.write_bytes(b"no scan")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "scans" / "volume.nii.gz")
    volume = tmp_path / "scans" / "volume.nii.gz"
    scan = Scan(sample_id="v", patient_id="v", path=volume, content_hash=read_scan(volume).content_hash)
    table = ScanTable(root=table.root, scans=(scan, *table.scans), classes=(), source="test")
    preprocessor = counting()
    with pytest.raises(DataError, match="13 of 17 scans cannot be prepared") as caught:
        prepare_table(table, preprocessor=preprocessor, cache_dir=tmp_path / "c", images={}, progress=Silent())
    message = str(caught.value)
    assert f"{volume}: The scan is a volume of 4 x 5 x 6 voxels" in message
    assert "--dims 3" in message
    assert sum(str(bad.path) in message for bad in table) == 10
    assert message.endswith("... and 3 more.")
    good = table.subset([13, 14, 15, 16])
    before = preprocessor.prepared
    prepare_table(good, preprocessor=preprocessor, cache_dir=tmp_path / "c", images={}, progress=Silent())
    assert preprocessor.prepared == before


def test_a_file_that_changed_since_the_survey_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "scans", 2)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(table.scans[1].path)
    with pytest.raises(DataError, match="has changed since it was surveyed"):
        prepare_table(table, preprocessor=counting(), cache_dir=tmp_path, images={}, progress=Silent())


def test_a_table_without_hashes_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "scans", 2).with_content_hashes({"0-0": "", "1-0": ""})
    with pytest.raises(DataError, match="has no content hash"):
        prepare_table(table, preprocessor=counting(), cache_dir=tmp_path, images={}, progress=Silent())


def test_what_cannot_fit_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, preprocessor = write_table(tmp_path / "scans", 4), counting()
    monkeypatch.setattr(segments.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match="1,024 bytes are needed, 1,000 are free"):
        prepare_table(table, preprocessor=preprocessor, cache_dir=tmp_path / "c", images={}, progress=Silent())
    assert preprocessor.prepared == 0


def test_a_bug_in_a_worker_is_not_swallowed(tmp_path: Path) -> None:
    class Broken(Counting):
        def prepare(self, image: ScanImage) -> Any:
            raise ZeroDivisionError("a bug")

    preprocessor = Broken(make_plan(spatial_dims=2))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        prepare_table(
            write_table(tmp_path / "s", 3), preprocessor=preprocessor, cache_dir=tmp_path, images={}, progress=Silent()
        )
