from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medres.data.readers import read_scan
from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_mask, read_sample, sample_key, scan_files, scan_identity
from medres.data.statistics import scan_statistics
from medres.data.table import Scan
from medres.errors import UnreadableScanError
from tests.data.test_regions import oblique, ras

SHAPE = (16, 15, 14)
WHOLE = ReadingRules()
REGION = ReadingRules(roi_size_mm=(9, 9, 9))


def write(path: Path, voxels: Any, affine: Any = None) -> Path:
    nib.save(nib.Nifti1Image(voxels, oblique() if affine is None else affine), path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """Two sequences and a mask whose centre is the centre."""
    rng = np.random.default_rng(0)
    t1, t2 = (rng.integers(0, 999, SHAPE).astype(np.int16) for _ in range(2))
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:7, 5:8, 6:9] = 1
    first = write(tmp_path / "t1.nii.gz", t1)
    return Scan(
        sample_id="a", patient_id="a", path=first, mask=write(tmp_path / "mask.nii.gz", mask),
        sequences={"t1": first, "t2": write(tmp_path / "t2.nii.gz", t2)},
        center_ras_mm=tuple(float(v) for v in ras(oblique(), (5, 6, 7))),  # type: ignore[arg-type]
    )  # fmt: skip


def plain(scan: Scan) -> Scan:
    return replace(scan, sequences={}, mask=None, center_ras_mm=None)


def test_a_plain_file_is_what_its_reader_says(scan: Scan) -> None:
    expected = read_scan(scan.path)
    for found in (read_sample(plain(scan), rules=WHOLE), read_sample(replace(scan, sequences={}), rules=WHOLE)):
        np.testing.assert_array_equal(found.voxels, expected.voxels)
        assert (found.content_hash, found.region, found.channel_names) == (expected.content_hash, None, ())


def test_rules_say_which_sequences_and_in_which_order(scan: Scan) -> None:
    both = read_sample(scan, rules=WHOLE)
    assert both.channel_names == ("t1", "t2")
    turned = read_sample(scan, rules=ReadingRules(sequences=("t2", "t1")))
    np.testing.assert_array_equal(turned.voxels, both.voxels[::-1])
    one = read_sample(scan, rules=ReadingRules(sequences=("t2",)))
    np.testing.assert_array_equal(one.voxels, both.voxels[1:])
    lone = read_sample(plain(scan), rules=ReadingRules(sequences=("t1",)))  # a plain file is enough
    assert (lone.channel_names, lone.content_hash) == (("t1",), read_scan(scan.path).content_hash)


def test_centre_and_mask_cut_out_the_same_and_keep_the_hash_of_the_whole(scan: Scan) -> None:
    by_center = read_sample(scan, rules=REGION)
    by_mask = read_sample(replace(scan, center_ras_mm=None), rules=REGION)
    np.testing.assert_array_equal(by_center.voxels, by_mask.voxels)
    assert by_center.voxels.shape == (2, 6, 11, 4)
    whole = read_sample(scan, rules=WHOLE)
    assert by_center.content_hash == whole.content_hash
    (a, b), (c, d), (e, f) = by_center.region or ()
    np.testing.assert_array_equal(by_center.voxels, whole.voxels[:, a:b, c:d, e:f])


def test_a_region_is_known_for_what_its_scan_is(tmp_path: Path) -> None:
    hu = np.full((30, 30, 30), -1000, np.int16)
    hu[8:22, 8:22, 8:22] = np.random.default_rng(0).integers(20, 60, (14, 14, 14))
    scan = Scan(
        sample_id="a", patient_id="a", path=write(tmp_path / "ct.nii.gz", hu, np.eye(4)), center_ras_mm=(15, 15, 15)
    )
    region = read_sample(scan, rules=REGION)
    statistics = scan_statistics(region)
    assert region.voxels.min() >= 20  # 8 bits are enough for it
    assert statistics.modality == "CT"
    assert "minimum -1000 (air)" in statistics.evidence


