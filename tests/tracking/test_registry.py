from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any

import numpy as np
import pytest
import yaml

from medres.deployment.bundle import load_bundle
from medres.deployment.predictor import Predictor
from medres.errors import BundleError, TrackingError
from medres.runs.folder import RunFolder
from medres.tracking.mirror import MlflowMirror
from medres.tracking.mlflow_api import MlflowClient
from medres.tracking.registry import check_names, fetch_model, is_model_uri, log_bundle, register_bundle
from medres.tracking.store import experiment_id_of, open_client
from medres.tracking.sync import sync_run
from tests.deployment.tiny import Tiny
from tests.tracking.faults import Wire
from tests.tracking.runs import play


class Store:
    """A store with an experiment and a run in it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client: MlflowClient = open_client(uri)
        self.experiment_id = experiment_id_of(self.client, uri, "medres")
        self.run_id: str = self.client.create_run(self.experiment_id).info.run_id

    def register(self, bundle: Path, name: str, **options: Any) -> Any:
        place = {"experiment_id": self.experiment_id, "run_id": self.run_id}
        return register_bundle(self.client, bundle, name=name, **place, **options)


@pytest.fixture
def store(tmp_path: Path, sqlite_template: Path) -> Store:
    copyfile(sqlite_template, tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize("place", ["sqlite", "server"])
def test_a_registered_bundle_comes_back_whole(
    tiny: Tiny, tmp_path: Path, place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = request.getfixturevalue("store") if place == "sqlite" else Store(request.getfixturevalue("wire").uri)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    beside = set(tiny.bundle.parent.iterdir())
    made = store.register(tiny.bundle, f"ct nodules {place}")
    assert (made.version, made.alias, made.uri) == (1, "candidate", f"models:/ct nodules {place}@candidate")
    assert set(tiny.bundle.parent.iterdir()) == beside
    assert not list((tmp_path / "tmp").iterdir())
    model = store.client.get_logged_model(made.model_id)
    assert str(model.status) == "READY"
    assert model.params["arch"] == "resnet10"
    assert model.source_run_id == store.run_id
    addresses = [made.uri, f"models:/ct nodules {place}/1", f"models:/{made.model_id}", f"runs:/{store.run_id}"]
    folders = [fetch_model(uri, tracking_uri=store.uri, cache=tmp_path / "cache") for uri in addresses]
    assert len(set(folders)) == 1
    fetched = load_bundle(folders[0])
    assert fetched.manifest == tiny.manifest
    np.testing.assert_array_equal(
        Predictor(fetched).predict(tiny.table).probabilities, Predictor(tiny.bundle).predict(tiny.table).probabilities
    )


def test_a_model_is_downloaded_once(tiny: Tiny, wire: Wire, tmp_path: Path) -> None:
    store = Store(wire.uri)
    made = store.register(tiny.bundle, "downloaded once")
    first = fetch_model(made.uri, tracking_uri=wire.uri, cache=tmp_path)
    stamp = (first / "bundle.json").stat().st_mtime_ns
    assert fetch_model(made.uri, tracking_uri=wire.uri, cache=tmp_path) == first
    assert (first / "bundle.json").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_each_registration_is_a_version_and_the_alias_moves_on(tiny: Tiny, store: Store) -> None:
    first = store.register(tiny.bundle, "nodules")
    second = store.register(tiny.bundle, "nodules", model_id=first.model_id, alias="champion")
    third = store.register(tiny.bundle, "nodules", alias="champion")
    assert [made.version for made in (first, second, third)] == [1, 2, 3]
    assert second.model_id == first.model_id  # logged already, not uploaded again
    by_alias = {alias: store.client.get_model_version_by_alias("nodules", alias).version for alias in
                ("candidate", "champion")}  # fmt: skip
    assert {alias: int(number) for alias, number in by_alias.items()} == {"candidate": 1, "champion": 3}


def test_a_bundle_without_a_run_is_registered_and_leaves_nothing_in_the_current_folder(
    tiny: Tiny, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = register_bundle(store.client, tiny.bundle, name="nodules", experiment_id=store.experiment_id)
    folder = fetch_model(made.uri, tracking_uri=store.uri, cache=tmp_path / "cache")
    assert load_bundle(folder, verify=False).manifest == tiny.manifest
    assert not list((tmp_path / "here").iterdir())


def test_a_logged_model_holds_no_pickle_no_example_and_no_local_path(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    log_bundle(store.client, tiny.bundle, experiment_id=store.experiment_id, run_id=store.run_id)
    root = next((tmp_path / "mlartifacts" / "models").glob("*/artifacts"))
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    bundle = {f"artifacts/bundle/{path.name}" for path in tiny.bundle.iterdir()}
    own = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "served_entry.py"}
    assert files == bundle | own
    places = [str(tiny.bundle.parent), str(Path(__file__).parents[2]), str(tmp_path), str(Path.home()) + "/"]
    for name in own:
        assert not [place for place in places if place in (root / name).read_text()], name
    model = yaml.safe_load((root / "MLmodel").read_text())
    assert model["flavors"]["python_function"]["model_code_path"] == "served_entry.py"
    assert "python_model" not in model["flavors"]["python_function"]  # where a pickle would be
    pins = (root / "requirements.txt").read_text().split()
    assert {"medres", "mlflow", "torch", "monai", "timm", "numpy"} <= {pin.split("==")[0] for pin in pins}
    assert all("==" in pin and "+" not in pin for pin in pins)


def test_scans_leave_no_trace_in_the_store(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    store.register(tiny.bundle, "nodules")
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert "medres-resnet10" in dump
    assert str(tiny.table.root) not in dump
    assert not [scan for scan in tiny.table if scan.path.name in dump or scan.content_hash in dump]


def test_the_mirror_logs_the_model_of_a_run_once(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    folder = RunFolder(tiny.bundle.parent)
    events = [("run_started", {"name": "x", "parameters": {}}), ("model", {"path": "model"})]
    mirror = MlflowMirror(store.uri, experiment="medres", run_name="run", output=folder.path.parent)
    folder.event_log().subscribe(mirror.listen)
    log = folder.event_log()
    log.subscribe(mirror.listen)
    play(log, [*events, ("run_finished", {"status": "finished"})])
    summary = mirror.close()
    assert summary.complete
    assert store.client.get_logged_model(summary.model_id).source_run_id == summary.run_id
    again = sync_run(folder.path)
    assert again.model_id == summary.model_id
    (folder.path / "tracking.json").write_text(
        (folder.path / "tracking.json").read_text().replace(str(summary.model_id), "")
    )
    assert sync_run(folder.path).model_id in (summary.model_id, "")
    assert len(store.client.search_logged_models([store.experiment_id])) == 1
    for name in ("tracking.json", "events.jsonl"):
        (folder.path / name).unlink()


def test_an_upload_that_fails_is_marked_as_failed(tiny: Tiny, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.client, "log_model_artifacts", full)
    with pytest.raises(Exception, match="disk is full"):
        log_bundle(store.client, tiny.bundle, experiment_id=store.experiment_id)
    assert [str(model.status) for model in store.client.search_logged_models([store.experiment_id])] == ["FAILED"]


def test_a_damaged_bundle_in_the_store_is_refused_on_loading(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    made = store.register(tiny.bundle, "nodules")
    folder = fetch_model(made.uri, tracking_uri=store.uri, cache=tmp_path / "cache")
    content = bytearray((folder / "member_0.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "member_0.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="changed"):
        Predictor(folder)
    assert load_bundle(tiny.bundle)  # the store's files are its own


@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b", "", " a", "a\\b", "a\nb", "x" * 300])
def test_unusable_names_are_refused_before_any_work(tiny: Tiny, store: Store, name: str) -> None:
    with pytest.raises(TrackingError, match="not usable as the name"):
        store.register(tiny.bundle, name)
    assert not store.client.search_logged_models([store.experiment_id])


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", "", "a/b"])
def test_unusable_aliases_are_refused(alias: str) -> None:
    with pytest.raises(TrackingError, match="not usable as an alias"):
        check_names("nodules", alias)


def test_what_is_no_bundle_is_not_registered(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        store.register(tmp_path, "nodules")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("models:/absent@candidate", "absent"),
        ("models:/absent/1", "absent"),
        ("models:/m-0123456789abcdef0123456789abcdef", "not found"),
        ("runs:/" + "0" * 32, "not found"),
        ("models:/", "not the address of a model"),
        ("models:/a/b/c", "not the address of a model"),
    ],
)
def test_models_that_are_not_there_are_told(store: Store, tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(TrackingError, match=said):
        fetch_model(uri, tracking_uri=store.uri, cache=tmp_path)


def test_a_run_without_a_model_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="has no model"):
        fetch_model(f"runs:/{store.run_id}", tracking_uri=store.uri, cache=tmp_path)


def test_a_model_of_somebody_else_is_told(tiny: Tiny, store: Store, tmp_path: Path) -> None:
    made = store.register(tiny.bundle, "nodules")
    rmtree(fetch_model(made.uri, tracking_uri=store.uri, cache=tmp_path))
    with pytest.raises(TrackingError, match="not logged by medres"):
        fetch_model(made.uri, tracking_uri=store.uri, cache=tmp_path)


@pytest.mark.parametrize(
    ("model", "expected"), [("models:/a@b", True), ("runs:/1", True), ("runs/ct", False), ("models", False)]
)
def test_addresses_are_told_from_folders(model: str, expected: bool) -> None:
    assert is_model_uri(model) is expected
