"""How MLflow behaves while medres uses it, and the way back to how the caller had it.

MLflow reads its settings from the environment of the process. They are changed only inside `mlflow_settings`
and given back when the last such block ends.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from medres.runs.environment import put_back
from medres.runs.shared_state import Back, SharedState

#: Seconds until a call to a tracking server counts as lost; MLflow's own 120 s, tried 8 times, let one call to a
#: hanging server block for 16 minutes.
REQUEST_TIMEOUT_SECONDS = 5
UPLOAD_TIMEOUT_SECONDS = 30

#: What a user may have set already stays.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_SECONDS),
}
#: What medres relies on, whatever was set.
_FORCED = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # a request that is repeated below us, because its answer was lost, makes a second run: `RunWriter` looks first
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # the uv.lock of the current folder is not the model's
}
#: Loggers that would write migration and retry notices between the progress bars, and (MLflow's) a hundred lines of
#: traceback for each call that a full disk refuses: what fails is told in our own words.
_QUIET = {"mlflow": logging.CRITICAL, "alembic": logging.WARNING, "urllib3": logging.ERROR}


def _change() -> Back:
    wanted = {**{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()}, **_FORCED}
    environment = {name: os.environ.get(name) for name in wanted}
    levels = {name: logging.getLogger(name).level for name in _QUIET}

    def back() -> None:
        put_back(environment)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    os.environ.update(wanted)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    return back


_SHARED = SharedState(_change)


@contextmanager
def mlflow_settings() -> Iterator[None]:
    """Use MLflow without telemetry, pickle and long waits inside the block.

    Blocks may be nested and may overlap between threads.

    Example:
        >>> import os
        >>> with mlflow_settings():
        ...     os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"]
        'false'
    """
    with _SHARED.held():
        yield


@contextmanager
def patient_requests(seconds: int = UPLOAD_TIMEOUT_SECONDS) -> Iterator[None]:
    """Wait longer for answers inside the block: a server answers an upload when it has stored all of it.

    For use inside `mlflow_settings`.
    """
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name, str(REQUEST_TIMEOUT_SECONDS))
    os.environ[name] = str(max(seconds, int(before)))
    try:
        yield
    finally:
        os.environ[name] = before
