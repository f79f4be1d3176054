from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medres.data.phantoms import Phantom, class_names, phantom, write_phantoms
from medres.data.sources import load_scans
from medres.data.survey import survey_scans
from medres.errors import UsageError
from medres.runs.progress import Silent

Modality = Literal["CT", "MR"]
MODALITIES: tuple[Modality, ...] = ("CT", "MR")
DIMS: tuple[Literal[2, 3], ...] = (2, 3)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


# files


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("dims", DIMS)
def test_the_same_arguments_write_the_same_bytes(tmp_path: Path, modality: Modality, dims: Literal[2, 3]) -> None:
    first, second, other = (
        digests(write_phantoms(tmp_path / name, modality=modality, spatial_dims=dims, num_scans=6, size=20, seed=seed))
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == second
    assert len(first) == 7
    assert not set(first.values()) & set(other.values())


@pytest.mark.parametrize("dims", DIMS)
def test_the_table_names_every_file(tmp_path: Path, dims: Literal[2, 3]) -> None:
    write_phantoms(tmp_path, spatial_dims=dims, num_scans=11, num_classes=3, size=16, scans_per_patient=2)
    rows = rows_of(tmp_path)
    suffix = ".png" if dims == 2 else ".nii.gz"
    on_disk = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob(f"*{suffix}")}
    assert {row["path"] for row in rows} == on_disk
    assert len(rows) == 11
    assert all(row["path"].startswith(row["label"] + "/") for row in rows)  # class folders say the same
    assert set(Counter(row["patient_id"] for row in rows).values()) <= {1, 2}
    labels_of = {row["patient_id"]: {r["label"] for r in rows if r["patient_id"] == row["patient_id"]} for row in rows}
    assert all(len(labels) == 1 for labels in labels_of.values())
    assert [Path(row["path"]).name for row in rows] == [f"scan-{n + 1:04d}{suffix}" for n in range(11)]


@pytest.mark.parametrize(("scans", "classes"), [(40, 2), (41, 2), (30, 3), (7, 7)])
def test_classes_are_balanced_and_numbers_reveal_nothing(tmp_path: Path, scans: int, classes: int) -> None:
    write_phantoms(tmp_path, spatial_dims=2, num_scans=scans, num_classes=classes, size=16)
    labels = [row["label"] for row in rows_of(tmp_path)]
    counts = Counter(labels)
    assert set(counts) == set(class_names(classes))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert labels != sorted(labels)
    assert [list(class_names(classes))[index % classes] for index in range(scans)] != labels or classes == scans


def test_names_sort_from_faint_to_plain() -> None:
    for count in (2, 3, 9, 10, 12):
        names = class_names(count)
        assert list(names) == sorted(names)
        assert len(set(names)) == count


def test_volumes_are_int16_and_know_where_they_lie(tmp_path: Path) -> None:
    write_phantoms(tmp_path, num_scans=20, size=16)
    images = [nib.load(path) for path in tmp_path.rglob("*.nii.gz")]
    assert {image.get_data_dtype() for image in images} == {np.dtype(np.int16)}
    assert all(int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1 for image in images)
    assert len({tuple(np.round(image.header.get_zooms(), 2)) for image in images}) == 20
    assert len({nib.aff2axcodes(image.affine) for image in images}) >= 4
    for image in images:
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        # the middle of the volume is the origin
        middle = image.affine @ [*(np.array(image.shape) - 1) / 2, 1]
        np.testing.assert_allclose(middle[:3], 0, atol=1e-3)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_smallest_volumes_pass_the_check_of_the_data(tmp_path: Path, modality: Modality) -> None:
    write_phantoms(tmp_path, modality=modality, num_scans=6, size=16)
    found = survey_scans(load_scans(tmp_path), progress=Silent()).findings
    assert [finding.code for finding in found if finding.severity == "error"] == []


