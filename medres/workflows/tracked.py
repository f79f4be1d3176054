"""The store that a run is about to be tracked in: refused where it can never be used, told where it is away."""

from __future__ import annotations

import shlex

from medres.config import FinetuneConfig
from medres.runs.folder import RunFolder
from medres.runs.progress import Progress
from medres.tracking.experiments import variables_not_followed
from medres.tracking.reach import without_password
from medres.tracking.record import experiment_of, load_record, other_store_note, tracking_uri_of


def check_tracking(config: FinetuneConfig, folder: RunFolder, progress: Progress) -> None:
    """Look at the store of a run before any scan is read. A server that is away stops no run.

    Args:
        config: Whether and where the run is tracked.
        folder: The run; it need not be there.
        progress: Is told of a server that is away, and of variables of MLflow that change nothing.

    Raises:
        MedresError: The store cannot be used, or its experiment cannot.
    """
    if not config.tracking and not config.register_name:
        return
    from medres.tracking.start import why_silent  # MLflow takes seconds to import

    uri = tracking_uri_of(folder, given=config.tracking_uri)
    for note in (other_store_note(folder, uri), *variables_not_followed(uri)):
        if note:
            progress.note(note)
    reason = why_silent(uri, experiment=experiment_of(load_record(folder), uri=uri, given=config.experiment))
    if reason:
        progress.warn(
            f"MLflow at {without_password(uri)} does not answer ({reason}). The run goes on and is kept in its folder; "
            f"what does not arrive is sent by: {sync_command(folder)}"
        )


def sync_command(folder: RunFolder) -> str:
    """Return what sends a run to MLflow again, to paste into a shell."""
    return f"medres track sync {shlex.quote(str(folder.path))}"
