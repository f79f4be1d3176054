"""Which store a run is tracked in: what was typed, MLflow's own variables, or the database beside the runs.

Nothing of MLflow is imported here: an address that cannot be used is refused before seconds are spent on that.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import sqlalchemy

from medres.errors import TrackingError
from medres.tracking.reach import DATABASE_PORTS, WEB_PORTS, without_password

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"

_EXAMPLES = "Give --tracking-uri http://server:5000 or --tracking-uri sqlite:////folder/mlflow.db."
_SCHEMES = ("sqlite", *WEB_PORTS, *DATABASE_PORTS)
#: Kinds of address that MLflow knows and medres does not track in, by scheme.
_ELSEWHERE = {
    "databricks": "is Databricks, a server that medres does not support",
    "databricks-uc": "is Databricks, a server that medres does not support",
    "uc": "is a Unity Catalog, a server that medres does not support",
    "arn": "is a server of AWS, which medres does not support",
    **dict.fromkeys(("s3", "gs", "wasbs", "abfss", "hdfs", "dbfs"), "is a place for files, no server"),
}
_NO_COLON = re.compile(r"(https?)//")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}(/.*)?")


def resolve_tracking_uri(output: Path, given: str | None = None, *, known: str | None = None) -> str:
    """Return where to track: the option, else ``MLFLOW_TRACKING_URI``, else ``<output>/mlflow.db``.

    Args:
        output: Folder of all runs.
        given: What the user gave.
        known: Where a run has its place already; it goes before the database in ``output``.

    Raises:
        TrackingError: The address is of a kind that MLflow no longer has (a folder), that medres does not support, or
            of none.

    Example:
        >>> resolve_tracking_uri(Path("/data/runs"), "http://mlflow.hospital.org:5000")
        'http://mlflow.hospital.org:5000'
    """
    if given is not None:
        return usable_uri(given, origin="--tracking-uri")
    if in_environment := os.environ.get(URI_VARIABLE):
        return usable_uri(in_environment, origin=URI_VARIABLE)
    return known or sqlite_uri(output.resolve() / "mlflow.db")


def usable_uri(text: str, *, origin: str) -> str:
    """Return an address of a server or a database, with an sqlite file's absolute path.

    Args:
        text: As it was typed.
        origin: The option or variable that it was typed for.

    Raises:
        TrackingError: It is no such address: what it is instead, and what to type.
    """
    uri = text.strip()
    try:
        parts = urlsplit(uri)
        _ = parts.port  # a number that is none, or too large, is found only when it is asked for
    except ValueError as error:
        raise _refused(uri, origin, f"cannot be read: {error}") from None
    if parts.scheme == "sqlite":
        return sqlite_uri(sqlite_file(uri).resolve())
    if parts.scheme in WEB_PORTS:
        return _with_host(uri, parts, origin)
    if parts.scheme.split("+")[0] in DATABASE_PORTS:
        return _with_driver(uri, origin)
    raise _unusable(uri, parts, origin)


def sqlite_uri(file: Path) -> str:
    """Return the address of an sqlite file.

    Raises:
        TrackingError: MLflow would misread it.
    """
    uri = SQLITE + str(file)
    if sqlite_file(uri) != file:
        # quoted, SQLAlchemy would find the file, but MLflow makes a second folder of the quoted name
        raise TrackingError(
            f"MLflow cannot keep a database at {file}: it misreads '%' and '?' in a path.",
            fix="Give another place with --tracking-uri sqlite:////folder/mlflow.db.",
        )
    return uri


def sqlite_file(uri: str) -> Path:
    """Return the file of an sqlite address.

    Raises:
        TrackingError: It names none.
    """
    try:
        database = sqlalchemy.make_url(uri).database
    except sqlalchemy.exc.ArgumentError:
        database = None
    if not database or database == ":memory:":
        file = uri.partition(":")[2].strip("/").removeprefix(":memory:")  # sqlite:/x.db and the like
        fix = f"Write {SQLITE}{file}, with a fourth slash before an absolute path." if file else _EXAMPLES
        raise TrackingError(f"The tracking address {uri!r} names no file.", fix=fix)
    return Path(database)


def _with_host(uri: str, parts: SplitResult, origin: str) -> str:
    if not parts.hostname:
        rest = uri.partition(":")[2].strip("/")
        fix = f"Write {parts.scheme}://{rest}." if rest else _EXAMPLES
        raise _refused(uri, origin, "names no server", fix=fix)
    return uri


def _with_driver(uri: str, origin: str) -> str:
    """Return the address of a database whose Python package is installed."""
    try:
        sqlalchemy.make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        package = error.name or str(error)
        fix = f"Install {package}, or give the address of an MLflow server that keeps its runs there."
        raise _refused(uri, origin, f"needs the Python package {package}, which is not installed", fix=fix) from None
    except sqlalchemy.exc.ArgumentError as error:  # also a driver that SQLAlchemy does not know
        raise _refused(uri, origin, f"cannot be read: {str(error).splitlines()[0].rstrip('.')}") from None
    return uri


def _unusable(uri: str, parts: SplitResult, origin: str) -> TrackingError:
    scheme = parts.scheme or uri  # `databricks` alone is an address of MLflow's
    if not uri:
        return _refused(uri, origin, "is empty")
    if scheme in _ELSEWHERE:
        return _refused(uri, origin, _ELSEWHERE[scheme])
    if (typo := _NO_COLON.match(uri)) is not None:
        return _refused(uri, origin, "lacks a colon", fix=f"Write {typo[1]}://{uri[typo.end() :]}.")
    if _HOST_AND_PORT.fullmatch(uri):
        return _refused(uri, origin, "lacks its http://", fix=f"Write http://{uri}.")
    if "://" not in uri and Path(uri).suffix in (".db", ".sqlite", ".sqlite3"):
        return _refused(uri, origin, "is a file", fix=f"Write {SQLITE}{uri}.")
    if not parts.scheme or parts.scheme == "file" or len(parts.scheme) == 1:  # a drive of Windows
        return _refused(uri, origin, "is a folder; MLflow 3 no longer keeps runs in folders")
    if parts.scheme == "postgres":
        return _refused(uri, origin, "has an unknown scheme", fix=f"Write postgresql{without_password(uri)[8:]}.")
    return _refused(uri, origin, "has an unknown scheme", fix=_did_you_mean(uri, parts.scheme))


def _did_you_mean(uri: str, scheme: str) -> str:
    close = difflib.get_close_matches(scheme, _SCHEMES, n=1, cutoff=0.7)
    if not close:
        return _EXAMPLES
    return f"Did you mean {close[0]}{without_password(uri)[len(scheme) :]}? {_EXAMPLES}"


def _refused(uri: str, origin: str, what: str, *, fix: str = _EXAMPLES) -> TrackingError:
    shown = without_password(uri)
    return TrackingError(f"The tracking address {shown!r} ({origin}) {what}.", fix=fix)
