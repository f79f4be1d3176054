import csv
from pathlib import Path

import numpy as np
import pytest

from medres.data.image import ScanImage
from medres.data.table import COLUMNS, Scan
from tests.data.making import table_of

ROWS = [("a", "p1", "x", "h1", "train"), ("b", "p1", "y", "h2", "train"), ("c", "p2", "y", "h3", "test")]


def test_counts_indices_and_parts():
    table = table_of(ROWS)
    assert len(table) == 3
    assert table.class_indices.tolist() == [0, 1, 1]
    assert table.class_counts() == {"x": 1, "y": 2}
    assert (table.num_patients, table.splits) == (2, {"train", "test"})
    assert [scan.sample_id for scan in table.subset(np.array([2, 0]))] == ["c", "a"]
    assert [scan.sample_id for scan in table.where_split("test")] == ["c"]
    assert table.without_splits().splits == frozenset()
    assert table.subset([0]).classes == ("x", "y")


def test_hashes_are_filled_in_a_new_table():
    table = table_of(ROWS)
    filled = table.with_content_hashes({"a": "1", "b": "2", "c": "3"})
    assert [scan.content_hash for scan in filled] == ["1", "2", "3"]
    assert [scan.content_hash for scan in table] == ["h1", "h2", "h3"]


def test_unknown_labels_have_no_class():
    scan = Scan(sample_id="a", patient_id="p", path=Path("a.png"))
    assert table_of(ROWS).class_indices.min() == 0
    assert table_of([("a", "p", "z")], classes=("x", "y")).class_indices.tolist() == [-1]
    assert scan.label is None


def test_csv_has_relative_paths_and_the_metadata_that_came(tmp_path):
    table = table_of(ROWS)
    table.write_csv(tmp_path / "scans.csv")
    with (tmp_path / "scans.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0] == {
        "sample_id": "a",
        "patient_id": "p1",
        "path": "a",
        "member": "",
        "label": "x",
        "split": "train",
        "unit": "",
        "content_hash": "h1",
    }


def test_csv_says_which_scans_are_near_copies_of_each_other(tmp_path):
    table = table_of(ROWS).with_alike({"a": "a", "c": "a"})
    table.write_csv(tmp_path / "scans.csv")
    with (tmp_path / "scans.csv").open(newline="") as file:
        assert [row["alike"] for row in csv.DictReader(file)] == ["a", "", "a"]


@pytest.mark.parametrize(("shape", "dims"), [((1, 4, 5), 2), ((3, 4, 5), 2), ((1, 4, 5, 6), 3)])
def test_image_dimensions(shape, dims):
    image = ScanImage(voxels=np.zeros(shape), affine=None, spacing_mm=None, content_hash="")
    assert (image.spatial_dims, image.spatial_shape) == (dims, shape[1:])
