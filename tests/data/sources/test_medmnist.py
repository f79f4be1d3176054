import numpy as np
import pytest

from medres.data.sources import load_scans
from medres.errors import DataError
from tests.data.making import write_medmnist


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (6, 7, 8)])
def test_splits_labels_and_members(tmp_path, shape):
    path = write_medmnist(tmp_path / "x.npz", shape=shape)
    found = load_scans(path)
    assert [scan.sample_id for scan in found][:5] == [
        "test/00000",
        "test/00001",
        "test/00002",
        "test/00003",
        "train/00000",
    ]
    assert found.splits == {"train", "val", "test"}
    assert (found.classes, found.source, found.root) == (("0", "1"), "MedMNIST .npz", tmp_path)
    assert found.class_counts() == {"0": 7, "1": 7}
    assert found.scans[5].member == "train_images:1"
    assert found.scans[5].label == "1"
    assert not found.patients_given
    assert "MedMNIST names no patients: each image is taken as its own patient." in found.notes


def test_many_classes_are_sorted_as_numbers(tmp_path):
    path = write_medmnist(tmp_path / "x.npz", counts=(24, 12, 12), num_classes=12)
    assert load_scans(path).classes == tuple(str(n) for n in range(12))


def test_labels_may_be_flat_and_splits_may_be_missing(tmp_path):
    path = write_medmnist(
        tmp_path / "x.npz", train_labels=np.array([0, 1, 0, 1, 0, 1]), val_images=None, val_labels=None
    )
    assert load_scans(path).splits == {"train", "test"}


def test_the_positive_class(tmp_path):
    assert load_scans(write_medmnist(tmp_path / "x.npz"), positive="0").classes == ("1", "0")


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"train_labels": np.zeros((6, 14), dtype=np.uint8)}, r"x.npz has 14 labels an image \('train_labels'\)"),
        ({"val_labels": np.zeros((3, 1), dtype=np.uint8)}, "has 3 labels for 4 images of 'val_images'"),
        ({"test_labels": None}, "has no labels for 4 images of 'test_images'"),
        ({"train_labels": np.full((6, 1), 0.5)}, "'train_labels' holds float64, not whole numbers"),
        ({"train_images": np.zeros((6, 8), dtype=np.uint8)}, r"'train_images' has the shape \(6, 8\)"),
        ({"train_images": None}, "but no 'train_images'"),
        (
            {f"{split}_labels": np.zeros((n, 1), int) for split, n in (("train", 6), ("val", 4), ("test", 4))},
            "one class",
        ),
    ],
)
def test_other_layouts_are_refused(tmp_path, replaced, message):
    with pytest.raises(DataError, match=message):
        load_scans(write_medmnist(tmp_path / "x.npz", **replaced))


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"x.npz is damaged"):
        load_scans(tmp_path / "x.npz")


def test_options_that_need_files_are_refused(tmp_path):
    path = write_medmnist(tmp_path / "x.npz")
    for options in ({"patient_pattern": "(.)"}, {"patient_column": "p"}, {"unit_column": "u"}):
        with pytest.raises(DataError, match=f"--{next(iter(options)).replace('_', '-')}"):
            load_scans(path, **options)


@pytest.mark.real
@pytest.mark.parametrize(("name", "counts"), [("adrenalmnist3d", (1188, 98, 298)), ("breastmnist", (546, 78, 156))])
def test_official_splits(real_data, name, counts):
    found = load_scans(real_data / "medmnist" / f"{name}.npz")
    assert tuple(len(found.where_split(split)) for split in ("train", "val", "test")) == counts
