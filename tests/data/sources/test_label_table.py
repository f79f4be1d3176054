import unicodedata
from pathlib import Path

import pytest

from medres.data.catalogue import kind_of
from medres.data.sources import load_scans
from medres.errors import DataError, UsageError
from tests.data.making import write_medmnist, write_png, write_pngs

FILES = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")
ROWS = [("a/1.png", "benign", "p1"), ("a/2.png", "benign", "p2"), ("b/3.png", "sick", "p3"), ("b/4.png", "sick", "p4")]


def table(root, header, rows, *, name="labels.csv") -> Path:
    path = Path(root, name)
    path.write_text("\n".join(",".join(row) for row in (header, *rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path):
    return write_pngs(tmp_path / "scans", FILES)


HEADER = ("path", "label", "patient_id")


def test_the_table_wins_over_class_folders(root):
    table(root, HEADER, ROWS)
    found = load_scans(root)
    assert found.source == "labels.csv"
    assert found.classes == ("benign", "sick")
    assert found.root == root
    assert [scan.sample_id for scan in found] == ["a/1", "a/2", "b/3", "b/4"]
    assert [scan.patient_id for scan in found] == ["p1", "p2", "p3", "p4"]
    assert all(scan.path.is_absolute() and scan.path.exists() for scan in found)
    assert found.patients_given
    assert found.notes == ("Patients are taken from the column 'patient_id' of labels.csv.",)


@pytest.mark.parametrize("name", ["labels.csv", "Labels.CSV", "labels.tsv", "cohort.csv", "cohort.txt"])
def test_the_table_itself_may_be_given(root, name):
    path = table(root, HEADER, ROWS, name=name)
    assert [scan.label for scan in load_scans(path)] == ["benign", "benign", "sick", "sick"]
    if name.lower().startswith("labels"):
        assert len(load_scans(root)) == 4


def test_labels_overrides_and_paths_are_relative_to_the_data(root, tmp_path):
    table(root, HEADER, ROWS[:1])
    other = table(tmp_path, HEADER, ROWS, name="other.csv")
    assert len(load_scans(root, labels=other)) == 4


def test_order_of_rows_does_not_matter(root):
    table(root, HEADER, ROWS[::-1])
    assert [scan.sample_id for scan in load_scans(root)] == ["a/1", "a/2", "b/3", "b/4"]


def test_metadata_split_and_unit(root):
    header = ("path", "label", "subject", "Split", "lesion", "age", "content_hash")
    rows = [(*row, split, f"l{n}", "61", "x") for n, (row, split) in enumerate(zip(ROWS, SPLITS, strict=True))]
    table(root, header, rows)
    found = load_scans(root, unit_column="lesion")
    assert [scan.split for scan in found] == ["train", "val", "test", "train"]
    assert [scan.unit for scan in found] == ["l0", "l1", "l2", "l3"]
    assert found.unit_column == "lesion"
    assert found.scans[0].metadata == {"age": "61", "given_content_hash": "x"}
    assert found.scans[0].content_hash == ""


SPLITS = ("Training", "valid", "TEST", "train")


@pytest.mark.parametrize("word", ["train", "Train", "TRAINING", "val", "valid", "Validation", "test", "testing"])
def test_words_for_splits(root, word):
    table(root, ("path", "label", "split"), [(*row[:2], word) for row in ROWS])
    assert load_scans(root).splits == {word.lower().replace("ing", "").replace("idation", "").replace("valid", "val")}


def test_an_empty_split_column_is_none(root):
    table(root, ("path", "label", "split"), [(*row[:2], "") for row in ROWS])
    found = load_scans(root)
    assert found.splits == frozenset()
    assert "The column 'split' is empty: no split was given." in found.notes


@pytest.mark.parametrize("column", ["patient_id", "patient", "subject", "subject_id", "participant_id", "Patient_ID"])
def test_patients_are_detected(root, column):
    table(root, ("path", "label", column), ROWS)
    assert load_scans(root).num_patients == 4
    assert load_scans(root).patients_given


def test_patients_by_column_and_by_pattern(root):
    table(root, ("path", "label", "who", "patient"), [(*row[:2], "w" + row[2], "same") for row in ROWS])
    assert load_scans(root).num_patients == 1
    assert [scan.patient_id for scan in load_scans(root, patient_column="who")] == ["wp1", "wp2", "wp3", "wp4"]
    found = load_scans(root, patient_pattern=r"(?P<kind>.)/(?P<patient>\d)")
    assert [scan.patient_id for scan in found] == ["1", "2", "3", "4"]


def test_an_empty_column_of_patients_is_none(root):
    table(root, HEADER, [(*row[:2], " ") for row in ROWS])
    found = load_scans(root)
    assert (found.patients_given, found.findings) == (False, ())


def test_ids_stay_text(root):
    ids = ["001", "1", "01", "x"]
    table(root, HEADER, [(*row[:2], name) for row, name in zip(ROWS, ids, strict=True)])
    found = load_scans(root)
    assert [scan.patient_id for scan in found] == ids
    assert found.num_patients == 4  # the audit reports them (id-lookalike); nothing joins them


def test_ids_that_differ_by_blanks_are_refused_never_merged(root):
    table(root, HEADER, [(*row[:2], name) for row, name in zip(ROWS, ["1", " 1", "2", "3"], strict=True)])
    with pytest.raises(DataError, match=r"differ by blanks only: '1' \(row 2\) and ' 1' \(row 3\)"):
        load_scans(root)


def test_blanks_around_other_text_are_left_out_and_said(root):
    table(root, HEADER, [(" " + row[0], row[1] + " ", " " + row[2]) for row in ROWS])
    found = load_scans(root)
    assert found.classes == ("benign", "sick")
    assert found.scans[0].patient_id == "p1"
    assert "Blanks around text were left out in row 2, 3, 4, 5." in found.notes


def test_files_that_the_table_does_not_name_are_findings(root):
    table(root, HEADER, [ROWS[0], ROWS[3]])
    found = load_scans(root).findings
    assert {one.code for one in found} == {"file-not-listed"}
    assert [Path(one.file or "").name for one in found] == ["2.png", "3.png"]


def test_paths_elsewhere_may_be_named(root, tmp_path):
    outside = write_png(tmp_path / "outside.png")
    table(
        root, HEADER, [*ROWS, ("../outside.png", "sick", "p5"), (str(root / "a/../a/../../outside2.png"), "sick", "p6")]
    )
    write_png(tmp_path / "outside2.png")
    found = {scan.sample_id: scan.path for scan in load_scans(root)}
    assert found["../outside"] == outside
    assert found["../outside2"] == tmp_path / "outside2.png"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_as_windows_and_macos_write_them(root, form):
    write_png(root / unicodedata.normalize(form, "a/é.png"), seed=9)
    other = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "a\\é.png")
    table(root, HEADER, [*ROWS, (other, "sick", "p5")])
    assert len(load_scans(root)) == 5


def test_members_of_an_archive_are_rows(tmp_path):
    write_medmnist(tmp_path / "x.npz")
    rows = [("x.npz", f"train_images:{n}", "ab"[n % 2], f"p{n}") for n in range(4)]
    table(tmp_path, ("path", "member", "label", "patient_id"), rows)
    found = load_scans(tmp_path)
    assert [scan.sample_id for scan in found] == [f"x:train_images:{n}" for n in range(4)]
    assert found.scans[2].member == "train_images:2"


def test_write_csv_can_be_read_again(root, tmp_path):
    table(root, (*HEADER, "age"), [(*row, "61") for row in ROWS])
    found = load_scans(root)
    found.write_csv(tmp_path / "again.csv")
    again = load_scans(root, labels=tmp_path / "again.csv")
    assert [(s.sample_id, s.patient_id, s.label, s.metadata["age"]) for s in again] == [
        (s.sample_id, s.patient_id, s.label, "61") for s in found
    ]


# --- rows that are wrong: all are reported, none is lost

FINDINGS = [
    ([("a/9.png", "sick", "p9")], "file-missing", "a/9", r"row 6 (a/9.png): 'a/9.png' does not exist"),
    ([("a/9.png", "", "p9")], "label-missing", "a/9", "no label in 'label'"),
    ([("a/9.png", "N/A", "p9")], "label-missing", "a/9", "no label in 'label'"),
    ([("a/9.png", "sick", " ")], "patient-missing", "a/9", "no patient in 'patient_id'"),
    (
        [("a/../a/1.png", "sick", "p1")],
        "label-conflict",
        "a/1",
        "rows 2, 6: a/1.png has the labels 'benign' and 'sick'",
    ),
    (
        [("a/../a/1.png", "benign", "p1")],
        "file-repeated",
        "a/1",
        "rows 2, 6: a/1.png is listed 2 times; one row was kept",
    ),
    ([("a/1.png", "benign", "p9")], "rows-contradict", "a/1", "is of the patients 'p1' and 'p9'"),
    ([("a/9.png", "Benign", "p9")], "label-lookalike", "a/9", "'Benign' (1 scan) and 'benign' (2 scans)"),
]


@pytest.mark.parametrize(("rows", "code", "sample", "value"), FINDINGS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_that_is_wrong_is_a_finding_and_the_others_stay(root, rows, code, sample, value, reverse):
    if code != "file-missing":
        write_png(root / "a/9.png", seed=9)
    all_rows = [*ROWS, *rows]
    table(root, HEADER, all_rows[::-1] if reverse else all_rows)
    found = load_scans(root)
    (finding,) = [one for one in found.findings if one.code == code]
    assert (finding.sample_id, finding.rule) == (sample, kind_of(code).rule)
    if not reverse:
        assert value in finding.value
    assert finding.fix
    assert {scan.sample_id for scan in found} >= {"a/1", "a/2", "b/3", "b/4"}
    labels = {scan.sample_id: scan.label for scan in found}
    assert (labels[sample] is None) == (code in ("label-missing", "label-conflict"))


def test_labels_that_look_alike(root):
    labels = ["grade 1", "Grade  1", "1.0", "1"]
    table(root, HEADER, [(row[0], label, row[2]) for row, label in zip(ROWS, labels, strict=True)])
    assert len([one for one in load_scans(root).findings if one.code == "label-lookalike"]) == 2


# --- refusals: each names the table, the rows, the value and the way out


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (("path", "klass"), [("a/1.png", "x")], {}, "no column 'label'; it has path, klass. .*--label-column"),
        (HEADER, ROWS, {"label_column": "y"}, "no column 'y'"),
        (HEADER, ROWS, {"patient_column": "who"}, "no column 'who'.*--patient-column"),
        (HEADER, ROWS, {"unit_column": "lesion"}, "no column 'lesion'.*--unit-column"),
        (
            HEADER,
            [("a/8.png", "x", "p"), ("a/9.png", "y", "q")],
            {},
            r"2 of 2 files that do not exist: a/8.png \(row 2\)",
        ),
        (HEADER, [("", "x", "p")], {}, "no 'path' in row 2"),
        (HEADER, [ROWS[0], (*ROWS[1][:1], "", "p")], {}, r"one class, 'benign' \(2 scans, 1 without a label\)"),
        (HEADER, [(row[0], " ", row[2]) for row in ROWS], {}, "has no label in any of 4 rows"),
        (HEADER, ROWS, {"sequences": ("t1", "t2")}, r"no column 't1' \(--sequences\); it has path, label, patient_id"),
        (HEADER, ROWS, {"mask_column": "roi"}, "no column 'roi'.*--mask-column"),
        (HEADER, ROWS, {"suffix": "T1w"}, "--suffix T1w is for BIDS, but a table"),
        (HEADER, ROWS, {"series": "("}, "--series '\\(' is not a regular expression"),
        (HEADER, ROWS[:2], {}, r"one class, 'benign' \(2 scans\)"),
        (HEADER, ROWS, {"positive": "ill"}, "--positive ill is not a class. Choose 'benign' or 'sick'"),
        (HEADER, [*ROWS[:3], ("b/4.png", "c", "p")], {"positive": "c"}, "needs exactly two classes; there are 3"),
        (HEADER, ROWS, {"patient_pattern": "(["}, "is not a regular expression"),
        (HEADER, ROWS, {"patient_pattern": "a/"}, "has no group"),
        (HEADER, ROWS, {"patient_pattern": "^a/(.)"}, "finds no patient in 2 of 4 files: b/3.png, b/4.png"),
        (HEADER, ROWS, {"patient_pattern": "(.)", "patient_column": "patient_id"}, "are both given"),
    ],
)
def test_refusals(root, header, rows, options, message):
    table(root, header, rows)
    with pytest.raises((DataError, UsageError), match=message):
        load_scans(root, **options)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "", "test", "train"), "a split in some rows and none in 1: row 3"),
        (("train", "fold1", "test", "holdout"), "unknown splits in row 3, 5: fold1, holdout"),
    ],
)
def test_splits_are_refused(root, splits, message):
    table(root, ("path", "label", "split"), [(*row[:2], split) for row, split in zip(ROWS, splits, strict=True)])
    with pytest.raises(DataError, match=message):
        load_scans(root)


