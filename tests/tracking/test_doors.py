"""Where a run is tracked and registered: the same rule at every door, for runs that stayed and for copies."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Literal

import pytest

from medres.data.phantoms import write_phantoms
from medres.errors import TrackingError
from medres.runs.folder import RunFolder
from medres.tracking.experiments import Experiment
from medres.tracking.record import continued_record, experiment_of, load_record, other_store_note, save_record
from medres.tracking.record import tracking_uri_of as uri_of
from medres.tracking.registry import fetch_model
from medres.tracking.store import open_client
from medres.tracking.sync import sync_run
from medres.workflows.finetuning import finetune
from medres.workflows.registry import register
from tests.deployment.tiny import Tiny
from tests.integration.conftest import ARCH, inside
from tests.tracking.faults import Wire


def _run(folder: Path, uri: str) -> RunFolder:
    """Return a run that is tracked at an address."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.config.write_text("arch: resnet10\n")
    save_record(run, continued_record(run, uri=uri, experiment="theirs"))
    return run


def _database(folder: Path, template: Path | None = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mlflow.db"
    copyfile(template, file) if template else file.touch()
    return f"sqlite:///{file}"


def test_a_run_that_stayed_goes_on_in_its_store_unless_something_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _database(tmp_path / "elsewhere")
    run = _run(tmp_path / "runs" / "a", home)
    assert uri_of(run) == home
    assert uri_of(run, output=tmp_path / "other") == f"sqlite:///{tmp_path}/other/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert uri_of(run) == "http://environment"
    assert uri_of(run, given="http://given") == "http://given"


def test_a_copy_leaves_the_database_behind_and_says_so(tmp_path: Path) -> None:
    home = _database(tmp_path / "runs")
    run = _run(tmp_path / "runs" / "a", home)
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copies" / "a"))
    beside = f"sqlite:///{tmp_path}/copies/mlflow.db"
    assert uri_of(copy) == beside
    note = other_store_note(copy, beside)
    assert home in note
    assert beside in note
    assert other_store_note(run, home) == ""


def test_a_copy_goes_on_at_its_server(tmp_path: Path) -> None:
    run = _run(tmp_path / "runs" / "a", "http://server:5000")
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copies" / "a"))
    assert uri_of(copy) == "http://server:5000"


def test_a_database_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    run = _run(tmp_path / "runs" / "a", f"sqlite:///{tmp_path}/gone/mlflow.db")
    assert uri_of(run) == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_a_run_keeps_its_experiment_in_its_store_and_takes_its_name_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = load_record(_run(tmp_path / "runs" / "a", "http://server"))
    assert experiment_of(record, uri="http://other") == Experiment(name="theirs")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "environment")
    assert experiment_of(record, uri="http://server") == Experiment(name="theirs")
    assert experiment_of(record, uri="http://other") == Experiment(name="environment")
    assert experiment_of(record, uri="http://server", given="asked") == Experiment(name="asked")
    assert experiment_of(None, uri="http://server") == Experiment(name="environment")


@pytest.fixture
def bundled(tiny: Tiny, tmp_path: Path, sqlite_template: Path) -> Callable[[str], RunFolder]:
    def make(place: str) -> RunFolder:
        run = _run(tmp_path / place / "a", _database(tmp_path / place, sqlite_template))
        shutil.copytree(tiny.bundle, run.model)
        return run

    return make


def test_a_copied_run_is_registered_beside_the_copy(
    bundled: Callable[[str], RunFolder], tmp_path: Path, sqlite_template: Path
) -> None:
    run = bundled("runs")
    beside = _database(tmp_path / "copies", sqlite_template)
    copy = shutil.copytree(run.path, tmp_path / "copies" / "a")
    made = register(copy, name="nodules")
    assert made.tracking_uri == beside
    assert "was tracked at" in made.screen()
    assert not open_client(f"sqlite:///{tmp_path}/runs/mlflow.db").search_registered_models()
    assert [model.name for model in open_client(beside).search_registered_models()] == ["nodules"]
    assert "theirs" in {found.name for found in open_client(beside).search_experiments()}


