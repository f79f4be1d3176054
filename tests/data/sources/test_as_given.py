from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medres.data.sources import list_scans, scans_as_given
from medres.errors import UsageError
from tests.data.making import write_medmnist, write_png, write_pngs
from tests.data.sources.making_studies import write_study


def told(rows) -> list[tuple[str, str]]:
    """Sample and code of what is wrong, by row."""
    return [(row.scan.sample_id, row.problem.code if row.problem else "") for row in rows]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> SimpleNamespace:
    """Paths by name, with the rows that each of them stands for: (file name, whether it is refused)."""
    root = tmp_path_factory.mktemp("inputs")
    write_pngs(root, ("z.png", "a.png", "folder/2.png", "folder/1.png", "t/x.png", "t/y.png"))
    (root / "empty").mkdir()
    (root / "t/table.csv").write_text("path\ny.png\ngone.png\nx.png\ny.png\n")
    (root / "t/wrong.csv").write_text("name\nnobody\nnowhere\n")
    (root / "t/book.xlsx").touch()
    (root / "link.png").symlink_to(root / "z.png")
    stands_for = {
        root / "z.png": [("z.png", False)],
        root / "a.png": [("a.png", False)],
        root / "folder/../z.png": [("z.png", False)],
        root / "link.png": [("link.png", False)],
        root / "gone.nii.gz": [("gone.nii.gz", True)],
        root / "empty": [("empty", True)],
        root / "folder": [("1.png", False), ("2.png", False)],
        root / "t/table.csv": [("y.png", False), ("gone.png", True), ("x.png", False), ("y.png", False)],
        root / "t/wrong.csv": [("wrong.csv", True), ("wrong.csv", True)],
        root / "t/book.xlsx": [("book.xlsx", True)],
    }
    return SimpleNamespace(root=root, stands_for=stands_for)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_each_thing_given_has_its_rows_at_its_place(inputs, data):
    asked = data.draw(st.lists(st.sampled_from(list(inputs.stands_for)), max_size=8))
    rows = scans_as_given(asked)
    expected = [row for path in asked for row in inputs.stands_for[path]]
    assert [(row.scan.path.name, row.problem is not None) for row in rows] == expected
    assert [row.given.split(", row ")[0] for row in rows] == [str(p) for p in asked for _ in inputs.stands_for[p]]
    names = {row.identity: row.scan.sample_id for row in rows}
    assert len(set(names.values())) == len(names)  # different scans have different names,
    assert all(names[row.identity] == row.scan.sample_id for row in rows)  # the same scan has one


def test_a_list_of_different_scans_holds_what_the_table_of_them_holds(inputs):
    paths = [inputs.root / "folder", inputs.root / "a.png"]
    rows = scans_as_given(paths)
    assert sorted(row.scan.sample_id for row in rows) == [scan.sample_id for scan in list_scans(paths)]


def test_paths_are_told_as_they_were_written(tmp_path, monkeypatch):
    write_pngs(tmp_path, ("d/1.png", "2.png"))
    monkeypatch.chdir(tmp_path)
    rows = scans_as_given(["2.png", "./d", tmp_path / "2.png", "d/gone.png"])
    assert [row.file for row in rows] == ["2.png", "d/1.png", str(tmp_path / "2.png"), "d/gone.png"]
    assert [row.given for row in rows] == ["2.png", "./d", str(tmp_path / "2.png"), "d/gone.png"]
    assert rows[3].problem is not None
    assert str(rows[3].problem) == "d/gone.png does not exist. Check the path."


def test_two_dots_behind_a_link_lead_where_the_system_goes(tmp_path):
    write_png(tmp_path / "far/1.png", seed=1)
    write_png(tmp_path / "near/1.png", seed=2)
    (tmp_path / "far/deep").mkdir()
    (tmp_path / "near/link").symlink_to(tmp_path / "far/deep")
    (row,) = scans_as_given([tmp_path / "near/link/../1.png"])
    assert row.scan.path.samefile(tmp_path / "far/1.png")


def test_rows_of_a_table_say_which_they_are(tmp_path):
    write_pngs(tmp_path, ("1.png",))
    (tmp_path / "t.csv").write_text("path,note\n1.png,x\n,blank\n1.png,y\n")
    rows = scans_as_given([tmp_path / "t.csv"])
    assert told(rows) == [("1", ""), (rows[1].scan.sample_id, "file-missing"), ("1", "")]
    assert [row.given.removeprefix(str(tmp_path)) for row in rows] == [f"/t.csv, row {n}" for n in (2, 3, 4)]
    assert "no path in 'path'" in str(rows[1].problem)


def test_a_table_whose_rows_all_miss_their_files_is_answered_row_by_row(tmp_path):
    (tmp_path / "t.csv").write_text("path,patient_id,label\ngone/2.png,ann,a\ngone/1.png,,b\n")
    assert told(scans_as_given([tmp_path / "t.csv"])) == [("gone/2", "file-missing"), ("gone/1", "file-missing")]


def test_labels_patients_and_splits_of_a_table_refuse_no_row(tmp_path):
    write_pngs(tmp_path, ("1.png", "2.png"))
    text = "path,label,patient_id,split\n2.png,,ann,train\n1.png,a,,\n2.png,b,bob,test\n"
    (tmp_path / "t.csv").write_text(text)
    assert told(scans_as_given([tmp_path / "t.csv"])) == [("2", ""), ("1", ""), ("2", "")]


