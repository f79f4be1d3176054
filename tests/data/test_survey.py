import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from medres.data import survey as survey_module
from medres.data.findings import Finding, read_findings, summarise, write_findings
from medres.data.leakage import leakage_findings
from medres.data.readers import read_scan
from medres.data.sources import load_scans
from medres.data.survey import survey_scans
from medres.errors import ConfigError, DataError, OutputError, UsageError
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
    monkeypatch.setattr(
        survey_module, "read_sample", lambda scan, **kwargs: reads.append(scan.path.name) or read_scan(scan.path)
    )
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
    assert Counter(finding.code for finding in survey.findings) == {"unknown-format": 2}
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
    with pytest.raises(DataError, match=r"volume.nii.gz is a volume \(3D\); the data set mixes .*: 10 2D and 1 3D\."):
        surveyed(root)


def test_every_kind_of_error_is_named_however_many_there_are_of_one(root):
    spoil(root, 30)
    write_png(root / "b/zz.png", pixels=np.full((8, 6), 7, dtype=np.uint8))
    with pytest.raises(DataError, match=r"31 errors(?s:.*)zz.png has the value 7(?s:.*)and 21 more"):
        surveyed(root)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("Doe^John"), RecursionError(), KeyError("x"), OSError(5)])
def test_whatever_a_library_raises_is_a_finding(root, monkeypatch, error):
    def read(scan, **kwargs):
        if scan.sample_id == "a/3":
            raise error
        return read_scan(scan.path)

    monkeypatch.setattr(survey_module, "read_sample", read)
    survey = surveyed(root, refuse=False)
    [finding] = survey.findings
    assert (finding.code, finding.sample_id, len(survey.statistics)) == ("unreadable", "a/3", 9)
    assert type(error).__name__ in finding.value
    assert "Doe" not in finding.value + finding.fix


def test_an_interrupt_is_no_finding(root, monkeypatch):
    def read(scan, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(survey_module, "read_sample", read)
    with pytest.raises(KeyboardInterrupt):
        surveyed(root, refuse=False)


def test_images_that_will_not_be_kept_are_let_go(root, monkeypatch):
    """What waits in order behind a slow scan holds no voxels beyond what may be kept."""
    waiting = []
    add = survey_module._Collected.add
    monkeypatch.setattr(
        survey_module._Collected, "add", lambda self, reading: waiting.append(reading.image) or add(self, reading)
    )
    survey = surveyed(root, memory_bytes=0)
    assert waiting == [None] * 10
    assert len(survey.statistics) == 10


# --- findings


def test_copies_are_found(root):
    write_png(root / "a/copy.png", seed=0)
    finding = codes(surveyed(root))["identical-scans"]
    assert (finding.severity, finding.samples) == ("info", ("a/0", "a/copy"))


def test_copies_with_other_labels_are_a_warning(root):
    write_png(root / "b/copy.png", seed=0)
    finding = codes(surveyed(root))["contradicting-labels"]
    assert (finding.severity, "a/0 (a) = b/copy (b)" in finding.value) == ("warning", True)


@pytest.mark.parametrize(("patients", "severity"), [("pq", "warning"), ("pp", "info")])
def test_copies_across_patients_are_a_warning(root, patients, severity):
    write_png(root / "a/copy.png", seed=0)
    rows = [f"a/0.png,a,{patients[0]}", f"a/copy.png,a,{patients[1]}", "b/0.png,b,r", "b/1.png,b,s"]
    (root / "labels.csv").write_text("path,label,patient_id\n" + "\n".join(rows))
    assert codes(surveyed(root))["identical-scans"].severity == severity


def smooth(seed):
    """A picture: unlike noise, a smaller copy of it looks the same."""
    coarse = np.random.default_rng(seed).normal(size=(9, 9))
    fine = scipy.ndimage.zoom(coarse, 8, order=3)
    return (255 * (fine - fine.min()) / np.ptp(fine)).astype(np.uint8)


def test_near_copies_come_into_one_group(tmp_path):
    for n in range(6):
        write_png(tmp_path / "ab"[n % 2] / f"{n}.png", pixels=smooth(n))
    write_png(tmp_path / "b/small.png", pixels=smooth(0)[::2, ::2])
    survey = surveyed(tmp_path)
    assert codes(survey)["near-duplicates"].samples == ("a/0", "b/small")
    alike = {scan.sample_id: scan.alike for scan in survey.table if scan.alike}
    assert alike == {"a/0": "a/0", "b/small": "a/0"}


def test_colour_among_grey_and_transparency(root):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 6, 4), dtype=np.uint8)
    write_png(root / "a/colour.png", pixels=pixels)
    found = codes(surveyed(root))
    assert found["mixed-color"].value == "a/colour is true colour; 10 of 11 scans are grey."
    assert found["transparency-ignored"].sample_id == "a/colour"


