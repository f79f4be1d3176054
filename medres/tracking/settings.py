"""How MLflow behaves while medres uses it, and the way back to how the caller had it.

MLflow reads its settings from the environment of the process. They are changed only inside `mlflow_settings`
and given back when the last such block ends.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


class _SharedSettings:
    """Counts the blocks that are open in all threads: the environment belongs to the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._environment: dict[str, str | None] = {}
        self._levels: dict[str, int] = {}

    def enter(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._apply()

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._restore()

    def _apply(self) -> None:
        wanted = {**{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()}, **_FORCED}
        self._environment = {name: os.environ.get(name) for name in wanted}
        self._levels = {name: logging.getLogger(name).level for name in _QUIET}
        os.environ.update(wanted)
        for name, level in _QUIET.items():
            logging.getLogger(name).setLevel(level)

    def _restore(self) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


_SHARED = _SharedSettings()


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
    _SHARED.enter()
    try:
        yield
    finally:
        _SHARED.leave()


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
