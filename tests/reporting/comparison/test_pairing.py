from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medres.data.table import ScanTable
from medres.errors import DataError
from medres.evaluation.evaluate import score_questions
from medres.finetuning.scoring import main_block
from medres.reporting.comparison.pairing import Pairing, pair_runs
from medres.reporting.comparison.recorded import read_run
from tests.reporting.comparison.made import Data, make_run

CASES = {
    "one scan a patient": Data(),
    "three scans a patient": Data(scans=3),
    "lesions of three scans": Data(scans=3, units=True),
    "near copies": Data(copies=9),
    "near copies and several scans": Data(scans=2, copies=6),
    "three classes": Data(classes=("a", "b", "c"), patients=75, scans=2),
    "given split": Data(split=True, patients=80),
}


def _pair(*folders: Path) -> Pairing:
    return pair_runs([read_run(folder) for folder in folders])


@pytest.mark.parametrize("name", CASES)
def test_paired_predictions_give_the_scores_that_each_run_wrote(name: str, tmp_path: Path) -> None:
    """Read back, mapped to scans, averaged by unit, decided at the operating point: nothing has changed."""
    runs = [read_run(make_run(tmp_path / f"r{seed}", data=CASES[name], seed=seed)) for seed in (0, 1)]
    pairing = pair_runs(runs)
    for run, predictions in zip(runs, pairing.predictions, strict=True):
        scores = main_block(dict(run.metrics))[1]["scores"]
        for question in score_questions(predictions, len(run.classes)):
            assert question.value() == pytest.approx(scores[question.name]["value"], abs=1e-12), question.name
        assert pairing.num_patients == scores["accuracy"]["n_patients"]
        assert pairing.num_units == scores["accuracy"]["n_units"]
    first, second = pairing.predictions
    np.testing.assert_array_equal(first.class_indices, second.class_indices)
    np.testing.assert_array_equal(first.patients, second.patients)
    assert pairing.left_out == (0, 0)
    assert pairing.scored == ("test" if name == "given split" else "pooled")
    assert not any("Left out" in note for note in pairing.notes)


def test_the_same_run_is_paired_scan_by_scan_whatever_its_pseudonyms_are(tmp_path: Path) -> None:
    one, other = (read_run(make_run(tmp_path / name, noise_seed=5)) for name in ("one", "other"))
    assert not set(one.scored.pseudonyms) & set(other.scored.pseudonyms)
    first, second = pair_runs([one, other]).predictions
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_only_what_all_runs_scored_is_compared_and_the_rest_is_counted(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", data=Data(patients=60))
    part = make_run(tmp_path / "part", data=Data(patients=50, first=20))
    pairing = _pair(whole, part)
    assert (pairing.num_units, pairing.left_out) == (40, (20, 10))
    assert any("whole 20, part 10" in note for note in pairing.notes)


def test_a_scan_with_other_voxels_is_another_scan(tmp_path: Path) -> None:
    table = Data().table()
    changed = ScanTable(**{
        **table.__dict__, "scans": (replace(table.scans[0], content_hash="changed"), *table.scans[1:])
    })  # fmt: skip
    pairing = _pair(make_run(tmp_path / "a"), make_run(tmp_path / "b", data=changed))
    assert (pairing.num_units, pairing.left_out) == (59, (1, 1))


def test_a_unit_that_lost_a_scan_is_another_unit(tmp_path: Path) -> None:
    table = Data(scans=2, units=True).table()
    without = replace(table, scans=table.scans[1:])
    pairing = _pair(make_run(tmp_path / "a", data=table), make_run(tmp_path / "b", data=without))
    assert (pairing.num_units, pairing.left_out) == (59, (1, 1))


def test_patients_whom_one_run_knows_to_be_one_are_one_for_all(tmp_path: Path) -> None:
    known = make_run(tmp_path / "known", data=Data(copies=7))
    unknown = make_run(tmp_path / "unknown", data=Data(), near_duplicates="ignore")
    assert _pair(unknown, known).num_patients == 53


def test_folds_that_differ_are_said(tmp_path: Path) -> None:
    same = _pair(make_run(tmp_path / "a"), make_run(tmp_path / "b"))
    assert (same.foldings, same.notes) == ((0, 0), ("All runs have the same folds.",))
    by_seed = _pair(*(make_run(tmp_path / f"s{n}", seed=n % 2) for n in range(4)))
    assert by_seed.foldings == (0, 1, 0, 1)
    assert "in 2 ways, one a seed" in by_seed.notes[0]
    by_number = _pair(make_run(tmp_path / "five"), make_run(tmp_path / "three", folds=3))
    assert "also among runs of one seed" in by_number.notes[0]


def test_a_scan_table_from_before_near_copies_were_in_it_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "old", data=Data(copies=9))
    lines = (folder / "scans.csv").read_text().splitlines()
    assert lines[0].endswith(",alike")
    (folder / "scans.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in lines))
    other = make_run(tmp_path / "other", near_duplicates="ignore")
    [note] = [note for note in _pair(folder, other).notes if "near copies" in note]
    assert note.startswith("old counted 51 independent patients, its scans.csv tells 60")


def test_what_contradicts_is_refused(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain")
    table = Data().table()
    flipped = replace(table, classes=("malignant", "benign"))
    swapped = replace(table, scans=tuple(
        replace(scan, label=("malignant", "benign")[index % 2]) if index < 4 else scan
        for index, scan in enumerate(table.scans)
    ))  # fmt: skip
    cases = {
        "different classes: benign, malignant against a, b, c": Data(classes=("a", "b", "c"), patients=75),
        "different classes: benign, malignant against no, yes": Data(classes=("no", "yes")),
        "different positive classes: malignant and benign": flipped,
        "different units: scan against lesion_id": Data(units=True),
        "held-out folds and a given test split: cross-validation, pooled against given-split, test": Data(
            split=True, patients=80
        ),
        "other labels for 4 units of 60: Doe": swapped,
        "no scored unit in common": Data(first=100),
        "too few scored patients in common: benign 3, malignant 3": Data(first=54),
    }
    for number, (message, data) in enumerate(cases.items()):
        other = make_run(tmp_path / f"other-{number}", data=data)
        with pytest.raises(DataError, match=message):
            _pair(plain, other)
        with pytest.raises(DataError):
            _pair(other, plain)


def test_the_same_content_under_other_ids_is_said(tmp_path: Path) -> None:
    table = Data().table()
    renamed = replace(table, scans=tuple(replace(scan, sample_id=f"x{scan.sample_id}") for scan in table.scans))
    with pytest.raises(DataError, match="the same content under other sample ids"):
        _pair(make_run(tmp_path / "a"), make_run(tmp_path / "b", data=renamed))