@pytest.mark.parametrize(
    ("units", "patients", "message"),
    [
        (("u1", "u2", "u2", "u3"), ("p1", "p2", "p2", "p3"), r"1 unit \('u'\) with two labels: u2 \(benign and sick\)"),
        (("u1", "u1", "u2", "u3"), ("p1", "p2", "p3", "p3"), r"1 unit \('u'\) of two patients: u1 \(p1 and p2\)"),
        (("u1", "u2", "", "u3"), ("p1", "p2", "p3", "p3"), "no 'u' in 1 of 4 rows"),
    ],
)
def test_units_are_refused(root, units, patients, message):
    rows = [(*row[:2], patient, unit) for row, patient, unit in zip(ROWS, patients, units, strict=True)]
    table(root, (*HEADER, "u"), rows)
    with pytest.raises(DataError, match=message):
        load_scans(root, unit_column="u")


def test_units_of_several_scans_need_patients(root):
    table(root, ("path", "label", "u"), [(*row[:2], row[1]) for row in ROWS])
    with pytest.raises(DataError, match=r"could tear a unit apart. .*--patient-column"):
        load_scans(root, unit_column="u")
    assert load_scans(root, unit_column="u", patient_column="u").num_patients == 2


def test_all_missing_files_are_findings_and_refused_where_there_is_no_other(root):
    table(root, HEADER, [*ROWS, *((f"gone/{n}.png", "x", f"p{n}") for n in range(13))])
    found = [one for one in load_scans(root).findings if one.code == "file-missing"]
    assert len(found) == 13
    with pytest.raises(DataError, match=r"names 13 of 13 files .*gone/9.png \(row 11\) and 3 more") as caught:
        load_scans(table(root, HEADER, [(f"gone/{n}.png", "x", f"p{n}") for n in range(13)]))
    assert "gone/10.png" not in str(caught.value)