def test_pictures_are_8_bit_grey(tmp_path: Path) -> None:
    write_phantoms(tmp_path, num_scans=4, size=20, spatial_dims=2, modality="MR")
    images = [Image.open(path) for path in tmp_path.rglob("*.png")]
    assert {(image.mode, image.size) for image in images} == {("L", (20, 20))}


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"num_classes": 1}, "num_classes is 1"),
    ({"num_scans": 2, "num_classes": 3}, "2 patients for 3 classes"),
    ({"num_scans": 9, "scans_per_patient": 9}, "1 patients for 2 classes"),
    ({"size": 8}, "size is 8"),
    ({"signal": -1.0}, "signal is -1"),
    ({"signal": float("nan")}, "signal is nan"),
    ({"scans_per_patient": 0}, "scans_per_patient is 0"),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_arguments_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        write_phantoms(tmp_path / "new", **changes)
    assert caught.value.fix
    assert not (tmp_path / "new").exists()


# anatomy


@pytest.mark.parametrize("modality", MODALITIES)
def test_scans_of_one_body_agree_in_space(modality: Modality) -> None:
    """Whatever the file's axes are, the lesion is at the same millimetres."""
    centres = []
    for scan in range(8):
        made = phantom(modality=modality, size=48, severity=1.0, patient=3, scan=scan)
        assert made.affine is not None
        centre = np.append(np.argwhere(made.lesion).mean(axis=0), 1)
        centres.append((made.affine @ centre)[:3])
    assert np.ptp(centres, axis=0).max() < 6  # a voxel is 5 to 9 mm
    assert np.linalg.norm(centres[0]) > 10


def test_ct_is_in_hounsfield_units() -> None:
    made = phantom(size=48)
    assert np.percentile(made.voxels, 5) < -950  # air around
    for tissue, level in (("lung", -850), ("muscle", 40), ("bone", 400)):
        share = np.mean(np.abs(made.voxels.astype(int) - level) < 60)
        assert share > 0.003, tissue
    assert made.voxels.min() >= -1024


def test_mr_units_are_arbitrary() -> None:
    tops = [np.percentile(phantom(modality="MR", size=24, patient=index).voxels, 99) for index in range(12)]
    assert max(tops) > 4 * min(tops)
    assert all(phantom(modality="MR", size=24, patient=index, severity=9).voxels.min() >= 0 for index in range(12))


def test_mr_noise_is_rician() -> None:
    air = phantom(modality="MR", size=64, patient=1).voxels[:4, :4, :4].astype(float)  # a corner outside the head
    # of magnitude noise: mean / standard deviation = sqrt(pi / 2) / sqrt(2 - pi / 2)
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / 2) / np.sqrt(2 - np.pi / 2), rel=0.35)


def test_scans_of_a_patient_are_alike_and_those_of_others_are_not() -> None:
    same = [phantom(size=32, patient=5, scan=scan, spatial_dims=2).voxels.astype(float) for scan in (0, 1)]
    other = phantom(size=32, patient=6, spatial_dims=2).voxels.astype(float)
    assert not np.array_equal(*same)
    assert np.corrcoef(same[0].ravel(), same[1].ravel())[0, 1] > np.corrcoef(same[0].ravel(), other.ravel())[0, 1]


# signal


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("dims", DIMS)
def test_without_signal_a_scan_does_not_know_its_class(tmp_path: Path, modality: Modality, dims: Literal[2, 3]) -> None:
    """Two data sets whose labels differ hold the same voxels."""
    made = []
    for classes in (2, 4):
        folder = write_phantoms(
            tmp_path / str(classes), modality=modality, spatial_dims=dims, num_scans=8, num_classes=classes, size=16,
            signal=0.0,
        )  # fmt: skip
        made.append({Path(row["path"]).name: row for row in rows_of(folder)})
    by_patient = [
        {row["patient_id"]: (tmp_path / count / row["path"]).read_bytes() for row in rows.values()}
        for count, rows in zip(("2", "4"), made, strict=True)
    ]
    assert by_patient[0] == by_patient[1]


