"""`RunWriter`: events into MLflow calls, each of which may be repeated without leaving a duplicate."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from medres._version import __version__
from medres.runs.events import Event
from medres.runs.folder import RunFolder
from medres.tracking.experiments import Experiment
from medres.tracking.mlflow_api import (
    CodeDatasetSource,
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    MlflowClient,
    MlflowException,
    Param,
    Run,
    RunTag,
)
from medres.tracking.names import allowed_name, allowed_value, finite_numbers
from medres.tracking.record import TrackingRecord, save_record
from medres.tracking.registry import log_bundle
from medres.tracking.store import experiment_id_of, open_client

#: What may leave the hospital of a run folder; never scans.csv, config.yaml, findings.json or pseudonyms.json.
PUBLIC_FILES = frozenset(
    {"metrics.json", "report.html", "predictions.csv", "plan.yaml", "fingerprint.json", "weights.json", "folds.csv"}
)
MAX_EPOCHS_A_CALL = 200
_MAX_PARAMS_A_CALL = 100
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class RunWriter:
    """One run of one store: a parent run, and a child run a fold.

    Args:
        folder: The run folder; files and the record of ids are there.
        uri: Resolved address of the store.
        record: What is known of the run's place in it; see `RunWriter.record` for what became of it.
    """

    def __init__(self, folder: RunFolder, *, uri: str, record: TrackingRecord) -> None:
        self.record = record
        self.uploading_model = False
        self._folder, self._uri = folder, uri
        self._client_or_none: MlflowClient | None = None
        self._experiment_id = ""
        self._checked = False
        self._known: dict[str, tuple[set[str], set[tuple[str, int]]]] = {}
        self._handlers: dict[str, Callable[[Event], None]] = {
            "run_started": self._run_started, "data": self._data, "plan": self._plan,
            "fold_started": self._fold_started, "stage_started": self._stage_started,
            "fold_finished": self._fold_finished, "scores": self._scores, "artifact": self._artifact,
            "model": self._model, "run_finished": self._run_finished,
        }  # fmt: skip

    def write(self, batch: Sequence[Event]) -> None:
        """Send one event, or several of kind ``epoch`` in one go; kinds without a place in MLflow are passed over.

        Raises:
            MedresError, MlflowException, OSError: It did not arrive, wholly or in part; it may be sent again
                after `forget`.
        """
        if batch[0]["kind"] == "epoch":
            self._epochs(batch)
        elif handler := self._handlers.get(batch[0]["kind"]):
            handler(batch[0])

    def forget(self) -> None:
        """Ask the store again what it holds: after a failure that is uncertain."""
        self._known.clear()

    def terminate(self, status: str, *, end_time: int | None = None) -> None:
        """End the run and its folds that have not ended, as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        client = self._client()
        for run_id in self.record.folds.values():
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, status, end_time)
        client.set_terminated(self._run(), status, end_time)

    def _run_started(self, event: Event) -> None:
        run_id = self._run(start_time=_milliseconds(event))
        self._log_params(run_id, event.get("parameters", {}))
        versions = {f"version.{name}": str(version) for name, version in event.get("versions", {}).items()}
        self._client().log_batch(run_id, tags=[RunTag(key, value) for key, value in versions.items()])
        self._client().update_run(run_id, status="RUNNING")  # a run that is resumed had ended

    def _data(self, event: Event) -> None:
        profile = _fields(event, ("num_scans", "num_patients", "classes", "unit"))
        dataset = Dataset(
            name="scans", digest=event["digest"][:36], source_type="code",
            source=CodeDatasetSource({}).to_json(), profile=json.dumps(profile),
        )  # fmt: skip
        tag = InputTag("mlflow.data.context", "training")
        self._client().log_inputs(self._run(), datasets=[DatasetInput(dataset, [tag])])
        counts = {f"data.{key}": value for key, value in profile.items() if key != "classes"}
        self._log_params(self._run(), {**counts, **_prefixed("data.classes", event.get("classes", {}))})

    def _plan(self, event: Event) -> None:
        self._client().set_tag(self._run(), "medres.plan_digest", event["digest"])

    def _fold_started(self, event: Event) -> None:
        self._log_params(self._fold_run(event), _fields(event, ("num_train", "num_val", "num_held_out")))

    def _stage_started(self, event: Event) -> None:
        values = {key: event[key] for key in event if key not in ("format", "time", "kind", "fold", "stage")}
        self._log_params(self._fold_run(event), _prefixed(event["stage"], values))

    def _epochs(self, events: Sequence[Event]) -> None:
        by_run: dict[str, list[Metric]] = {}
        for event in events:
            metrics = by_run.setdefault(self._fold_run(event), [])
            metrics.extend(_metrics(event["metrics"], event, step=int(event["epoch"])))
        for run_id, metrics in by_run.items():
            self._log_metrics(run_id, metrics)

    def _fold_finished(self, event: Event) -> None:
        run_id = self._fold_run(event)
        numbers = {**_prefixed("scores", event.get("scores", {})), "fold_seconds": event.get("seconds")}
        self._log_metrics(run_id, _metrics(numbers, event, step=0))
        self._client().set_terminated(run_id, "FINISHED", _milliseconds(event))

    def _scores(self, event: Event) -> None:
        self._log_metrics(self._run(), _metrics(event["scores"], event, step=0))

    def _artifact(self, event: Event) -> None:
        if event["path"] in PUBLIC_FILES:
            self._client().log_artifact(self._run(), str(self._folder.path / event["path"]))

    def _model(self, event: Event) -> None:
        client, run_id = self._client(), self._run()
        model_id = self.record.model_id or self._find_model()
        if model_id is None:
            self.uploading_model = True
            try:
                model_id = log_bundle(
                    client, self._folder.model, experiment_id=self._experiment_id, run_id=run_id,
                    tags={"medres.run_key": self.record.run_key},
                )  # fmt: skip
            finally:
                self.uploading_model = False
        self._remember(self.record.model_copy(update={"model_id": model_id}))

    def _run_finished(self, event: Event) -> None:
        if kind := event.get("error_kind"):
            self._client().set_tag(self._run(), "medres.error_kind", str(kind))
        self.terminate(_STATUS[event["status"]], end_time=_milliseconds(event))

    def _client(self) -> MlflowClient:
        if self._client_or_none is None:
            client = open_client(self._uri)
            belongs_to = Experiment(self.record.experiment, self.record.experiment_id)
            self._experiment_id = experiment_id_of(client, self._uri, belongs_to)
            self._client_or_none = client
        return self._client_or_none

    def _run(self, *, start_time: int | None = None) -> str:
        self._client()
        if not self._checked and self.record.run_id and not self._is_there(self.record.run_id):
            self._remember(self.record.without_ids())
        self._checked = True
        if self.record.run_id is None:
            tags = {"medres.kind": "run", "medres.version": __version__}
            run_id = self._find_or_create(self._folder.name, tags, start_time)
            self._remember(self.record.model_copy(update={"run_id": run_id}))
        return str(self.record.run_id)

    def _fold_run(self, event: Event) -> str:
        parent, fold = self._run(), str(event["fold"])
        if fold not in self.record.folds:
            tags = {"mlflow.parentRunId": parent, "medres.kind": "fold", "medres.fold": fold}
            run_id = self._find_or_create(f"{self._folder.name} fold {fold}", tags, _milliseconds(event))
            self._remember(self.record.with_fold(fold, run_id))
        return str(self.record.folds[fold])

    def _find_or_create(self, name: str, tags: Mapping[str, str], start_time: int | None) -> str:
        """Return the run with these tags; one whose creation was never confirmed is found instead of doubled."""
        marks = {"medres.run_key": self.record.run_key, "medres.kind": tags["medres.kind"]}
        if "medres.fold" in tags:
            marks["medres.fold"] = tags["medres.fold"]
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in marks.items())
        found = self._client().search_runs([self._experiment_id], filter_string=query, max_results=1)
        if found:
            return str(found[0].info.run_id)
        run: Run = self._client().create_run(
            self._experiment_id, start_time=start_time, tags={**tags, **marks}, run_name=name
        )
        self._known[run.info.run_id] = (set(), set())
        return str(run.info.run_id)

    def _find_model(self) -> str | None:
        query = f"tags.`medres.run_key` = '{self.record.run_key}'"
        found = self._client().search_logged_models([self._experiment_id], filter_string=query)
        return next((str(model.model_id) for model in found if str(model.status) == "READY"), None)

    def _is_there(self, run_id: str) -> bool:
        try:
            return bool(self._client().get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        known, _ = self._contents(run_id)
        # a parameter that is there is left alone: MLflow refuses a second value, such as another device on resume
        new = {allowed_name(key): allowed_value(value) for key, value in values.items()}
        params = [Param(key, value) for key, value in new.items() if key not in known]
        for start in range(0, len(params), _MAX_PARAMS_A_CALL):
            self._client().log_batch(run_id, params=params[start : start + _MAX_PARAMS_A_CALL])
        known.update(param.key for param in params)

    def _log_metrics(self, run_id: str, metrics: Iterable[Metric]) -> None:
        _, known = self._contents(run_id)
        # MLflow appends a second value of the same step
        new = {(metric.key, metric.step): metric for metric in metrics if (metric.key, metric.step) not in known}
        if new:
            self._client().log_batch(run_id, metrics=list(new.values()))
            known.update(new)

    def _contents(self, run_id: str) -> tuple[set[str], set[tuple[str, int]]]:
        """Return the parameters and the (metric, step) pairs that the store holds."""
        if run_id not in self._known:
            data = self._client().get_run(run_id).data
            history = [self._client().get_metric_history(run_id, key) for key in data.metrics]
            steps = {(metric.key, int(metric.step)) for metrics in history for metric in metrics}
            self._known[run_id] = (set(data.params), steps)
        return self._known[run_id]

    def _remember(self, record: TrackingRecord) -> None:
        self.record = record
        save_record(self._folder, record)


def next_batch(queue: deque[Event]) -> list[Event]:
    """Return the events at the head of a queue that go out in one call; they stay in the queue."""
    if queue[0]["kind"] != "epoch":
        return [queue[0]]
    head = (queue[index] for index in range(min(len(queue), MAX_EPOCHS_A_CALL)))
    return list(takewhile(lambda event: event["kind"] == "epoch", head))


def _metrics(values: Mapping[str, Any], event: Event, *, step: int) -> list[Metric]:
    # the time of the event, not of the sending: a replay then writes the same points
    timestamp = _milliseconds(event)
    return [Metric(key, value, timestamp, step) for key, value in finite_numbers(values).items()]


def _milliseconds(event: Event) -> int:
    return round(float(event["time"]) * 1000)


def _fields(event: Event, names: Iterable[str]) -> dict[str, Any]:
    return {name: event[name] for name in names if name in event}


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{key}": value for key, value in values.items()}
