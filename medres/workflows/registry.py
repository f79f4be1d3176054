"""`register` and `track_sync`: a finished run and MLflow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medres.deployment.predictor import find_bundle
from medres.runs.folder import RunFolder
from medres.runs.host import independent_of_host
from medres.tracking.mirror import MirrorSummary
from medres.tracking.record import TrackingRecord, load_record
from medres.tracking.registry import DEFAULT_ALIAS, RegisteredVersion, register_bundle
from medres.tracking.store import (
    experiment_id_of,
    open_client,
    require_reachable,
    resolve_tracking_uri,
    without_password,
)
from medres.tracking.sync import sync_run
from medres.workflows.mirroring import sentence


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A registered version and the store it is in.

    Args:
        version: Name, number and alias.
        tracking_uri: Address of the store, without user name and password.
    """

    version: RegisteredVersion
    tracking_uri: str

    @property
    def uri(self) -> str:
        """What to give to ``medres predict``."""
        return self.version.uri

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {**asdict(self.version), "uri": self.uri, "tracking_uri": self.tracking_uri}

    def screen(self) -> str:
        """Return what the command line prints."""
        return (
            f"registered {self.version.name} version {self.version.version} as {self.uri}\n"
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
) -> Registration:
    """Make a version of a registered model from a run or a bundle.

    Args:
        model: A run or a bundle.
        name: Name in the registry.
        alias: Alias that then points to the version.
        tracking_uri: The store; None = the one the run was tracked in, ``MLFLOW_TRACKING_URI``, or ``mlflow.db``
            beside the run.
        output: Folder of all runs; None = the run's parent.

    Raises:
        MedresError: There is no bundle, the name is unusable, or the store does not answer.
    """
    bundle = find_bundle(model).resolve()
    folder = RunFolder(bundle.parent)
    record = load_record(folder)
    known = record.uri if record else None
    uri = resolve_tracking_uri(output or folder.path.parent, tracking_uri or known)
    require_reachable(uri)
    client = open_client(uri)
    run_id, model_id = _ids(record, uri)
    version = register_bundle(
        client, bundle, name=name, alias=alias, run_id=run_id, model_id=model_id,
        experiment_id=experiment_id_of(client, uri, record.experiment if record else "medres"),
    )  # fmt: skip
    return Registration(version=version, tracking_uri=without_password(uri))


@independent_of_host()
def track_sync(run: Path, *, tracking_uri: str | None = None) -> Synced:
    """Send to MLflow what did not arrive during a run; repeated, it changes nothing."""
    return Synced(result=sync_run(run, tracking_uri=tracking_uri), run=run)


def _ids(record: TrackingRecord | None, uri: str) -> tuple[str | None, str | None]:
    """Return run and logged model, if they are in this store."""
    if record is None or record.uri != without_password(uri):
        return None, None
    return record.run_id, record.model_id
