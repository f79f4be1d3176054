"""A model of several sequences and of a region of interest says in use what it said in its evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from medres.data.sample import read_sample
from medres.deployment.bundle import load_bundle
from medres.deployment.predictor import Predictor
from medres.errors import DataError
from medres.finetuning.inference import compute_logits
from medres.preprocessing.cache import prepare_table
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Silent
from tests.deployment.lesions import Lesions, make_lesions


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Lesions:
    return make_lesions(tmp_path_factory.mktemp("lesions"))


@pytest.mark.parametrize(
    ("names", "scheme"), [(("t1", "t2"), "robust_zscore"), (("pre", "post"), "hu_windows"), ((), "hu_windows")]
)
def test_what_is_served_is_what_was_evaluated(tmp_path: Path, names: tuple[str, ...], scheme: str) -> None:
    lesions = make_lesions(tmp_path, names=names, scheme=scheme)
    preprocessor = Preprocessor(lesions.plan)
    cache = prepare_table(
        lesions.table, preprocessor=preprocessor, cache_dir=tmp_path / "cache", images={}, progress=Silent(),
        keys=lesions.keys,
    )  # fmt: skip
    assert len(cache) == len(lesions.table) == 6  # two lesions of one scan are two samples
    member = load_bundle(lesions.bundle, folds=[0]).members[0]
    logits = compute_logits(
        member.model, preprocessor, lambda part: cache.read(lesions.keys[part]), 6, batch_size=4,
        device=torch.device("cpu"),
    )  # fmt: skip
    expected = softmax(logits - np.array(member.manifest.logit_offset), axis=1)
    predictor = Predictor(tmp_path / "run", member=0)
    for table in (lesions.table, lesions.masked):
        np.testing.assert_allclose(predictor.predict(table).probabilities, expected, atol=1e-5)
    assert len(np.unique(expected[:, 0].round(6))) == 6  # lesions differ, so that equality says something


def test_scans_without_a_region_are_refused_with_the_way_out(lesions: Lesions) -> None:
    bare = replace(lesions.table.scans[0], center_ras_mm=None)
    found = Predictor(lesions.bundle).predict(replace(lesions.table, scans=(bare, *lesions.table.scans[1:])))
    assert found.num_failed == 1
    assert np.isfinite(found.probabilities[1:]).all()
    assert "without a region of interest" in str(found.errors[0])
    assert "center_x_mm" in found.findings[0][0]
    alone = Predictor(lesions.bundle).predict([bare.path])
    assert "Give a table" in str(alone.errors[0])


def test_a_file_alone_has_no_region(tmp_path: Path) -> None:
    lesions = make_lesions(tmp_path, names=(), scheme="hu_windows")
    found = Predictor(lesions.bundle).predict([lesions.table.scans[0].path])
    assert "center_x_mm" in found.findings[0][0]


def test_a_table_says_what_a_path_cannot(lesions: Lesions, tmp_path: Path) -> None:
    expected = Predictor(lesions.bundle).predict(lesions.table)
    files = [",".join(map(str, scan.sequences.values())) for scan in lesions.table]
    places = [",".join(map(str, scan.center_ras_mm or ())) for scan in lesions.table]
    masks = [str(scan.mask) for scan in lesions.masked]
    by_center = ["t1,t2,center_x_mm,center_y_mm,center_z_mm", *map(",".join, zip(files, places, strict=True))]
    by_mask = ["t1,t2,mask", *map(",".join, zip(files, masks, strict=True))]
    for name, lines in (("centres.csv", by_center), ("masks.csv", by_mask)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        found = Predictor(lesions.bundle).predict([tmp_path / name])
        assert len(found) == 6
        order = [found.probabilities[:, 0].round(6).tolist().index(p) for p in expected.probabilities[:, 0].round(6)]
        np.testing.assert_allclose(found.probabilities[order], expected.probabilities, atol=1e-6)


def test_scans_without_a_sequence_are_refused_with_the_way_out(lesions: Lesions) -> None:
    first = lesions.table.scans[0]
    alone = replace(first, sequences={"t1": first.sequences["t1"]})
    found = Predictor(lesions.bundle).predict(replace(lesions.table, scans=(alone,)))
    assert "comes without t2" in found.findings[0][0]
    assert isinstance(found.errors[0], DataError)


def test_another_lesion_of_a_training_scan_is_a_training_scan(lesions: Lesions) -> None:
    findings = Predictor(lesions.bundle).predict(lesions.table).findings
    assert ["training data" in " ".join(row) for row in findings] == [True, True, False, False, False, False]


def test_what_the_reader_decided_is_told_in_the_words_of_the_catalogue(lesions: Lesions) -> None:
    image = read_sample(lesions.table.scans[-1], rules=lesions.plan.reading)
    noted = replace(image, notes=("uneven-slices: of Doe^John", "units: are mm", "uneven-slices: again", "Doe: x"))
    (findings,) = Predictor(lesions.bundle).predict_images([noted]).findings
    assert findings == ("uneven-slices: expected is that slices lie at one distance.",)
