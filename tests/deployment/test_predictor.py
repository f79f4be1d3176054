from __future__ import annotations

import csv
import shutil
import threading
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from scipy.special import softmax

from medres.data.catalogue import KINDS
from medres.data.readers import read_scan
from medres.data.sources import list_scans
from medres.deployment.bundle import load_bundle
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor, find_bundle
from medres.errors import BundleError, ConfigError, DataError, UnreadableScanError
from medres.finetuning.inference import compute_logits
from medres.preprocessing.cache import prepare_table
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Silent
from tests.deployment.tiny import Kind, Tiny, make_tiny


def logits_of_training(tiny: Tiny, folder: Path, fold: int) -> np.ndarray[Any, Any]:
    """The logits as training's own evaluation computes them: packed cache, batches of the plan."""
    preprocessor = Preprocessor(tiny.plan)
    cache = prepare_table(tiny.table, preprocessor=preprocessor, cache_dir=folder, images={}, progress=Silent())
    keys = [scan.content_hash for scan in tiny.table]
    return compute_logits(
        load_bundle(tiny.bundle).members[fold].model, preprocessor, lambda part: cache.read(keys[part]), len(keys),
        batch_size=tiny.plan.batch_size, device=torch.device("cpu"), tta=tiny.manifest.tta,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "tta"), [("CT 3D", 0), ("MR 3D", 0), ("images 2D", 0), ("CT 3D", 3), ("images 2D", 2)]
)
def test_what_is_served_is_what_was_evaluated(tmp_path: Path, kind: Kind, tta: int) -> None:
    tiny = make_tiny(tmp_path, kind, tta=tta)
    expected = []
    for fold, member in enumerate(tiny.manifest.members):
        raw = logits_of_training(tiny, tmp_path / "cache", fold).astype(np.float64)
        expected.append(softmax((raw - np.array(member.logit_offset)) / member.temperature, axis=1))
        alone = Predictor(tmp_path / "run", member=fold).predict(tiny.table)
        np.testing.assert_allclose(alone.probabilities, expected[fold], atol=1e-5)
        np.testing.assert_allclose(softmax(alone.logits, axis=1), alone.probabilities, atol=1e-12)
        assert (alone.decisions == member.operating_point.decide(expected[fold])).all()
        assert alone.fold == str(fold)
    ensemble = Predictor(tmp_path / "run").predict(tiny.table)
    np.testing.assert_allclose(ensemble.probabilities, np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(np.exp(ensemble.logits), ensemble.probabilities, atol=1e-12)
    assert (ensemble.decisions == tiny.manifest.operating_point.decide(ensemble.probabilities)).all()
    assert ensemble.fold == "ensemble"
    assert np.ptp(ensemble.probabilities[:, 0]) > 1e-3  # the scans differ, so that equality says something


def test_test_time_augmentation_is_part_of_the_bundle(tmp_path: Path) -> None:
    plain, averaged = (make_tiny(tmp_path / str(tta), "images 2D", tta=tta, num_members=1) for tta in (0, 3))
    assert [tiny.manifest.tta for tiny in (plain, averaged)] == [0, 3]
    answers = [Predictor(tiny.bundle).predict(tiny.table) for tiny in (plain, averaged)]
    assert np.abs(answers[0].logits - answers[1].logits).max() > 1e-3
    alone = np.concatenate([Predictor(averaged.bundle).predict([scan.path]).logits for scan in averaged.table])
    np.testing.assert_array_equal(alone, answers[1].logits)  # the views do not depend on the company


def test_a_scan_is_predicted_the_same_in_any_company(tiny: Tiny) -> None:
    predictor = Predictor(tiny.bundle)
    together = predictor.predict(tiny.table).probabilities
    alone = np.concatenate([predictor.predict([scan.path]).probabilities for scan in tiny.table])
    backwards = predictor.predict_images([read_scan(scan.path) for scan in reversed(tiny.table.scans)])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(backwards.probabilities[::-1], together)
    in_batches = Predictor(tiny.bundle, batch_size=4).predict(tiny.table).probabilities
    np.testing.assert_allclose(in_batches, together, atol=1e-6)


def test_the_settings_of_the_caller_change_nothing(tiny: Tiny) -> None:
    expected = Predictor(tiny.bundle).predict(tiny.table).probabilities
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = Predictor(tiny.bundle).predict(tiny.table).probabilities
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_requests_from_several_threads_do_not_mix(tiny: Tiny) -> None:
    predictor = Predictor(tiny.bundle)
    expected = predictor.predict(tiny.table).probabilities
    found: dict[int, Any] = {}

    def ask(row: int) -> None:
        found[row] = predictor.predict([tiny.table.scans[row].path]).probabilities[0]

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(len(tiny.table))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal([found[row] for row in range(len(tiny.table))], expected)


def test_bad_scans_are_told_in_their_rows_and_the_others_predicted(tiny: Tiny, tmp_path: Path) -> None:
    good = shutil.copy(tiny.table.scans[0].path, tmp_path / "a good scan.nii.gz")
    whole = Path(good).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.nii").write_text("no scan")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8), np.int16), np.eye(4)), tmp_path / "flat.nii")
    found = Predictor(tiny.bundle).predict([tmp_path])
    expected = Predictor(tiny.bundle).predict([tiny.table.scans[0].path]).probabilities[0]
    by_name = dict(zip((Path(file).name for file in found.files), range(len(found)), strict=True))
    assert found.num_failed == 3
    np.testing.assert_array_equal(found.probabilities[by_name["a good scan.nii.gz"]], expected)
    for name in ("cut.nii.gz", "text.nii", "flat.nii"):
        row = by_name[name]
        assert np.isnan(found.probabilities[row]).all()
        assert (found.predicted[row], found.decision[row], found.decisions[row]) == (None, None, -1)
        assert isinstance(found.errors[row], DataError)
        assert found.findings[row][0].endswith(str(found.errors[row]))
    assert isinstance(found.errors[by_name["cut.nii.gz"]], UnreadableScanError)
    assert found.findings[by_name["cut.nii.gz"]][0].partition(": ")[0] in KINDS
    assert "cut.nii.gz" in found.findings[by_name["cut.nii.gz"]][0]


def test_masks_beside_the_scans_of_a_folder_have_no_row_and_are_told(tiny: Tiny, tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    scan = Path(shutil.copy(tiny.table.scans[0].path, tmp_path / "a.nii.gz"))
    mask = np.zeros(nibabel.load(scan).shape[:3], np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "a_seg.nii.gz")
    found = Predictor(tiny.bundle).predict([tmp_path], progress=Noting())
    assert [Path(file).name for file in found.files] == ["a.nii.gz"]
    assert any("mask-among-scans: a_seg.nii.gz is the mask of a.nii.gz" in note for note in notes)


def test_training_scans_are_recognised_by_content_not_by_name(tiny: Tiny, tmp_path: Path) -> None:
    copy = tmp_path / "new patient.nii"
    copy.write_bytes(nibabel.load(tiny.table.scans[0].path).to_bytes())  # another name, not compressed
    predictor = Predictor(tiny.bundle)
    assert "in the training data of member 0" in predictor.predict([copy]).findings[0][0]
    assert not predictor.predict([tiny.table.scans[-1].path]).findings[0]
    # the second member was trained on other scans
    assert not Predictor(tiny.bundle, member=1).predict([copy]).findings[0]


def test_spacing_outside_of_the_training_range_is_told(tiny: Tiny, tmp_path: Path) -> None:
    source = nibabel.load(tiny.table.scans[-1].path)
    affine = source.affine @ np.diag([1.0, 1.0, 0.25, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.asarray(source.dataobj), affine), tmp_path / "thin.nii.gz")
    findings = Predictor(tiny.bundle).predict([tmp_path / "thin.nii.gz"]).findings[0]
    assert len(findings) == 2
    assert findings[0].startswith("spacing-outlier: Its spacing along")
    assert "in training it was" in findings[0]
    assert findings[1].startswith("size-outlier: ")  # as many voxels, a quarter as long


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_the_finding_about_spacing_names_the_axis_of_the_patient_not_of_the_file(
    tiny: Tiny, tmp_path: Path, axes: tuple[int, int, int]
) -> None:
    source = nibabel.load(tiny.table.scans[-1].path)
    superior = nibabel.aff2axcodes(source.affine)
    sliced = next(n for n, letter in enumerate(superior) if letter in "SI")
    affine = source.affine @ np.diag([0.25 if n == sliced else 1.0 for n in range(3)] + [1.0])
    permuted = affine[:, [*axes, 3]]
    nibabel.save(nibabel.Nifti1Image(np.asarray(source.dataobj).transpose(axes), permuted), tmp_path / "thin.nii.gz")
    findings = Predictor(tiny.bundle, member=1).predict([tmp_path / "thin.nii.gz"]).findings[0]
    assert findings[0].startswith("spacing-outlier: Its spacing along D is ")
    assert " along D is " in findings[1]
    assert len(findings) == 2


def test_the_csv_holds_every_digit_and_empty_cells_for_what_failed(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "broken.nii").write_bytes(b"x")
    found = Predictor(tiny.bundle).predict([tiny.table.scans[0].path, tmp_path / "broken.nii"])
    found.to_csv(tmp_path / "out" / "predictions.csv")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == found.columns
    for row, probabilities, predicted in zip(rows, found.probabilities, found.predicted, strict=True):
        if predicted is None:
            assert (row["prob_benign"], row["logit_benign"], row["predicted"], row["decision"]) == ("", "", "", "")
            assert "broken.nii" in row["findings"]
        else:
            assert [float(row["prob_benign"]), float(row["prob_malignant"])] == list(probabilities)
            assert row["predicted"] == predicted


def test_images_without_a_spacing_have_no_finding_about_it(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path, "images 2D", num_members=1)
    found = Predictor(tiny.bundle).predict(tiny.table)
    assert found.num_failed == 0
    assert not found.findings[-1]


def test_nothing_to_predict_is_no_error_in_memory(tiny: Tiny) -> None:
    found = Predictor(tiny.bundle).predict_images([])
    assert (len(found), found.probabilities.shape) == (0, (0, 2))


def test_a_loaded_bundle_serves_several_predictors(tiny: Tiny) -> None:
    bundle = load_bundle(tiny.bundle)
    both = [Predictor(bundle, member=fold).predict(tiny.table).probabilities for fold in (0, 1)]
    assert np.abs(both[0] - both[1]).max() > 1e-3
    with pytest.raises(BundleError, match="without member 1"):
        Predictor(load_bundle(tiny.bundle, folds=[0]), member=1)


def test_an_ensemble_needs_all_its_members(tiny: Tiny) -> None:
    with pytest.raises(BundleError, match="without all its members"):
        Predictor(load_bundle(tiny.bundle, folds=[0]))


def test_an_answer_that_is_not_finite_is_none(tiny: Tiny) -> None:
    bundle = load_bundle(tiny.bundle)
    with torch.no_grad():
        bundle.members[1].model.head.bias[0] = float("nan")
    found = Predictor(bundle).predict(tiny.table)
    assert found.num_failed == len(tiny.table)
    assert set(found.predicted) == set(found.decision) == {None}
    assert "no finite answer" in found.findings[0][0]


@pytest.mark.parametrize(
    ("made", "said"), [("nothing", "does not exist"), ("folder", "holds no bundle"), ("file", "does not exist")]
)
def test_what_is_no_model_is_told(tmp_path: Path, made: str, said: str) -> None:
    if made == "folder":
        (tmp_path / "model").mkdir()
    elif made == "file":
        (tmp_path / "model").write_text("")
    with pytest.raises(BundleError, match=said):
        find_bundle(tmp_path / "model")


def test_bad_arguments_are_told(tiny: Tiny) -> None:
    with pytest.raises(BundleError, match="no member 9"):
        Predictor(tiny.bundle, member=9)
    with pytest.raises(ConfigError, match="device 'tpu'"):
        Predictor(tiny.bundle, device="tpu")


def test_the_way_to_the_scans_does_not_matter(tiny: Tiny) -> None:
    predictor = Predictor(tiny.bundle)
    by_table: Predictions = predictor.predict(tiny.table)
    by_folder = predictor.predict([tiny.table.root])
    by_listing = predictor.predict(list_scans([tiny.table.root]))
    np.testing.assert_array_equal(by_table.probabilities, by_folder.probabilities)
    np.testing.assert_array_equal(by_table.probabilities, by_listing.probabilities)
