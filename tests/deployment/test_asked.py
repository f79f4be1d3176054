"""The law of rows at the door of Python: one row out for each row in, in order, whatever is among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medres.deployment.asked import answered_in_order
from medres.deployment.bundle import load_bundle
from medres.deployment.predictor import Predictor
from medres.errors import UsageError
from tests.deployment.tiny import Tiny


@pytest.fixture(scope="module")
def inputs(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Paths with the probability of the first class of each of their rows, each predicted alone; NaN where refused."""
    root = tmp_path_factory.mktemp("inputs")
    scans = [scan.path for scan in tiny.table]
    (root / "link.nii.gz").symlink_to(scans[1])
    (root / "cut.nii.gz").write_bytes(scans[0].read_bytes()[:999])
    (root / "table.csv").write_text(f"path\n{scans[3]}\ngone.nii\n{scans[0]}\n{scans[3]}\n")
    (root / "folder").mkdir()
    for name, scan in (("b", scans[0]), ("a", scans[2])):
        (root / f"folder/{name}.nii.gz").write_bytes(scan.read_bytes())
    predictor = Predictor(tiny.bundle)
    alone = [float(predictor.predict([scan]).probabilities[0, 0]) for scan in scans]
    assert len({round(value, 4) for value in alone}) == len(alone)  # so that a wrong order shows
    stands_for = {
        **{scan: [value] for scan, value in zip(scans, alone, strict=True)},
        root / "link.nii.gz": [alone[1]],
        root / "cut.nii.gz": [np.nan],
        root / "gone.nii.gz": [np.nan],
        root / "table.csv": [alone[3], np.nan, alone[0], alone[3]],
        root / "folder": [alone[2], alone[0]],
    }
    return SimpleNamespace(predictor=predictor, stands_for=stands_for)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_each_row_has_its_own_answer_at_its_place(inputs: Any, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(list(inputs.stands_for)), max_size=5))
    found = inputs.predictor.predict(path for path in asked)
    expected = [value for path in asked for value in inputs.stands_for[path]]
    np.testing.assert_array_equal(found.probabilities[:, 0], expected)
    given = [str(path) for path in asked for _ in inputs.stands_for[path]]
    assert [name.split(", row ")[0] for name in found.given] == given
    assert [error is not None for error in found.errors] == list(np.isnan(expected))
    assert len(found) == len(found.files) == len(found.findings) == len(found.decision) == len(expected)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_scan_table_keeps_the_order_of_its_rows(tiny: Tiny, inputs: Any, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(tiny.table) - 1), min_size=1, max_size=6))
    found = inputs.predictor.predict(tiny.table.subset(rows))
    expected = [inputs.stands_for[tiny.table.scans[row].path][0] for row in rows]
    np.testing.assert_array_equal(found.probabilities[:, 0], expected)
    assert found.sample_ids == tuple(tiny.table.scans[row].sample_id for row in rows)


@pytest.mark.parametrize("spelled", [str, Path, lambda path: [path], lambda path: iter([str(path)])])
def test_one_scan_is_asked_for_in_any_way(tiny: Tiny, inputs: Any, spelled: Any) -> None:
    path = tiny.table.scans[2].path
    found = inputs.predictor.predict(spelled(path))
    np.testing.assert_array_equal(found.probabilities[:, 0], inputs.stands_for[path])


def test_nothing_is_answered_by_nothing(inputs: Any) -> None:
    found = inputs.predictor.predict([])
    assert (len(found), found.probabilities.shape, found.predicted) == (0, (0, 2), ())


@pytest.mark.parametrize(
    "asked", [None, 3, b"scan.nii", {"path": "scan.nii"}, pd.DataFrame({"path": ["scan.nii"]}), [None], [["scan.nii"]]]
)
def test_what_is_no_path_is_told(inputs: Any, asked: Any) -> None:
    with pytest.raises(UsageError, match=r"Give a path, a list of paths, or the path of a table"):
        inputs.predictor.predict(asked)


def test_what_is_asked_twice_is_computed_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(tiny.bundle)
    prepared = []
    prepare = predictor._preprocessor.prepare

    def counted(image: Any) -> Any:
        prepared.append(image.content_hash)
        return prepare(image)

    monkeypatch.setattr(predictor._preprocessor, "prepare", counted)
    paths = [tiny.table.scans[row].path for row in (0, 1, 0, 0, 1)]
    assert len(predictor.predict(paths)) == 5
    assert len(prepared) == 2


@settings(max_examples=100)
@given(st.lists(st.integers(0, 4)))
def test_answers_are_taken_as_they_are_needed(keys: list[int]) -> None:
    taken: list[int] = []

    def answers() -> Any:
        for key in dict.fromkeys(keys):
            taken.append(key)
            yield -key

    for position, answer in enumerate(answered_in_order(keys, answers())):
        assert answer == -keys[position]
        assert taken == list(dict.fromkeys(keys[: position + 1]))


def test_slices_that_were_named_one_by_one_are_each_answered(tiny: Tiny, tmp_path: Path) -> None:
    from tests.data.sources.making_studies import write_study

    asked = write_study(tmp_path / "ct", "ann", slices=6, Modality="CT")
    predictor = Predictor(tiny.bundle)
    folder = predictor.predict(tmp_path / "ct")
    found = predictor.predict([asked[4], asked[0], tiny.table.scans[0].path, asked[2]])
    assert folder.num_failed == found.num_failed == 0
    np.testing.assert_array_equal(found.probabilities[[0, 1, 3]], np.repeat(folder.probabilities, 3, axis=0)[:3])
    assert found.files == tuple(map(str, (asked[4], asked[0], tiny.table.scans[0].path, asked[2])))
    assert "one of 3 slices" in found.findings[0][0]


def test_a_bad_row_of_a_table_does_not_change_the_answer_of_a_good_one(tiny: Tiny, tmp_path: Path) -> None:
    scan = tiny.table.scans[0].path
    places = ["", "x,y,z", "", "1,2,?"]
    lines = [f"{scan},{place or ',,'}\n" for place in places]
    (tmp_path / "t.csv").write_text("path,center_x_mm,center_y_mm,center_z_mm\n" + "".join(lines))
    found = Predictor(tiny.bundle).predict(tmp_path / "t.csv")
    assert [error is not None for error in found.errors] == [False, True, False, True]


def test_what_an_answer_depends_on_is_in_the_identity_of_its_predictor(tiny: Tiny) -> None:
    bundle = load_bundle(tiny.bundle, verify=False)
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"tta": 2}))
    asked = [
        Predictor(bundle), Predictor(bundle, member=0), Predictor(bundle, member=1), Predictor(bundle, batch_size=3),
        Predictor(other),
    ]  # fmt: skip
    assert len({predictor.identity for predictor in asked}) == 5
    assert Predictor(bundle).identity == asked[0].identity