def test_a_refused_registration_makes_no_database(tiny: Tiny, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    shutil.copytree(tiny.bundle, run.model)
    run.config.write_text("arch: resnet10\n")
    before = sorted(tmp_path.rglob("*"))
    for name, options in (("a/b", {}), ("good", {"alias": "v3"}), ("good", {"tracking_uri": "databricks"})):
        with pytest.raises(TrackingError):
            register(run.path, name=name, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_looking_for_a_model_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"no MLflow database .*runs/mlflow\.db.*--tracking-uri"):
        fetch_model("models:/x@y", tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db", cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_is_told_with_what_there_is(
    bundled: Callable[[str], RunFolder], tmp_path: Path
) -> None:
    made = register(bundled("runs").path, name="ct nodules", alias="champion")
    told = {
        "models:/ct nodules@candidate": r"no such version.*aliases: champion \(version 1\); its versions: 1\.",
        "models:/ct nodules/7": r"no such version.*its versions: 1\.",
        "models:/ct nodules": r"aliases: champion",
        "models:/ct nodules/latest": r"aliases: champion",
        "models:/ct nodule@champion": r"no registered model 'ct nodule'.*Did you mean ct nodules",
        f"runs:/{'0' * 32}": "has no such run",
        f"models:/m-{'0' * 32}": "has no such logged model",
    }
    for uri, words in told.items():
        with pytest.raises(TrackingError, match=words) as refused:
            fetch_model(uri, tracking_uri=made.tracking_uri, cache=tmp_path / "cache")
        assert "does not work" not in str(refused.value)
    # the advice: a name that it gives is taken
    assert fetch_model("models:/ct nodules@champion", tracking_uri=made.tracking_uri, cache=tmp_path / "cache").is_dir()


@pytest.mark.parametrize("mode", ["dead", "hanging"])
def test_a_server_that_is_away_is_told_at_both_ends_and_the_advice_sends_the_run(
    wire: Wire, tmp_path: Path, mode: Literal["dead", "hanging"]
) -> None:
    scans = write_phantoms(tmp_path / "p", modality="MR", spatial_dims=2, num_scans=8, num_classes=2, size=32)
    wire.cut(mode)
    done = inside(
        "finetune", "--data", scans, "--arch", ARCH, "--weights", "none", "--recipe", "linear-probe", "--folds", "2",
        "--output", tmp_path / "runs", "--name", mode, "--tracking-uri", wire.uri, "--experiment", f"away {mode}", "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    first, last = (line for line in done.stderr.splitlines() if line.startswith("warning: "))
    assert "does not answer" in first
    assert "did not arrive" in last
    advised = {line.partition("medres ")[2] for line in (first, last)}
    assert advised == {f"track sync {tmp_path / 'runs' / mode}"}
    wire.mend()
    assert inside(*shlex.split(advised.pop())).exit_code == 0
    client = open_client(wire.uri)
    found = client.search_runs([client.get_experiment_by_name(f"away {mode}").experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(found) == 3  # the run and its folds


def test_the_experiment_of_mlflows_own_variables_is_followed(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = _database(tmp_path / "store", sqlite_template)
    made = open_client(uri).create_experiment("by id", artifact_location=(tmp_path / "files").as_uri())
    scans = write_phantoms(tmp_path / "p", modality="MR", spatial_dims=2, num_scans=8, num_classes=2, size=32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    for place, variable in (("named", None), ("numbered", made), ("asked", made)):
        if variable:
            monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", variable)
        finetune(
            scans, arch=ARCH, weights="none", recipe="linear-probe", folds=2, output=tmp_path / "runs", name=place,
            experiment="by option" if place == "asked" else None,
        )  # fmt: skip
        sync_run(tmp_path / "runs" / place)  # a busy machine may end the run before all has arrived
    client = open_client(uri)
    parents = "tags.`medres.kind` = 'run'"
    runs = {
        found.name: {run.info.run_name for run in client.search_runs([found.experiment_id], filter_string=parents)}
        for found in client.search_experiments()
    }
    assert runs == {"by name": {"named"}, "by id": {"numbered"}, "by option": {"asked"}, "Default": set()}
