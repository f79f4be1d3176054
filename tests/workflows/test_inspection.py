import json
import os
import subprocess
import sys

import numpy as np
import pytest

from medres.config import DataConfig
from medres.errors import DataError, UsageError
from medres.runs.progress import Silent
from medres.workflows.inspection import inspect, run_inspect
from tests.data.making import volume, write_nifti, write_png, write_pngs


@pytest.fixture
def root(tmp_path):
    return write_pngs(tmp_path / "scans", [f"{label}/{n}.png" for label in "ab" for n in range(5)])


class Noting(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def codes(inspection):
    return sorted({finding.code for finding in inspection.survey.findings})


def test_a_clean_data_set(root):
    inspection = inspect(root)
    assert (inspection.exit_code, inspection.page, codes(inspection)) == (0, None, [])
    assert inspection.summary()["data"]["source"] == "class folders"


def test_what_was_understood_is_said_first(root):
    progress = Noting()
    run_inspect(DataConfig(data=root), progress=progress)
    assert progress.notes[0] == "data: 10 scans from class folders"


def test_errors_are_returned_and_not_raised(root):
    (root / "a/bad.png").write_bytes(b"nonsense")
    inspection = inspect(str(root))
    assert (inspection.exit_code, codes(inspection)) == (1, ["unknown-format"])


def test_scans_are_left_out(root):
    (root / "a/bad.png").write_bytes(b"nonsense")
    inspection = inspect(root, exclude_findings=("unknown-format",))
    assert (inspection.exit_code, inspection.summary()["excluded"]) == (0, {"unknown-format": ["a/bad"]})


def test_nothing_is_written_but_the_page(root, tmp_path):
    before = sorted(root.rglob("*"))
    inspection = inspect(root, html=tmp_path / "deep/page.html")
    assert sorted(root.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "scans"]
    assert inspection.page.read_text(encoding="utf-8").count("<img") == 10


def test_a_folder_without_labels(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / f"{n}.nii.gz", volume(seed=n))
    inspection = inspect(tmp_path, html=tmp_path / "page.html")
    assert inspection.survey.table.classes == ()
    assert len(inspection.survey.statistics) == 3
    assert any(note.startswith("without labels: ") for note in inspection.survey.table.notes)


def test_one_file_without_labels(tmp_path):
    assert len(inspect(write_png(tmp_path / "scan.png")).survey.table) == 1


@pytest.mark.parametrize("options", [{"label_column": "grade"}, {"patient_column": "who"}, {"positive": "x"}])
def test_labels_that_were_asked_for_are_not_given_up(tmp_path, options):
    write_png(tmp_path / "scan.png")
    with pytest.raises(DataError):
        inspect(tmp_path, **options)


def test_a_mistake_in_a_table_of_labels_is_told(tmp_path):
    write_png(tmp_path / "scan.png")
    (tmp_path / "labels.csv").write_text("path,grade\nscan.png,1\n")
    with pytest.raises(DataError, match="label"):
        inspect(tmp_path)


def test_a_workbook_of_labels_and_a_list_of_segmentations_are_told(tmp_path):
    write_png(tmp_path / "scan.png")
    (tmp_path / "labels.xlsx").touch()
    with pytest.raises(DataError, match=r"labels\.xlsx is a workbook"):
        inspect(tmp_path)
    (tmp_path / "labels.xlsx").unlink()
    (tmp_path / "dataset.json").write_text('{"training": [{"image": "scan.png", "label": "scan.png"}]}')
    with pytest.raises(DataError, match="segmentations"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_nothing_to_inspect(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        inspect(tmp_path / name)


def test_an_unknown_code(root):
    with pytest.raises(UsageError, match="Did you mean"):
        inspect(root, exclude_findings=("constan",))


def test_the_manifest_of_an_earlier_run(root, tmp_path):
    inspect(root).survey.table.write_csv(tmp_path / "scans.csv")
    assert codes(inspect(root, manifest=tmp_path / "scans.csv")) == []
    write_png(root / "a/2.png", seed=99)
    inspection = inspect(root, manifest=tmp_path / "scans.csv")
    assert (codes(inspection), inspection.exit_code) == (["content-changed"], 1)


def test_two_inspections_say_the_same(root, tmp_path):
    write_png(root / "a/copy.png", seed=0)
    first, second = (json.dumps(inspect(root).summary()) for _ in range(2))
    assert first == second


@pytest.mark.real
@pytest.mark.parametrize(("name", "expected"), [
    ("brain_mri_tumor", {"identical-scans", "mixed-color"}),
    ("lidc_nodule_texture", set()),
    ("nifti_odd", {"several-volumes", "mixed-modality"}),
])  # fmt: skip
def test_real_data(real_data, tmp_path, name, expected):
    inspection = inspect(real_data / name, html=tmp_path / "page.html")
    assert expected <= set(codes(inspection))
    # outliers are rare in ordinary data: measured, docs/reference/findings.md
    if name != "nifti_odd":
        assert not {"intensity-outlier", "size-outlier", "spacing-outlier"} & set(codes(inspection))
    assert np.isfinite(len(json.dumps(inspection.summary(), allow_nan=False)))


def lesions(tmp_path, *, columns="path,label,patient_id,center_x_mm,center_y_mm,center_z_mm"):
    """Four scans with two lesions each."""
    rows = []
    for n in range(4):
        write_nifti(tmp_path / f"{n}.nii", volume((20, 20, 20), seed=n), affine=np.eye(4))
        rows += [f"{n}.nii,{'ab'[n % 2]},p{n},{x},10,10" for x in (8, 12)]
    (tmp_path / "labels.csv").write_text("\n".join([columns, *rows]))
    return tmp_path


def test_regions_without_a_size_are_an_error_and_the_scans_are_checked_all_the_same(tmp_path):
    inspection = inspect(lesions(tmp_path))
    assert ("reading-unclear" in codes(inspection), inspection.exit_code) == (True, 1)
    assert {entry.spatial_shape for entry in inspection.survey.statistics.values()} == {(20, 20, 20)}


def test_regions_of_interest_are_what_is_checked_and_lesions_of_one_scan_are_no_copies(tmp_path):
    inspection = inspect(lesions(tmp_path), roi_size_mm=(6, 6, 6))
    assert {entry.spatial_shape for entry in inspection.survey.statistics.values()} == {(6, 6, 6)}
    assert len(inspection.survey.table) == 8
    assert not {"identical-scans", "contradicting-labels"} & set(codes(inspection))
    assert inspection.exit_code == 0


def test_folders_of_one_patient_each_are_no_classes(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / f"patient {n}/scan.nii.gz", volume(seed=n))
    inspection = inspect(tmp_path)
    table = inspection.survey.table
    assert (table.classes, len(table), inspection.exit_code) == ((), 3, 0)
    assert "without labels: each of 3 folders holds one patient." in table.notes
    write_nifti(tmp_path / "patient 0/second.nii.gz", volume(seed=9))  # two patients in a folder: it may be a class
    assert len(inspect(tmp_path).survey.table.classes) == 3


def test_what_no_number_of_folds_can_divide_is_told(root):
    for n in range(1, 5):
        (root / f"a/{n}.png").unlink()
    inspection = inspect(root)
    assert (codes(inspection), inspection.exit_code) == (["too-few-patients"], 1)
    write_png(root / "a/other.png", seed=77)
    assert inspect(root).exit_code == 0  # --folds 2 divides them


def test_a_scan_that_is_left_out_for_a_missing_sequence_does_not_decide_for_the_others(tmp_path):
    rows = ["path_t1,path_t2,label"]
    for n in range(6):
        for name in ("t1", "t2"):
            write_nifti(tmp_path / f"{n}_{name}.nii", volume(seed=n + 10 * (name == "t2")), affine=np.eye(4))
        rows.append(f"{n}_t1.nii,{'' if n == 3 else f'{n}_t2.nii'},{'ab'[n % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert {"reading-unclear", "sequence-missing"} <= set(codes(inspect(tmp_path)))
    inspection = inspect(tmp_path, exclude_findings=("sequence-missing",))
    assert (len(inspection.survey.table), inspection.exit_code) == (5, 0)
    assert {entry.num_channels for entry in inspection.survey.statistics.values()} == {2}


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names of files are text there")
def test_names_that_are_no_text_end_no_report(root, tmp_path):
    os.rename(root / "a/2.png", os.fsencode(root) + b"/a/M\xfcller.png")
    page = tmp_path / "page.html"
    assert codes(inspect(root, html=page)) == ["name-not-text"]
    assert r"M\udcfcller" in page.read_text(encoding="utf-8")
    for encoding, option in (("ascii", "--json"), ("utf-8", "--quiet")):
        environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
        line = [sys.executable, "-m", "medres", "inspect", str(root), option]
        done = subprocess.run(line, capture_output=True, check=False, env=environment)
        assert (done.returncode, b"Traceback" in done.stderr, b"name-not-text" in done.stdout) == (1, False, True)
        if option == "--json":
            (finding,) = json.loads(done.stdout.decode(encoding))["findings"]
            assert os.fsencode(finding["file"]).endswith(b"M\xfcller.png")