def simple_statistics(made: Phantom) -> list[float]:
    values = made.voxels.astype(float)
    if values.max() > 4000:  # MR: take the scale out
        values = values / np.percentile(values, 99)
    return [values.mean(), values.std(), *np.percentile(values, [1, 5, 25, 50, 75, 95, 99, 99.9])]


def auroc_of_statistics(modality: Modality, *, signal: float, count: int = 120) -> float:
    classes = np.random.default_rng(0).permutation(np.arange(count) % 2)
    scans = [
        phantom(modality=modality, spatial_dims=2, size=48, severity=signal * label, patient=index, seed=3)
        for index, label in enumerate(classes)
    ]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    features = [simple_statistics(scan) for scan in scans]
    scores = cross_val_predict(model, features, classes, cv=5, method="decision_function")
    return float(roc_auc_score(classes, scores))


@pytest.mark.parametrize("modality", MODALITIES)
def test_statistics_find_nothing_where_there_is_nothing(modality: Modality) -> None:
    # a chance AUROC of 60 against 60 has a standard deviation of 0.053
    assert abs(auroc_of_statistics(modality, signal=0.0) - 0.5) < 0.16


def solid_in_lung(made: Phantom) -> float:
    """How many dense pixels lie in the closed outline of the lungs."""
    hu = made.voxels / 255 * 1400 - 1000
    body = hu > -500
    lung = ndimage.binary_fill_holes(body) & ~body
    return float(np.count_nonzero(ndimage.binary_closing(lung, iterations=6) & (hu > -300)))


def brightest_in_brain(made: Phantom) -> float:
    """The brightest 3 x 3 pixels of the inner head, in units of its median."""
    brain = ndimage.binary_erosion(ndimage.binary_fill_holes(made.voxels > 30), iterations=8)
    return float(ndimage.uniform_filter(made.voxels.astype(float), 3)[brain].max() / np.median(made.voxels[brain]))


DETECTORS: dict[Modality, tuple[Callable[[Phantom], float], float]] = {
    "CT": (solid_in_lung, 0.8), "MR": (brightest_in_brain, 0.95),
}  # fmt: skip


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_simple_lesion_detector_finds_the_signal_and_nothing_else(modality: Modality) -> None:
    detector, least = DETECTORS[modality]
    classes = np.arange(120) % 2
    aurocs = []
    for signal in (0.0, 1.0):
        scans = (
            phantom(modality=modality, spatial_dims=2, size=64, severity=signal * label, patient=index)
            for index, label in enumerate(classes)
        )
        aurocs.append(roc_auc_score(classes, [detector(scan) for scan in scans]))
    assert abs(aurocs[0] - 0.5) < 0.16  # three standard deviations of chance
    assert aurocs[1] > least


def lesion_size(made: Phantom) -> float:
    return float(np.mean(made.lesion))


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_stronger_signal_is_a_larger_lesion(modality: Modality) -> None:
    sizes = [
        np.mean([lesion_size(phantom(modality=modality, size=32, severity=s, patient=p)) for p in range(6)])
        for s in (0.0, 0.5, 1.0, 2.0)
    ]
    assert all(small < large for small, large in pairwise(sizes))


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_mask_is_where_the_lesion_is(modality: Modality) -> None:
    faint, plain = (phantom(modality=modality, size=40, severity=severity, patient=2) for severity in (0.0, 1.0))
    change = np.abs(faint.voxels.astype(float) - plain.voxels.astype(float)) / np.ptp(plain.voxels)
    # the edge of the lesion is a voxel wide: what changed lies within one voxel of the mask
    assert not np.any((change > 0.02) & ~ndimage.binary_dilation(plain.lesion, np.ones((3, 3, 3))))
    assert np.mean(change[plain.lesion] > 0.02) > 0.8
    assert ndimage.label(plain.lesion, np.ones((3, 3, 3)))[1] == 1
