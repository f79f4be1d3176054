import json

import pytest

from medres.data.sources import load_scans
from medres.errors import DataError
from tests.data.making import write_pngs

FILES = ("images/1.png", "images/2.png", "images/3.png", "images/4.png")


@pytest.fixture
def root(tmp_path):
    return write_pngs(tmp_path, FILES)


def written(root, content, name="list.json"):
    path = root / name
    path.write_text(json.dumps(content))
    return path


def entries(*labels, start=0, **more):
    return [{"image": FILES[start + n], "label": label, **more} for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [((0, 1, 0, 1), ("0", "1")), (("a", "b", "a", "b"), ("a", "b")), ((1.0, 2.0, 1.0, 2.0), ("1", "2")),
     (([0], [1], [0], [1]), ("0", "1")), ((True, False, True, False), ("false", "true"))],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"name": "x", "numTest": 3, "training": rows}])
def test_labels_of_any_kind_are_text(root, labels, classes, wrap):
    found = load_scans(written(root, wrap(entries(*labels))))
    assert (found.source, found.classes, found.splits) == ("MONAI data list", classes, frozenset())
    assert [scan.sample_id for scan in found] == [f"images/{n}" for n in (1, 2, 3, 4)]


def test_lists_are_splits_and_keys_are_columns(root):
    more = {"patient_id": "p1", "fold": 2, "age": None}
    content = {"training": entries("a", "b", **more), "validation": entries("a", start=2, patient="q", fold=0),
               "test": [FILES[3]]}  # fmt: skip
    found = load_scans(written(root, content))
    assert [scan.split for scan in found] == ["train", "train", "val"]
    assert found.scans[0].patient_id == "p1"
    assert found.scans[0].metadata == {"fold": "2", "age": "", "patient": ""}
    assert "1 image without labels were left out." in found.notes


def test_several_images_are_channels(root):
    content = [{"image": [FILES[0], FILES[1]], "label": 0}, {"image": [FILES[2], FILES[3]], "label": 1}]
    found = load_scans(written(root, content))
    assert [list(scan.sequences) for scan in found] == [["image_0", "image_1"]] * 2
    assert found.scans[1].sequences["image_1"] == root / FILES[3]


def test_a_list_in_a_folder_is_found(root):
    written(root, {"training": entries("a", "b", "a", "b")}, name="dataset.json")
    assert load_scans(root).source == "MONAI data list"


def test_a_json_of_another_kind_in_a_folder_is_not_taken(root):
    (root / "images").rename(root / "a")
    write_pngs(root, ["b/1.png"])
    for content in ({"Name": "BIDS", "Version": 1}, "text", 7):
        written(root, content, name="dataset.json")
        assert load_scans(root).source == "class folders"
    (root / "dataset.json").write_text("{not json")
    assert load_scans(root).source == "class folders"


def test_rows_are_named_by_their_place(root):
    content = {"training": [*entries("a", "b"), {"image": "images/9.png", "label": "a"}, {"image": FILES[3]}]}
    found = load_scans(written(root, content))
    by_code = {finding.code: finding.value for finding in found.findings}
    assert set(by_code) == {"file-missing", "label-missing"}
    assert "list.json, row training[2] (images/9.png): 'images/9.png' does not exist" in by_code["file-missing"]
    assert "row training[3]" in by_code["label-missing"]


def test_the_label_may_have_another_name_and_the_segmentation_be_a_mask(root):
    content = [{"image": FILES[0], "label": FILES[2], "class": "a", "mask": FILES[2]},
               {"image": FILES[1], "label": FILES[3], "class": "b", "mask": FILES[3]}]  # fmt: skip
    path = written(root, {"training": content})
    with pytest.raises(DataError, match=r"'label' names images \(segmentations\).*training\[0\] .*--label-column"):
        load_scans(path)
    found = load_scans(path, label_column="class")
    assert [scan.mask for scan in found] == [root / FILES[2], root / FILES[3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": []}, "has no labelled entry"),
        ({"training": {"a": 1}}, "'training' is no list"),
        ([7], r"\[0\] is neither an entry nor a path"),
        ([{"label": 1}], r"\[0\] has no 'image'; it has label"),
        ([{"image": 3, "label": 1}], "is no path and no list of paths"),
        ([{"image": [], "label": 1}], "is no path and no list of paths"),
        ([{"image": FILES[0], "label": {"a": 1}}], r"several labels in \[0\]"),
        ([{"image": FILES[0], "label": [0, 1]}], r"several labels in \[0\]"),
        ([{"image": FILES[0], "label": 0}, {"image": [FILES[1], FILES[2]], "label": 1}], "entries of 1, 2 images"),
        ("text", "is no data list"),
        ([{"image": FILES[0], "class": 0}], "no column 'label'; it has path, class"),
    ],
)
def test_refusals(root, content, message):
    with pytest.raises(DataError, match=message):
        load_scans(written(root, content))


def test_what_is_no_json_is_refused(root):
    (root / "x.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is no JSON"):
        load_scans(root / "x.json")
