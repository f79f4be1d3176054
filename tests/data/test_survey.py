import json
import re
from collections import Counter

import numpy as np
import pytest

from medres.data import survey as survey_module
from medres.data.findings import Finding, read_findings, write_findings
from medres.data.readers import read_scan
from medres.data.sources import load_scans
from medres.data.survey import survey_scans
from medres.errors import ConfigError, DataError, OutputError
from medres.runs.progress import Silent
from tests.data.making import volume, write_medmnist, write_nifti, write_png, write_pngs


class Counting(Silent):
    def __init__(self):
        self.seen = []

    def track(self, items, *, description, total):
        for item in items:
            self.seen.append((description, total))
            yield item


@pytest.fixture
def root(tmp_path):
    return write_pngs(tmp_path / "scans", [f"{label}/{n}.png" for label in "ab" for n in range(5)])


def surveyed(root, **options):
    return survey_scans(load_scans(root), progress=Silent(), **options)


def codes(survey):
    return {finding.code: finding for finding in survey.findings}


def test_every_scan_is_read_hashed_and_kept(root):
    progress = Counting()
    table = load_scans(root)
    survey = survey_scans(table, progress=progress)
    assert progress.seen == [("reading scans", 10)] * 10
    assert set(survey.statistics) == set(survey.images) == {scan.sample_id for scan in table}
    for scan in survey.table:
        assert scan.content_hash == survey.images[scan.sample_id].content_hash == read_scan(scan.path).content_hash
    assert survey.findings == ()


def test_images_are_kept_while_they_fit(root):
    survey = surveyed(root, memory_bytes=3 * 48)  # 8 x 6 pixels each
    assert list(survey.images) == ["a/0", "a/1", "a/2"]
    assert len(survey.statistics) == 10


def test_identical_images_are_kept_once(root):
    write_png(root / "b/copy.png", seed=0)
    survey = surveyed(root, memory_bytes=10 * 48)
    assert len(survey.images) == 11
    assert survey.images["b/copy"] is survey.images["a/0"]


def test_identical_voxels_in_another_place_are_not_exchanged(tmp_path):
    write_nifti(tmp_path / "a/1.nii", affine=np.diag([1.0, 1, 1, 1]))
    write_nifti(tmp_path / "b/1.nii", affine=np.diag([2.0, 2, 2, 1]))
    images = surveyed(tmp_path).images
    assert images["a/1"].content_hash == images["b/1"].content_hash
    assert (images["a/1"].spacing_mm, images["b/1"].spacing_mm) == ((1, 1, 1), (2, 2, 2))


def test_a_second_survey_decodes_nothing(root, tmp_path, monkeypatch):
    memory = tmp_path / "cache/survey.json"
    first = surveyed(root, remember=memory)
    monkeypatch.setattr(survey_module, "read_sample", lambda *args, **kwargs: pytest.fail("decoded again"))
    second = surveyed(root, remember=memory)
    assert (second.statistics, second.findings, second.table) == (first.statistics, first.findings, first.table)
    assert second.images == {}
    assert json.loads(memory.read_text())["format"] == 1


def test_a_changed_file_is_read_again_and_the_others_are_not(root, tmp_path, monkeypatch):
    memory, reads = tmp_path / "survey.json", []
    before = surveyed(root, remember=memory)
    write_png(root / "a/0.png", seed=99)
    monkeypatch.setattr(survey_module, "read_sample", lambda path, **kwargs: reads.append(path.name) or read_scan(path))
    after = surveyed(root, remember=memory)
    assert reads == ["0.png"]
    assert after.table.scans[0].content_hash != before.table.scans[0].content_hash
    assert len(json.loads(memory.read_text())["scans"]) == 10


def test_what_other_data_left_is_kept(root, tmp_path):
    memory = tmp_path / "survey.json"
    surveyed(root, remember=memory)
    surveyed(write_pngs(tmp_path / "other", ["x/1.png", "y/1.png"], first_seed=50), remember=memory)
    assert len(json.loads(memory.read_text())["scans"]) == 12


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "{}", '{"format": 1, "version": 0, "scans": {}}'])
def test_a_damaged_memory_is_forgotten(root, tmp_path, content):
    memory = tmp_path / "survey.json"
    memory.write_text(content)
    assert len(surveyed(root, remember=memory).images) == 10
    assert surveyed(root, remember=memory).images == {}


def test_a_damaged_entry_is_computed_again(root, tmp_path):
    memory = tmp_path / "survey.json"
    surveyed(root, remember=memory)
    document = json.loads(memory.read_text())
    document["scans"] = {key: {"content_hash": "x"} for key in document["scans"]}
    memory.write_text(json.dumps(document))
    assert all(len(scan.content_hash) == 64 for scan in surveyed(root, remember=memory).table)


def test_a_memory_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        surveyed(root, remember=tmp_path / "file/survey.json")


# --- errors: all of them at once


def spoil(root, number):
    for n in range(number):
        (root / f"a/bad{n:02}.png").write_bytes(b"nonsense")


def test_one_bad_file_is_one_message(root):
    spoil(root, 1)
    with pytest.raises(DataError, match=r"bad00.png is no known scan format. Supported are") as caught:
        surveyed(root)
    assert "errors" not in str(caught.value)


