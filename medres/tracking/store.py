"""Where runs are tracked, and a client that neither bricks a fresh database nor waits for a dead server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import requests
import sqlalchemy
from filelock import FileLock, Timeout

from medres.errors import TrackingError
from medres.runs.atomic import require_writable
from medres.tracking.address import SQLITE, resolve_tracking_uri, sqlite_file
from medres.tracking.experiments import ID_VARIABLE, Experiment
from medres.tracking.mlflow_api import MlflowClient, MlflowException, MlflowExperiment
from medres.tracking.reach import require_reachable, unreachable, without_password
from medres.tracking.settings import mlflow_settings

__all__ = [
    "experiment_id_of", "explained", "open_client", "require_reachable", "resolve_tracking_uri", "without_password",
]  # fmt: skip

#: Making a fresh database takes 4 to 6 seconds; eight processes that start together wait for one another.
LOCK_SECONDS = 120.0
#: MLflow's words for: it answers, and what was asked for is not there or cannot be.
_REFUSALS = frozenset({
    "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED", "BAD_REQUEST",
    "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "INVALID_STATE", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED",
})  # fmt: skip


def open_client(uri: str, *, make: bool = True) -> MlflowClient:
    """Return a client for a resolved address. Nothing of MLflow's global state is touched.

    Args:
        uri: The address.
        make: Whether an sqlite file that is missing is made.

    Raises:
        TrackingError: The server or database does not answer (servers have `REACH_SECONDS`), is not there, or is of
            another MLflow version.
        OutputError: The folder of the sqlite file cannot be written.
    """
    if not make:
        require_store(uri)
    with mlflow_settings(), _first_use(uri), explained(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if uri.startswith(SQLITE):
            client.search_registered_models(max_results=1)  # opens the registry half, still under the lock
        return client


def require_store(uri: str) -> None:
    """Refuse an sqlite file that is not there, where something is looked for in it.

    Raises:
        TrackingError: Naming it.
    """
    if uri.startswith(SQLITE) and not sqlite_file(uri).is_file():
        raise TrackingError(
            f"There is no MLflow database {sqlite_file(uri)}.",
            fix="Name the store with --tracking-uri, or the folder of all runs that has it with --output.",
        )


def experiment_id_of(client: MlflowClient, uri: str, experiment: str | Experiment) -> str:
    """Return the id of an experiment; one that is known by its name is made where it is missing.

    In an sqlite store its artefacts lie in ``mlartifacts`` beside the file, never in the current folder.

    Raises:
        TrackingError: The experiment was deleted, there is none of this id, or the store does not answer.
    """
    with mlflow_settings(), _first_use(uri), explained(uri):
        found = found_experiment(client, experiment)
        return _create_experiment(client, uri, found) if isinstance(found, str) else str(found.experiment_id)


def found_experiment(client: MlflowClient, experiment: str | Experiment) -> MlflowExperiment | str:
    """Return an experiment of the store, or the name of one that is still to be made.

    For use inside `explained`.

    Raises:
        TrackingError: The experiment was deleted, or there is none of this id.
    """
    name, experiment_id = Experiment(name=experiment) if isinstance(experiment, str) else experiment
    found = _by_id(client, experiment_id) if experiment_id else client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        fix = "Restore it (mlflow experiments restore), or begin the run with another --experiment."
        raise TrackingError(f"The MLflow experiment {found.name!r} was deleted.", fix=fix)
    return name if found is None else found


def _by_id(client: MlflowClient, experiment_id: str) -> MlflowExperiment:
    try:
        return client.get_experiment(experiment_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    known = [f"{found.experiment_id} ({found.name})" for found in client.search_experiments(max_results=20)]
    raise no_such_experiment(experiment_id, known)


def no_such_experiment(experiment_id: str, known: Sequence[str]) -> TrackingError:
    """Return the error of an id that no experiment has.

    Args:
        experiment_id: The id.
        known: Experiments that there are.
    """
    return TrackingError(
        f"There is no MLflow experiment with the id {experiment_id} ({ID_VARIABLE}); there are: {', '.join(known)}.",
        fix=f"Unset {ID_VARIABLE}, or name an experiment with --experiment, which is made where it is missing.",
    )


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn MLflow's refusals inside the block into a `TrackingError` that names the address."""
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, requests.RequestException) as error:
        if isinstance(error, MlflowException) and error.error_code in _REFUSALS:
            raise refusal(uri, error) from error
        raise unreachable(uri, first_line(error)) from error


def refusal(uri: str, error: Exception) -> TrackingError:
    """Return the error of a store that answers, but not as was hoped."""
    problem = f"MLflow at {without_password(uri)} refuses: {first_line(error)}."
    code = error.error_code if isinstance(error, MlflowException) else ""
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
        return TrackingError(problem, fix="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or _TOKEN.")
    return TrackingError(problem, fix="Check that it is the address of an MLflow server, and what was asked of it.")


def _create_experiment(client: MlflowClient, uri: str, name: str) -> str:
    location = (sqlite_file(uri).parent / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)  # another process was faster


@contextmanager
def _first_use(uri: str) -> Iterator[None]:
    """Let one process at a time make the tables of an sqlite file: two at once leave it unusable for ever."""
    if not uri.startswith(SQLITE):
        require_reachable(uri)
        yield
        return
    file = sqlite_file(uri)
    require_writable(file.parent, option="--tracking-uri")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{file}.lock", timeout=LOCK_SECONDS):
            require_database(file)
            yield
    except Timeout:
        raise TrackingError(
            f"Another process has held {file}.lock for {LOCK_SECONDS:.0f} seconds.",
            fix="Wait for it, or delete the lock file if no medres process is running.",
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, without its full stop; of a database's, its own words."""
    cause: BaseException | None = error
    while cause is not None:  # MLflow and SQLAlchemy wrap it in what they were about to do
        if isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.orig is not None:
            return str(cause.orig)
        cause = cause.__cause__ or cause.__context__
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def require_database(file: Path) -> None:
    """Open the file once ourselves: MLflow tries a file that is no database ten times, for 100 seconds.

    Raises:
        TrackingError: It is no database, or cannot be opened.
    """
    try:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma schema_version")
    except sqlite3.Error as error:
        raise TrackingError(
            f"The tracking database {file} cannot be opened: {error}.",
            fix="Move the file away, or give another one with --tracking-uri.",
        ) from error