def test_two_tables_are_ambiguous(root):
    table(root, HEADER, ROWS)
    table(root, HEADER, ROWS, name="labels.tsv")
    with pytest.raises(DataError, match=r"holds labels.csv and labels.tsv. .*--labels"):
        load_scans(root)


def test_labels_that_do_not_exist(root, tmp_path):
    with pytest.raises(DataError, match=r"gone.csv does not exist"):
        load_scans(root, labels=tmp_path / "gone.csv")
    with pytest.raises(UsageError, match="needs a folder as --data"):
        load_scans(table(root, HEADER, ROWS), labels=tmp_path / "gone.csv")


@pytest.mark.real
def test_real_slices(lesion_slices):
    found = lesion_slices
    assert (len(found), found.num_patients, len({scan.unit for scan in found})) == (5043, 494, 882)
    both = {scan.patient_id for scan in found if scan.label == "benign"} & {
        scan.patient_id for scan in found if scan.label == "malignant"
    }
    assert len(both) == 67


def test_capitals_that_differ_are_named(tmp_path):
    write_pngs(tmp_path, ["A/1.PNG", "a2.png"])
    (tmp_path / "labels.csv").write_text("path,label\nA/1.png,x\na2.png,y\nA/3.png,y\n")
    missing = [finding for finding in load_scans(tmp_path).findings if finding.code == "file-missing"]
    assert [finding.fix for finding in missing] == [
        "Write it as the file is called: 1.PNG looks like it, but for case.",
        f"Correct the path (it is relative to {tmp_path}), or leave this row out.",
    ]
    (tmp_path / "labels.csv").write_text("path,label\nA/1.png,x\nA/3.png,y\n")
    with pytest.raises(DataError, match=r"1\.PNG looks like it, but for case\. Correct the paths"):
        load_scans(tmp_path)


def test_the_column_that_named_the_scans_is_said(tmp_path):
    write_pngs(tmp_path, ["p1/x.png", "p2/x.png"])
    (tmp_path / "labels.csv").write_text("case,label\np1,a\np2,b\n")
    assert (
        "There is no column of paths: 'case' names patients, whose scans its rows label." in load_scans(tmp_path).notes
    )
