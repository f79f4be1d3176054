"""Where runs are tracked, and a client that neither bricks a fresh database nor waits for a dead server."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
import sqlalchemy
from filelock import FileLock, Timeout

from medres.errors import TrackingError
from medres.runs.atomic import require_writable
from medres.tracking.mlflow_api import MlflowClient, MlflowException
from medres.tracking.reach import DATABASE_PORTS, WEB_PORTS, require_reachable, unreachable, without_password
from medres.tracking.settings import mlflow_settings

__all__ = [
    "experiment_id_of", "explained", "open_client", "require_reachable", "resolve_tracking_uri", "without_password",
]  # fmt: skip

#: Making a fresh database takes 4 to 6 seconds; eight processes that start together wait for one another.
LOCK_SECONDS = 120.0

_SQLITE = "sqlite:///"
_EXAMPLES = "Give --tracking-uri http://server:5000 or --tracking-uri sqlite:////folder/mlflow.db."


def resolve_tracking_uri(output: Path, given: str | None = None) -> str:
    """Return where to track: the option, else ``MLFLOW_TRACKING_URI``, else ``<output>/mlflow.db``.

    Args:
        output: Folder of all runs.
        given: What the user gave.

    Raises:
        TrackingError: The address is of a kind that MLflow no longer has (a folder), or of none.

    Example:
        >>> resolve_tracking_uri(Path("/data/runs"), "http://mlflow.hospital.org:5000")
        'http://mlflow.hospital.org:5000'
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return _sqlite_uri(output.resolve() / "mlflow.db")
    scheme = urlsplit(uri).scheme
    if scheme == "sqlite":
        return _sqlite_uri(_sqlite_file(uri).resolve())
    if scheme in WEB_PORTS or scheme.split("+")[0] in DATABASE_PORTS:
        return uri
    if scheme in ("", "file"):
        problem = f"The tracking address {uri!r} is a folder; MLflow 3 no longer keeps runs in folders."
        raise TrackingError(problem, fix=_EXAMPLES)
    raise TrackingError(f"The tracking address {without_password(uri)} has an unknown scheme.", fix=_EXAMPLES)


def open_client(uri: str) -> MlflowClient:
    """Return a client for a resolved address. Nothing of MLflow's global state is touched.

    Raises:
        TrackingError: The server or database does not answer (servers have `REACH_SECONDS`), or the database
            is of another MLflow version.
        OutputError: The folder of the sqlite file cannot be written.
    """
    with mlflow_settings(), _first_use(uri), explained(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if uri.startswith(_SQLITE):
            client.search_registered_models(max_results=1)  # opens the registry half, still under the lock
        return client


def experiment_id_of(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of an experiment, which is made where it is missing.

    In an sqlite store its artefacts lie in ``mlartifacts`` beside the file, never in the current folder.

    Raises:
        TrackingError: The experiment was deleted, or the store does not answer.
    """
    with mlflow_settings(), _first_use(uri), explained(uri):
        found = client.get_experiment_by_name(name)
        if found is None:
            return _create_experiment(client, uri, name)
        if found.lifecycle_stage != "active":
            fix = "Restore it in MLflow or give another name."
            raise TrackingError(f"The MLflow experiment {name!r} was deleted.", fix=fix)
        return str(found.experiment_id)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn MLflow's refusals inside the block into a `TrackingError` that names the address."""
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, requests.RequestException) as error:
        raise unreachable(uri, _first_line(error)) from error


def _create_experiment(client: MlflowClient, uri: str, name: str) -> str:
    location = (_sqlite_file(uri).parent / "mlartifacts").as_uri() if uri.startswith(_SQLITE) else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)  # another process was faster


@contextmanager
def _first_use(uri: str) -> Iterator[None]:
    """Let one process at a time make the tables of an sqlite file: two at once leave it unusable for ever."""
    if not uri.startswith(_SQLITE):
        require_reachable(uri)
        yield
        return
    file = _sqlite_file(uri)
    require_writable(file.parent)
    try:
        with FileLock(f"{file}.lock", timeout=LOCK_SECONDS):
            _require_database(file)
            yield
    except Timeout:
        raise TrackingError(
            f"Another process has held {file}.lock for {LOCK_SECONDS:.0f} seconds.",
            fix="Wait for it, or delete the lock file if no medres process is running.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _require_database(file: Path) -> None:
    """Open the file once ourselves: MLflow tries a file that is no database ten times, for 100 seconds."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma schema_version")
    except sqlite3.Error as error:
        raise TrackingError(
            f"The tracking database {file} cannot be opened: {error}.",
            fix="Move the file away, or give another one with --tracking-uri.",
        ) from error


def _sqlite_uri(file: Path) -> str:
    uri = _SQLITE + str(file)
    if _sqlite_file(uri) != file:
        # quoted, SQLAlchemy would find the file, but MLflow makes a second folder of the quoted name
        raise TrackingError(
            f"MLflow cannot keep a database at {file}: it misreads '%' and '?' in a path.",
            fix="Give another place with --tracking-uri sqlite:////folder/mlflow.db.",
        )
    return uri


def _sqlite_file(uri: str) -> Path:
    database = sqlalchemy.make_url(uri).database
    if not database or database == ":memory:":
        raise TrackingError(f"The tracking address {uri!r} names no file.", fix=_EXAMPLES)
    return Path(database)
