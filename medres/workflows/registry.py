"""`register` and `track_sync`: a finished run and MLflow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medres.deployment.predictor import find_bundle
from medres.runs.folder import RunFolder
from medres.runs.host import independent_of_host
from medres.runs.progress import Progress
from medres.tracking.experiments import variables_not_followed
from medres.tracking.mirror import MirrorSummary
from medres.tracking.names import DEFAULT_ALIAS, check_names
from medres.tracking.reach import without_password
from medres.tracking.record import TrackingRecord, experiment_of, load_record, other_store_note, tracking_uri_of
from medres.tracking.registry import RegisteredVersion, register_bundle
from medres.tracking.store import experiment_id_of, open_client
from medres.tracking.sync import sync_run
from medres.workflows.mirroring import sentence


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A registered version and the store it is in.

    Args:
        version: Name, number and alias.
        tracking_uri: Address of the store, without user name and password.
        notes: What a user should know, such as that the run was tracked elsewhere.
    """

    version: RegisteredVersion
    tracking_uri: str
    notes: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """What to give to ``medres predict``."""
        return self.version.uri

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        place = {"uri": self.uri, "tracking_uri": self.tracking_uri, "notes": list(self.notes)}
        return {**asdict(self.version), **place}

    def screen(self) -> str:
        """Return what the command line prints."""
        notes = "".join(f"{note}\n" for note in self.notes)
        return (
            f"{notes}registered {self.version.name} version {self.version.version} as {self.uri}\n"
            f"serve   MLFLOW_TRACKING_URI={self.tracking_uri} mlflow models serve -m {self.uri} --env-manager local"
        )


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What `track_sync` sent.

    Args:
        result: What arrived.
        run: The run folder.
    """

    result: MirrorSummary
    run: Path

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return asdict(self.result)

    def screen(self) -> str:
        """Return what the command line prints."""
        return sentence(self.result, RunFolder(self.run))


@independent_of_host()
def register(
    model: str | Path,
    *,
    name: str,
    alias: str = DEFAULT_ALIAS,
    tracking_uri: str | None = None,
    output: Path | None = None,
    experiment: str | None = None,
) -> Registration:
    """Make a version of a registered model from a run or a bundle.

    Args:
        model: A run or a bundle.
        name: Name in the registry.
        alias: Alias that then points to the version.
        tracking_uri: The store; None: see `medres.tracking.record.tracking_uri_of`.
        output: Folder of all runs; None = the run's parent, and ``runs`` for a bundle that lies in no run.
        experiment: Name of the MLflow experiment; None = that of the run, or as for a new run.

    Raises:
        MedresError: There is no bundle, the name is unusable, or the store does not answer.
    """
    check_names(name, alias)
    bundle = find_bundle(model).resolve()
    folder = RunFolder(bundle.parent)
    record = load_record(folder)
    in_a_run = folder.config.is_file() or folder.events.is_file()
    uri = tracking_uri_of(folder, output=output or (None if in_a_run else Path("runs")), given=tracking_uri)
    client = open_client(uri)
    run_id, model_id = _ids(record, uri)
    version = register_bundle(
        client, bundle, name=name, alias=alias, run_id=run_id, model_id=model_id,
        experiment_id=experiment_id_of(client, uri, experiment_of(record, uri=uri, given=experiment)),
    )  # fmt: skip
    notes = tuple(note for note in (other_store_note(folder, uri), *variables_not_followed(uri)) if note)
    return Registration(version=version, tracking_uri=without_password(uri), notes=notes)


@independent_of_host()
def track_sync(run: Path, *, tracking_uri: str | None = None, progress: Progress | None = None) -> Synced:
    """Send to MLflow what did not arrive during a run; repeated, it changes nothing."""
    return Synced(result=sync_run(run, tracking_uri=tracking_uri, progress=progress), run=run)


def _ids(record: TrackingRecord | None, uri: str) -> tuple[str | None, str | None]:
    """Return run and logged model, if they are in this store."""
    if record is None or record.uri != without_password(uri):
        return None, None
    return record.run_id, record.model_id
