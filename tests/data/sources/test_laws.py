"""What holds for every source: ids, order, patients, and that no file is lost without a word."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from medres.data.catalogue import KINDS
from medres.data.readers import read_scan
from medres.data.sources import list_scans, load_scans
from medres.data.table import ScanTable
from tests.data.making import write_medmnist, write_nifti, write_png, write_pngs
from tests.data.sources.making_studies import write_study
from tests.data.sources.test_bids import PARTICIPANTS, T1, write_bids

NAMES = ("a/1.png", "a/2.png", "b/1.png", "b/x/2.png")


def class_folders(root: Path) -> dict:
    write_pngs(root, (*NAMES, "stray.png", "a/.hidden.png"))
    write_nifti(root / "a/1.nii.gz")
    (root / "a/notes.txt").touch()
    return {"data": root}


def split_folders(root: Path) -> dict:
    write_pngs(root, [f"{split}/{name}" for split in ("train", "val", "test") for name in NAMES])
    return {"data": root}


def dicom_folders(root: Path) -> dict:
    for label, patient in (("a", "001"), ("a", "1"), ("b", "p")):
        write_study(root / label / f"folder {patient}", patient)
        write_study(root / label / f"folder {patient}", patient, series="other", slices=2, name="other")
    write_study(root / "b", "q", name="flat")
    (root / "b/DICOMDIR").write_bytes(b"x")
    (root / "b/empty.dcm").touch()
    return {"data": root}


def table_of_paths(root: Path) -> dict:
    write_pngs(root, (*NAMES, "stray.png"))
    rows = [f"{name},{name[0]},00{n % 2}" for n, name in enumerate(NAMES)]
    return written(root, ["path,label,patient_id", *rows, "gone.png,a,9", "a/1.png,a,000"])


def joined_table(root: Path) -> dict:
    write_pngs(root, ("p1/1.png", "p1/2.png", "p2/1.png", "p3/1.png"))
    return written(root, ["patient,label", "p1,a", "p2,b", "p4,b"])


def joined_dicom(root: Path) -> dict:
    for patient in ("p1", "p2", "p3"):
        write_study(root / "flat", patient, name=patient)
    return written(root, ["PatientID;label", "p1;a", "p2;b"])


def lesions(root: Path) -> dict:
    write_pngs(root, NAMES)
    header = "path;label;center_x_mm;center_y_mm;center_z_mm"
    return written(root, [header, *(f"{name};{'ab'[n]};{n},5;0;0" for name in NAMES[:3] for n in range(2))])


def channels(root: Path) -> dict:
    write_pngs(root, [f"{name}/{n}.png" for name in ("t1", "t2") for n in range(4)])
    return written(root, ["t1,t2,label", *(f"t1/{n}.png,t2/{n}.png,{'ab'[n % 2]}" for n in range(3))])


def bids(root: Path) -> dict:
    write_bids(root, (*T1, "sub-09/anat/sub-09_T1w.nii.gz"), PARTICIPANTS + "sub-08\t1\tpatient\n")
    return {"data": root, "label_column": "group"}


def data_list(root: Path) -> dict:
    write_pngs(root, NAMES)
    entries = [{"image": name, "label": name[0], "patient": f"p{n}"} for n, name in enumerate(NAMES)]
    (root / "list.json").write_text(json.dumps({"training": entries}))
    return {"data": root / "list.json"}


def medmnist(root: Path) -> dict:
    return {"data": write_medmnist(root / "m.npz")}


def written(root: Path, lines: list[str]) -> dict:
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return {"data": root}


SOURCES: list[Callable[[Path], dict]] = [
    class_folders, split_folders, dicom_folders, table_of_paths, joined_table, joined_dicom, lesions, channels, bids,
    data_list, medmnist,
]  # fmt: skip
TABLES = [table_of_paths, joined_table, joined_dicom, lesions, channels]


@pytest.fixture(params=SOURCES, ids=lambda make: make.__name__)
def given(request, tmp_path) -> tuple[dict, ScanTable]:
    options = request.param(tmp_path)
    return options, load_scans(**options)


def test_ids_are_unique_sorted_and_readable(given):
    _, table = given
    ids = [scan.sample_id for scan in table]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids) >= 2
    assert not any("1.2." in name or name.startswith(("/", "..")) for name in ids)


def test_patients_are_text_and_labels_are_classes(given):
    _, table = given
    assert all(isinstance(scan.patient_id, str) and scan.patient_id.strip() for scan in table)
    assert {scan.label for scan in table} - {None} == set(table.classes)
    assert len(table.classes) == 2
    assert table.source
    assert all(note.endswith((".", "'.")) for note in table.notes)


def test_findings_are_of_the_catalogue_and_name_their_scan(given):
    _, table = given
    ids = {scan.sample_id for scan in table}
    for finding in table.findings:
        assert finding.severity == KINDS[finding.code].severity
        assert finding.rule == KINDS[finding.code].rule
        assert set(finding.samples) <= ids
        assert finding.value.endswith((".", "…"))
        assert finding.fix
    assert len({(one.code, one.sample_id, one.value) for one in table.findings}) == len(table.findings)


def test_no_file_is_lost_without_a_word(given):
    """Each scan file is in a row, under a finding, or named or counted in a note."""
    options, table = given
    root = options["data"] if options["data"].is_dir() else options["data"].parent
    rows = {file for scan in table for file in (scan.files or (scan.path, *scan.sequences.values()))}
    scans = [path for path in root.rglob("*") if path.suffix in (".png", ".gz", ".dcm", ".npz")]
    left_out = ("file-not-listed", "series-chosen", "no-series")
    told = [Path(one.file) for one in table.findings if one.file and one.code in left_out]
    lost = [
        path
        for path in scans
        if path not in rows
        and not path.name.startswith(".")
        and not any(path.is_relative_to(place) for place in told)
        and not any(path.name in note for note in table.notes)
    ]
    assert lost == []
    assert scans


def test_every_row_that_exists_can_be_read(given):
    _, table = given
    wrong = {one.sample_id for one in table.findings if one.severity == "error"}
    read = 0
    for scan in table:
        if scan.sample_id not in wrong and scan.path.name != "empty.dcm":
            assert read_scan(scan.path, member=scan.member, files=scan.files).content_hash
            read += 1
    assert read >= 2


def test_scans_csv_leads_back_to_the_same_rows(given, tmp_path_factory):
    options, table = given
    if options["data"].suffix == ".npz":
        return  # its labels are inside it
    root = options["data"] if options["data"].is_dir() else options["data"].parent
    path = tmp_path_factory.mktemp("run") / "scans.csv"
    table.write_csv(path)
    again = load_scans(root, labels=path)
    kept = {scan.sample_id: (scan.path, scan.member, scan.files, scan.label, scan.split) for scan in again}
    labels = [scan for scan in table if scan.label is not None]
    assert {
        scan.sample_id: (scan.path, scan.member, scan.files, scan.label, scan.split) for scan in labels
    }.items() <= (kept.items())


@pytest.mark.parametrize("make", TABLES, ids=lambda make: make.__name__)
def test_the_order_of_rows_is_irrelevant(make, tmp_path):
    options = make(tmp_path)
    before = load_scans(**options)
    path = options["data"] / "labels.csv"
    header, *rows = path.read_text().splitlines()
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        path.write_text("\n".join([header, *rows]) + "\n")
        after = load_scans(**options)
        assert after.scans == before.scans
        assert sorted(one.code for one in after.findings) == sorted(one.code for one in before.findings)


def test_prediction_lists_the_scans_that_training_does(given):
    options, table = given
    if not options["data"].is_dir() or any(scan.sequences or scan.center_ras_mm for scan in table):
        return
    listed = {scan.sample_id: scan.files or (scan.path,) for scan in list_scans([options["data"]])}
    existing = [scan for scan in table if scan.path.exists()]
    assert existing
    for scan in existing:
        assert (scan.files or (scan.path,)) in listed.values()


MESSY = "\ufeffsep=;\r\nDatei;Patient ID;Label ;Größe (mm);Bemerkung\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_a_table_as_a_hospital_writes_it(tmp_path, encoding):
    """BOM, semicolons, Windows line ends, quotes, blanks, empty rows, an empty column, ids with zeros."""
    write_png(tmp_path / "bilder/Müller 1.png", seed=1)
    write_pngs(tmp_path, ["bilder/2.png", "bilder/3.png"], first_seed=2)
    text = MESSY if encoding == "utf-8" else MESSY.removeprefix("\ufeff")
    text += 'bilder\\Müller 1.png;"007";gutartig ;12,5;"sagt ""nein""; geht"\r\n;;;;\r\n'
    text += 'bilder\\2.png;7;bösartig;;\r\n"bilder\\3.png" ; 12 ;gutartig;3,0;\r\n'
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    found = load_scans(tmp_path)
    assert [(scan.sample_id, scan.patient_id, scan.label) for scan in found] == [
        ("bilder/2", "7", "bösartig"),
        ("bilder/3", "12", "gutartig"),
        ("bilder/Müller 1", "007", "gutartig"),
    ]
    assert found.scans[2].metadata == {"Größe (mm)": "12,5", "Bemerkung": 'sagt "nein"; geht'}
    assert found.findings == ()


@pytest.mark.parametrize("name", ["labels.xlsx", "Labels.xls", "labels.ods"])
def test_a_workbook_is_refused_with_the_way_out(tmp_path, name):
    from medres.errors import DataError

    write_pngs(tmp_path, NAMES)
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    (tmp_path / "renamed.csv").write_bytes(b"PK\x03\x04")
    for load in (
        lambda: load_scans(tmp_path),
        lambda: load_scans(tmp_path / name),
        lambda: load_scans(tmp_path / "renamed.csv"),
        lambda: list_scans([tmp_path / name]),
    ):
        with pytest.raises(DataError, match=r"is a workbook, not a table of text. Save it as CSV"):
            load()
