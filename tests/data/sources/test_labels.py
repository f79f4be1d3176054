"""Labels as they are pasted, exported and rewritten: told in a table as in folders, never two classes in silence."""

import csv

import pytest

from medres.data.exclusion import without_known
from medres.data.sources import load_scans
from medres.errors import DataError
from tests.data.making import write_pngs

FILES = [f"img/{n}.png" for n in range(6)]


def table_with(root, labels, *, patients=None, header=("path", "label", "patient_id")):
    write_pngs(root, FILES)
    patients = patients or [f"p{n}" for n in range(6)]
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *zip(FILES, labels, patients, strict=True)])
    return load_scans(root)


def told(table, code):
    return [finding for finding in table.findings if finding.code == code]


@pytest.mark.parametrize(("one", "other", "shown"), [
    ("benign", "benign\u200b", r"'benign\u200b'"), ("benign", "be\u00adnign", r"'be\xadnign'"),
    ("benign", "\ufeffbenign", r"'\ufeffbenign'"), ("low grade", "low\u00a0grade", r"'low\xa0grade'"),
    ("M\u00fcller", "Mu\u0308ller", r"'Mu\u0308ller'"), ("low-grade", "low_grade", "'low_grade'"),
    ("1", "1.0", "'1.0'"), ("1", "1.000000e+00", "'1.000000e+00'"), ("grade 01", "grade 1", "'grade 01'"),
])  # fmt: skip
@pytest.mark.parametrize("folders", [False, True])
def test_one_class_written_in_two_ways_is_an_error_that_shows_what_differs(tmp_path, one, other, shown, folders):
    if folders:
        table = load_scans(write_pngs(tmp_path, [f"{label}/{n}.png" for label in (one, other, "x") for n in range(2)]))
    else:
        table = table_with(tmp_path, [one, other, "x", one, other, "x"])
    (finding,) = told(table, "label-lookalike")
    assert finding.severity == "error"
    assert shown in finding.value
    assert finding.value.isprintable()
    assert len(table.classes) == 3


@pytest.mark.parametrize("word", ["NA", "None", "-", "?", "unknown", ".", "-9"])
def test_a_word_for_a_missing_value_is_told_with_its_count(tmp_path, word):
    table = table_with(tmp_path, ["0", word, "1", "0", word, "1"])
    (finding,) = told(table, "label-placeholder")
    assert (finding.severity, finding.samples) == ("warning", ("img/1", "img/4"))
    assert finding.value.startswith(f"labels.csv: 2 of 6 labels read {word!r}, which ")
    assert without_known(table, ["label-placeholder"]).classes == ("0", "1")


@pytest.mark.parametrize("word", ["<NA>", "nan", "NULL", "#N/A", "\u200b", "#VALUE!"])
def test_what_only_programs_write_is_no_class(tmp_path, word):
    table = table_with(tmp_path, ["a", word, "b", "a", "b", "b"])
    assert table.classes == ("a", "b")
    assert [finding.sample_id for finding in told(table, "label-missing")] == ["img/1"]


def test_signs_and_classes_named_none_by_all_are_left_alone(tmp_path):
    assert told(table_with(tmp_path, ["-", "+"] * 3), "label-placeholder") == []


def test_leaving_out_a_word_that_is_half_of_the_classes_is_refused(tmp_path):
    table = table_with(tmp_path, ["a", "NA"] * 3)
    with pytest.raises(DataError, match="leaves no scan of class 'NA'"):
        without_known(table, ["label-placeholder"])


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u00a0", "\u00ad"])
def test_names_of_columns_are_read_without_what_cannot_be_seen(tmp_path, mark):
    table = table_with(tmp_path, list("ababab"), header=("path", f"la{mark.strip()}bel{mark}", f"{mark}patient_id"))
    assert (table.classes, table.patients_given, table.num_patients) == (("a", "b"), True, 6)


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="two columns named label"):
        table_with(tmp_path, list("ababab"), header=("path", "label", "label\u200b"))
    with pytest.raises(DataError, match="two columns that may be 'label': 'Label' and 'LABEL'"):
        table_with(tmp_path, list("ababab"), header=("path", "Label", "LABEL"))


@pytest.mark.parametrize("words", [("train", "Train\u200b", "TEST"), ("Training", "train ", "\ufefftest")])
def test_splits_are_compared_by_the_same_key(tmp_path, words):
    table = table_with(
        tmp_path, list("ababab"), patients=[words[n % 3] for n in range(6)], header=("path", "label", "split")
    )
    assert table.splits == {"train", "test"}


def test_ids_that_lost_their_zeros_are_hinted_at(tmp_path):
    write_pngs(tmp_path, [f"{n:05d}.png" for n in range(4)])
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(4)))
    with pytest.raises(
        DataError, match=r"'0' \(row 2\) matches no folder and no file \(00000 looks like it; were leading"
    ):
        load_scans(tmp_path)
    table.write_text("id,label\n00000,a\n1,b\n00002,a\n00003,b\n")
    assert "00001 looks like it; were leading zeros lost?" in told(load_scans(tmp_path), "file-missing")[0].value
    table.write_text("path,label\n00000.png,a\n1.png,b\n")
    assert "00001.png looks like it; were leading zeros lost?" in told(load_scans(tmp_path), "file-missing")[0].fix


def test_a_sequence_that_reads_na_is_missing_and_its_column_stays_a_channel(tmp_path):
    write_pngs(tmp_path, [f"{name}/{n}.png" for name in ("t1", "t2") for n in range(4)])
    rows = [f"t1/{n}.png,{'NA' if n == 3 else f't2/{n}.png'},{'ab'[n % 2]}" for n in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["t1,t2,label", *rows]))
    table = load_scans(tmp_path)
    assert [len(scan.sequences) for scan in table] == [2, 2, 2, 1]
    assert len(told(table, "sequence-missing")) == 1
