"""What can be known of a store before a run begins: whether it can be used at all, and whether it answers now."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext

from filelock import FileLock

from medres.errors import OutputError, TrackingError
from medres.runs.atomic import require_writable
from medres.tracking.address import SQLITE, sqlite_file
from medres.tracking.experiments import Experiment
from medres.tracking.failures import may_pass
from medres.tracking.mlflow_api import MlflowClient
from medres.tracking.reach import why_unreachable
from medres.tracking.settings import mlflow_settings
from medres.tracking.store import (
    LOCK_SECONDS,
    explained,
    first_line,
    found_experiment,
    no_such_experiment,
    refusal,
    require_database,
)

#: What the answer of a server may take before a run begins; the promise is 5 seconds.
ANSWER_SECONDS = 4.5


def why_silent(uri: str, *, experiment: Experiment) -> str:
    """Return why a store does not answer now; nothing where it does. Nothing is written, nothing is made.

    A server that is away may come back while the run goes on: it is no reason to refuse the run.

    Args:
        uri: Resolved address.
        experiment: Where the run would go.

    Raises:
        TrackingError: The store can never take the run: it is no MLflow, of another version, its experiment was
            deleted, or there is none of this id.
        OutputError: The sqlite file cannot be written.
    """
    if uri.startswith(SQLITE):
        _ask_database(uri, experiment)
        return ""
    answers: list[str | TrackingError] = []
    # in a thread: a server may answer the first question and not the second, and each has its own time-out
    thread = threading.Thread(target=lambda: answers.append(_asked(uri, experiment)), daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    answer = answers[0] if answers else f"no answer within {ANSWER_SECONDS:g} seconds"
    if isinstance(answer, TrackingError):
        raise answer
    return answer


def _asked(uri: str, experiment: Experiment) -> str | TrackingError:
    """Return why a server is away, or the refusal of one that never takes the run."""
    if reason := why_unreachable(uri):
        return reason
    try:
        with mlflow_settings():
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)  # a server that is no MLflow has no answer to that
            found_experiment(client, experiment)
    except TrackingError as error:
        return error
    except Exception as error:  # of MLflow, requests and SQLAlchemy; what passes by itself refuses no run
        return first_line(error) if may_pass(error) else refusal(uri, error)
    return ""


def _ask_database(uri: str, experiment: Experiment) -> None:
    file = sqlite_file(uri)
    if file.is_dir():
        raise TrackingError(f"The tracking database {file} is a folder.", fix="Give a file with --tracking-uri.")
    if not file.exists() or not file.stat().st_size:
        require_writable(file.parent, option="--tracking-uri")
        if experiment.experiment_id not in ("", "0"):  # a fresh database holds MLflow's own alone
            raise no_such_experiment(experiment.experiment_id, ["0 (Default)"])
        return
    if not os.access(file, os.W_OK):
        raise OutputError(f"Cannot write {file}.", fix="Make it writable, or give another with --tracking-uri.")
    require_database(file)
    # the lock is there where medres made the database; another one is not given a file that it did not have
    lock = FileLock(f"{file}.lock", timeout=LOCK_SECONDS) if os.path.exists(f"{file}.lock") else nullcontext()
    with mlflow_settings(), lock, explained(uri):
        found_experiment(MlflowClient(tracking_uri=uri, registry_uri=uri), experiment)
