from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medres.errors import MedresError
from medres.reporting.comparison.recorded import read_run
from tests.reporting.comparison.made import Data, make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a-run", seed=3)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "a-run"
    copy.mkdir()
    for path in original.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_what_is_read(folder: Path) -> None:
    run = read_run(folder)
    assert (run.name, run.seed, run.classes) == ("a-run", 3, ("benign", "malignant"))
    assert len(run.scans) == 60 == len(run.scored.scans)
    np.testing.assert_allclose(run.scored.probabilities.sum(axis=1), 1)
    labels = [scan.label for scan in run.scored.scans]
    assert labels == [run.classes[index] for index in run.scored.class_indices]
    assert run.event("run_started")["parameters"]["arch"] == "resnet18"
    assert run.event("no_such_event") == {}


def test_reading_writes_nothing(folder: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    read_run(folder)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before


def test_of_a_given_split_the_test_scans_are_read(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "given", data=Data(split=True, patients=80)))
    assert len(run.scored.scans) == 20
    # two classes of equal size in training
    np.testing.assert_allclose(run.scored.priors, 0.5)


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "unfinished": (_without("metrics.json"), "is not finished: metrics.json is missing"),
    "no predictions": (_without("predictions.csv"), r"predictions.csv is missing. Copy the whole run folder"),
    "no scans": (_without("scans.csv"), "scans.csv is missing"),
    "no mapping": (_without("pseudonyms.csv"), "pseudonyms.csv is missing"),
    "no folds": (_without("folds.csv"), "folds.csv is missing"),
    "no events": (_without("events.jsonl"), "events.jsonl is missing"),
    "no plan": (_without("plan.yaml"), "plan.yaml does not exist"),
    "no config": (_without("config.yaml"), "config.yaml does not exist"),
    "metrics cut short": (lambda f: (f / "metrics.json").write_text('{"format": 1, "pool'), "metrics.json is damaged"),
    "metrics of something else": (lambda f: (f / "metrics.json").write_text("[1]"), "metrics.json is damaged"),
    "another config": (lambda f: (f / "config.yaml").write_text("- 1\n"), "config.yaml names no seed"),
    "a number that is none": (_replaced("predictions.csv", ",0.", ",zero."), r"predictions.csv is damaged"),
    "an unknown label": (_replaced("predictions.csv", "held-out,benign", "held-out,odd"), "is damaged"),
    "an unknown pseudonym": (_replaced("pseudonyms.csv", "sample,s-", "sample,x-"), "which pseudonyms.csv"),
    "an unknown fold": (_replaced("folds.csv", "\n4,", "\n9,"), "names '4'"),
    "a column renamed": (_replaced("predictions.csv", "prob_benign", "p"), "lacks the columns prob_benign"),
    "no rows": (_replaced("predictions.csv", "held-out", "other"), "has no rows of the split held-out"),
    "no hashes": (_replaced("scans.csv", "hash-", ","), "without content_hash"),
    "binary": (lambda f: (f / "scans.csv").write_bytes(b"\xff\xfe\x00"), "scans.csv cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_one_clear_message(name: str, folder: Path) -> None:
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(MedresError, match=message):
        read_run(folder)


def test_what_is_no_run(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MedresError, match="there is no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(MedresError, match="there is no such folder"):
        read_run(folder / "metrics.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedresError, match=r"empty is no run folder: metrics.json is missing. Give folders of finished"):
        read_run(tmp_path / "empty")
    with pytest.raises(MedresError, match=r"Give the runs in it, such as .*a-run"):
        read_run(tmp_path)


def test_unknown_columns_and_keys_do_not_matter(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "new": 1}))
    lines = (folder / "scans.csv").read_text().splitlines()
    (folder / "scans.csv").write_text("\n".join([f"{lines[0]},scanner", *(f"{line},x" for line in lines[1:])]))
    assert len(read_run(folder).scans) == 60