def test_an_mr_among_cts_is_named(tmp_path):
    for label in "ab":
        write_nifti(tmp_path / label / "ct.nii.gz", volume((9, 9, 9), seed=ord(label)))
    mr = np.abs(np.random.default_rng(0).normal(0, 400, (9, 9, 9))).astype(np.int16)
    write_nifti(tmp_path / "a/mr.nii.gz", mr)
    finding = codes(surveyed(tmp_path))["mixed-modality"]
    assert (finding.severity, finding.sample_id) == ("warning", "a/mr")


def test_notes_of_the_readers_are_findings_one_a_scan(tmp_path):
    for n, label in enumerate("aabb"):
        write_nifti(tmp_path / f"{label}/{n}.nii.gz", volume(seed=n), sform_code=0, qform_code=0)
    survey = surveyed(tmp_path)
    notes = [finding for finding in survey.findings if finding.code == "orientation-unknown"]
    assert [finding.sample_id for finding in notes] == ["a/0", "a/1", "b/2", "b/3"]
    assert sum(line.startswith("warning orientation-unknown: 4 scans: ") for line in survey.notes()) == 1


def test_what_the_source_found_is_among_them_and_nothing_twice(root):
    (root / "a/3.png").write_bytes(b"nonsense")
    table = load_scans(root)
    known = [Finding(code=code, severity="error", sample_id="a/3", rule="r", value="v")
             for code in ("unknown-format", "label-missing")]  # fmt: skip
    survey = survey_scans(replace(table, findings=tuple(known)), progress=Silent(), refuse=False)
    assert survey.findings == tuple(known)


# --- leaving scans out


def test_scans_with_a_finding_are_left_out(root):
    spoil(root, 2)
    write_png(root / "b/blank.png", pixels=np.full((8, 6), 7, dtype=np.uint8))
    survey = surveyed(root, exclude=("unknown-format", "constant"))
    assert survey.excluded == {"unknown-format": ("a/bad00", "a/bad01"), "constant": ("b/blank",)}
    assert survey.findings == ()
    assert len(survey.table) == len(survey.statistics) == len(survey.images) == 10
    assert survey.table.classes == ("a", "b")
    assert "left out for unknown-format: 2 scans; 10 remain" in survey.notes()


def test_errors_that_remain_are_refused(root):
    spoil(root, 1)
    write_png(root / "b/blank.png", pixels=np.full((8, 6), 7, dtype=np.uint8))
    with pytest.raises(DataError, match=r"blank.png has the value 7 everywhere"):
        surveyed(root, exclude=("unknown-format",))


def test_the_rarer_dimension_can_be_left_out(root):
    write_nifti(root / "a/volume.nii.gz")
    survey = surveyed(root, exclude=("mixed-dimensions",))
    assert survey.excluded == {"mixed-dimensions": ("a/volume",)}
    assert survey.findings == ()


def test_of_copies_one_is_kept(root):
    write_png(root / "b/copy.png", seed=0)
    write_png(root / "b/another.png", seed=0)
    survey = surveyed(root, exclude=("identical-scans",))
    assert survey.excluded == {"identical-scans": ("b/another", "b/copy")}
    assert {scan.sample_id for scan in survey.table} == {scan.sample_id for scan in load_scans(root)} - {
        "b/another", "b/copy"
    }  # fmt: skip


def test_a_class_that_would_be_empty_is_refused(root):
    for n in range(5):
        (root / f"a/{n}.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"--exclude-findings unknown-format \(5 scans\) leaves no scan of class 'a'"):
        surveyed(root, exclude=("unknown-format",))


def test_an_unknown_code_is_refused_before_anything_is_read(root, monkeypatch):
    monkeypatch.setattr(survey_module, "read_sample", lambda *args, **kwargs: pytest.fail("read"))
    with pytest.raises(UsageError, match=r"No finding has the code 'unknown-fromat'. Did you mean 'unknown-format'"):
        surveyed(root, exclude=("unknown-fromat",))


def test_a_code_without_scans_leaves_all(root):
    survey = surveyed(root, exclude=("mixed-color", "constant"))
    assert (survey.excluded, len(survey.table)) == ({"mixed-color": (), "constant": ()}, 10)


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
def test_real_copies(brain_survey):
    survey = brain_survey
    hashes = Counter(scan.content_hash for scan in survey.table)
    assert sum(count - 1 for count in hashes.values()) == 25
    [copies] = [group for group in summarise(survey.findings) if group.code == "identical-scans"]
    assert sum(len(finding.others) for finding in copies.findings) == 25
    assert "25 beside the first of each" in copies.sentence()
    pixels = {scan.sample_id: read_scan(scan.path).voxels for scan in survey.table}
    for finding in copies.findings:  # as numbers, not as hashes
        assert all(np.array_equal(pixels[finding.samples[0]], pixels[other]) for other in finding.others)


@pytest.mark.real
def test_real_patients_with_both_classes(lesion_slices):
    table = lesion_slices
    labels: dict[str, set[str]] = {}
    for scan in table:
        labels.setdefault(scan.patient_id, set()).add(scan.label)
    assert sum(len(seen) > 1 for seen in labels.values()) == 67
    [finding] = [finding for finding in leakage_findings(table) if finding.code == "patient-two-labels"]
    assert finding.severity == "info"
    assert finding.value.startswith("67 patients of 494")