def test_regions_have_the_numbers_that_training_gives_them_in_whatever_order(tmp_path):
    write_pngs(tmp_path, ("1.png", "2.png"))
    header = "path,center_x_mm,center_y_mm,center_z_mm\n"
    lines = ["1.png,9,0,0\n", "2.png,1,0,0\n", "1.png,3,0,0\n"]
    (tmp_path / "t.csv").write_text(header + "".join(lines))
    trained = {(scan.path.name, scan.center_ras_mm): scan.sample_id for scan in list_scans([tmp_path / "t.csv"])}
    rows = scans_as_given([tmp_path / "t.csv"])
    assert [row.scan.center_ras_mm for row in rows] == [(9, 0, 0), (1, 0, 0), (3, 0, 0)]
    assert [row.scan.sample_id for row in rows] == [trained[row.scan.path.name, row.scan.center_ras_mm] for row in rows]


def test_the_sequences_of_a_table_stay_together_and_a_plain_file_is_refused_in_its_place(tmp_path):
    write_pngs(tmp_path, ("1.png", "2.png", "3.png"))
    (tmp_path / "t.csv").write_text("t1,t2,n\n3.png,2.png,1\n1.png,,2\n,,3\n2.png,1.png,4\n")
    rows = scans_as_given([tmp_path / "1.png", tmp_path / "t.csv"], sequences=("t1", "t2"))
    assert [[path.name for path in row.scan.sequences.values()] for row in rows] == [
        [], ["3.png", "2.png"], ["1.png"], [], ["2.png", "1.png"],
    ]  # fmt: skip
    assert [row.problem is None for row in rows] == [False, True, False, False, True]
    assert "which files are t1, t2 of one scan cannot be told" in str(rows[0].problem)


def test_archives_stand_for_their_images(tmp_path):
    write_medmnist(tmp_path / "m.npz")
    np.savez(tmp_path / "one.npz", ct=np.arange(24).reshape(2, 3, 4))
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no zip")
    rows = scans_as_given([tmp_path / name for name in ("one.npz", "bad.npz", "m.npz", "one.npz")])
    assert [row.scan.member for row in rows] == [None, None, *(f"test_images:{n}" for n in range(4)), None]
    assert [row.problem is None for row in rows] == [True, False, True, True, True, True, True]


def test_slices_that_are_named_one_by_one_are_a_row_each(tmp_path):
    thin = write_study(tmp_path / "x", "ann", series="thin", slices=3, name="thin")
    thick = write_study(tmp_path / "x", "ann", series="thick", slices=2, name="thick")
    other = write_study(tmp_path / "x", "bob", slices=1, name="bob")
    asked = [thick[1], thin[2], other[0], thin[0], thick[0], thin[1], thick[1]]
    rows = scans_as_given(asked)
    assert [row.file for row in rows] == [str(path) for path in asked]
    assert [set(row.scan.files) for row in rows] == [
        set(thick), set(thin), set(), set(thin), set(thick), set(thin), set(thick),
    ]  # fmt: skip
    assert rows[2].scan.path == other[0]
    assert [bool(row.said) for row in rows] == [True, True, False, True, True, True, True]
    assert "one of 3 slices that were named one by one" in rows[1].said[0]
    assert [row.scan.path for row in scans_as_given(asked, stacks=False)] == asked
    assert [row.scan.path for row in scans_as_given(asked[:1])] == asked[:1]


def test_a_folder_is_its_studies_at_its_place(tmp_path):
    write_study(tmp_path / "d/b", "bob")
    write_study(tmp_path / "d/a", "ann")
    write_pngs(tmp_path, ("z.png",))
    rows = scans_as_given([tmp_path / "z.png", tmp_path / "d", tmp_path / "d/b"])
    assert [row.scan.sample_id for row in rows] == ["z", "d/a", "d/b", "d/b"]
    assert [len(row.scan.files) for row in rows] == [0, 3, 3, 3]


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "\0.png", "a.png/b.png"])
def test_what_is_no_path_is_a_row(tmp_path, name):
    write_pngs(tmp_path, ("a.png",))
    rows = scans_as_given([f"{tmp_path}/{name}", tmp_path / "a.png"])
    assert [row.problem is None for row in rows] == [False, True]


def test_a_name_that_is_no_text_can_be_predicted(tmp_path):
    path = write_png(tmp_path / "1.png").rename(tmp_path / "M\udcfcller.png")
    (row,) = scans_as_given([path])
    assert row.problem is None


def test_nothing_gives_nothing():
    assert scans_as_given([]) == ()


def test_a_wrong_pattern_is_of_the_model_not_of_a_row(tmp_path):
    with pytest.raises(UsageError, match="is not a regular expression"):
        scans_as_given([Path(tmp_path)], series="(")


@pytest.mark.parametrize("blank", ["", " ", "\u00a0", "\u200b"])
def test_an_empty_path_is_a_refused_row_and_not_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    first, second, third = scans_as_given([blank, "a.png", blank])
    assert second.problem is None
    assert second.file == "a.png"
    for row in (first, third):
        assert row.problem is not None
        assert row.problem.code == "file-missing"
        assert (row.given, row.file) == (blank, blank)
    assert len(scans_as_given([Path()])) == 1  # that folder, when it is meant