def test_a_centre_spares_the_mask(scan: Scan, tmp_path: Path) -> None:
    absent = replace(scan, mask=tmp_path / "absent.nii.gz")
    assert read_sample(absent, rules=REGION).region == read_sample(scan, rules=REGION).region
    assert read_mask(plain(scan)) is None


@pytest.mark.parametrize(
    ("change", "rules", "code"),
    [
        ({"center_ras_mm": None, "mask": None}, REGION, "roi-unknown"),
        ({"center_ras_mm": (900.0, 0.0, 0.0)}, REGION, "roi-outside"),
        ({}, ReadingRules(sequences=("t1", "flair")), "sequence-missing"),
        ({"sequences": {}}, ReadingRules(sequences=("t1", "t2")), "sequence-missing"),
        ({"center_ras_mm": None, "mask": Path("absent.nii")}, REGION, "file-missing"),
    ],
)
def test_what_is_missing_is_told_with_the_file_and_the_way_out(
    scan: Scan, change: Any, rules: ReadingRules, code: str
) -> None:
    with pytest.raises(UnreadableScanError) as caught:
        read_sample(replace(scan, **change), rules=rules)
    assert caught.value.code == code
    assert ".nii" in caught.value.problem
    assert caught.value.problem.endswith(".")
    assert caught.value.fix


def test_keys_tell_regions_apart_and_leave_whole_scans_as_they_were(scan: Scan) -> None:
    from medres.data.content import placed_hash

    def key(row: Scan, rules: ReadingRules) -> str:
        image = read_sample(row, rules=rules)
        return sample_key(replace(row, content_hash=image.content_hash), scan_statistics(image))

    image = read_scan(scan.path)
    statistics = scan_statistics(image)
    expected = placed_hash(image.content_hash, spacing_mm=image.spacing_mm, orientation=statistics.orientation)
    assert key(plain(scan), WHOLE) == expected
    moved = replace(scan, center_ras_mm=tuple(float(v) for v in ras(oblique(), (9, 6, 7))))  # type: ignore[arg-type]
    keys = {key(row, rules) for row in (scan, moved) for rules in (WHOLE, REGION)}
    assert len(keys) == 3  # the whole scan is one sample
    assert key(scan, REGION) == key(replace(scan, center_ras_mm=None), REGION)


def test_identities_differ_wherever_the_sample_may(scan: Scan) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"center_ras_mm": (1.0, 2.0, 3.0)}, {"mask": None}, {"sequences": {}}, {"member": "x"},
        {"files": (scan.path,)}, {"path": Path("other")}, {"sequences": dict(reversed(scan.sequences.items()))},
    ]  # fmt: skip
    rules = [WHOLE, REGION, ReadingRules(volume=1)]
    identities = {scan_identity(replace(scan, **change), rules=rule) for change in changes for rule in rules}
    assert len(identities) == len(changes) * len(rules)
    renamed = replace(scan, sample_id="b", patient_id="c", label="d", content_hash="e")
    assert scan_identity(renamed, rules=WHOLE) == scan_identity(scan, rules=WHOLE)


def test_all_files_of_a_scan_are_listed_once(scan: Scan, tmp_path: Path) -> None:
    assert [file.name for file in scan_files(scan)] == ["t1.nii.gz", "t2.nii.gz", "mask.nii.gz"]
    assert scan_files(plain(scan)) == (scan.path,)
    for name in ("a.mhd", "a.raw", "b.raw"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in scan_files(replace(plain(scan), path=tmp_path / "a.mhd"))] == ["a.mhd", "a.raw"]
    series = tmp_path / "series" / "deep"
    series.mkdir(parents=True)
    for name in ("2.dcm", "1.dcm"):
        (series / name).write_bytes(b"")
    folder = replace(plain(scan), path=tmp_path / "series")
    assert [file.name for file in scan_files(folder)] == ["1.dcm", "2.dcm"]
    listed = replace(folder, files=(series / "2.dcm",))
    assert scan_files(listed) == (series / "2.dcm",)