def test_all_bad_files_are_named_in_one_error(root):
    spoil(root, 13)
    with pytest.raises(DataError, match=r"(?s)The data has 13 errors:\n  .*bad00.png .*\n  ... and 3 more.") as caught:
        surveyed(root)
    assert len(set(re.findall(r"bad\d\d", str(caught.value)))) == 10


def test_a_bad_file_does_not_stop_the_others(root, tmp_path):
    spoil(root, 2)
    survey = surveyed(root, refuse=False, remember=tmp_path / "survey.json")
    assert len(survey.statistics) == 10
    assert Counter(finding.code for finding in survey.findings) == {"unreadable": 2}
    assert {finding.severity for finding in survey.findings} == {"error"}
    assert [scan.content_hash for scan in survey.table if "bad" in scan.sample_id] == ["", ""]
    with pytest.raises(DataError, match="2 errors"):
        surveyed(root, remember=tmp_path / "survey.json")


def test_constant_scans_are_refused(root):
    write_png(root / "a/blank.png", pixels=np.full((8, 6), 7, dtype=np.uint8))
    with pytest.raises(DataError, match=r"blank.png has the value 7 everywhere. Leave it out"):
        surveyed(root)


def test_images_and_volumes_are_not_mixed(root):
    write_nifti(root / "a/volume.nii.gz")
    with pytest.raises(DataError, match=r"mixes images and volumes: 10 2D and 1 3D \(a/volume\)"):
        surveyed(root)


# --- findings


def test_copies_are_found(root):
    write_png(root / "a/copy.png", seed=0)
    finding = codes(surveyed(root))["identical-scans"]
    assert finding.severity == "info"
    assert "1 extra copy with the same voxels as another scan, 1 group: a/0 = a/copy." in finding.value


def test_copies_with_other_labels_are_a_warning(root):
    write_png(root / "b/copy.png", seed=0)
    finding = codes(surveyed(root))["contradicting-labels"]
    assert (finding.severity, "a/0 (a) = b/copy (b)" in finding.value) == ("warning", True)


@pytest.mark.parametrize(("patients", "severity"), [("pq", "warning"), ("pp", "info")])
def test_copies_across_patients_are_a_warning(root, patients, severity):
    write_png(root / "a/copy.png", seed=0)
    rows = [f"a/0.png,a,{patients[0]}", f"a/copy.png,a,{patients[1]}", "b/0.png,b,r", "b/1.png,b,s"]
    (root / "labels.csv").write_text("path,label,patient_id\n" + "\n".join(rows))
    finding = codes(surveyed(root))["identical-scans"]
    assert finding.severity == severity
    assert ("across patients" in finding.value) == (severity == "warning")


def test_colour_among_grey_and_transparency(root):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 6, 4), dtype=np.uint8)
    write_png(root / "a/colour.png", pixels=pixels)
    found = codes(surveyed(root))
    assert "1 of 11 are true colour (e.g. a/colour)" in found["mixed-color"].value
    assert found["transparency-ignored"].sample_id == "a/colour"


def test_mixed_modalities(tmp_path):
    for label in "ab":
        write_nifti(tmp_path / label / "ct.nii.gz", volume((9, 9, 9), seed=ord(label)))
    mr = np.abs(np.random.default_rng(0).normal(0, 400, (9, 9, 9))).astype(np.int16)
    write_nifti(tmp_path / "a/mr.nii.gz", mr)
    finding = codes(surveyed(tmp_path))["mixed-modality"]
    assert (finding.severity, finding.value) == ("warning", "Found 2 CT, 1 MR (e.g. a/mr).")


def test_notes_of_the_readers_are_findings(tmp_path):
    for n, label in enumerate("aabb"):
        write_nifti(tmp_path / f"{label}/{n}.nii.gz", volume(seed=n), sform_code=0, qform_code=0)
    finding = codes(surveyed(tmp_path))["orientation-unknown"]
    assert (finding.severity, finding.sample_id) == ("warning", None)
    assert finding.value.startswith("4 scans: neither sform nor qform is set")


# --- threads


def test_members_of_an_archive(tmp_path):
    survey = surveyed(write_medmnist(tmp_path / "x.npz"))
    assert len(survey.images) == 14
    assert all(image.voxels.base is None or image.voxels.base.nbytes < 1000 for image in survey.images.values())


# --- the file of findings


def test_findings_are_written_errors_first(tmp_path):
    findings = [Finding(code=code, severity=code, rule="r", value="v") for code in ("info", "error", "warning")]
    write_findings(tmp_path / "findings.json", findings)
    assert [finding.code for finding in read_findings(tmp_path / "findings.json")] == ["error", "warning", "info"]
    assert json.loads((tmp_path / "findings.json").read_text())["format"] == 1
    (tmp_path / "findings.json").write_text('{"format": 1, "findings": [{"code": "x"}]}')
    with pytest.raises(ConfigError, match=r"findings.0.severity: is required"):
        read_findings(tmp_path / "findings.json")


@pytest.mark.real
def test_real_copies(real_data):
    survey = surveyed(real_data / "brain_mri_tumor")
    hashes = Counter(scan.content_hash for scan in survey.table)
    assert sum(count - 1 for count in hashes.values()) == 25
    assert "25 extra copies" in codes(survey)["identical-scans"].value
    assert "35 of 253 are true colour" in codes(survey)["mixed-color"].value
