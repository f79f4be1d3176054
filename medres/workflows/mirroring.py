"""The life of a run: mirrored to MLflow while it works, and never left open, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medres.config import FinetuneConfig
from medres.finetuning.world import World
from medres.runs.events import EventLog, read_events
from medres.runs.folder import RunFolder
from medres.runs.progress import Progress
from medres.tracking.mirror import MirrorSummary, MlflowMirror
from medres.tracking.reach import without_password
from medres.tracking.record import experiment_of, load_record, tracking_uri_of
from medres.workflows.processes import was_interrupted
from medres.workflows.tracked import sync_command


@contextmanager
def mirrored(
    config: FinetuneConfig, folder: RunFolder, log: EventLog, progress: Progress, world: World
) -> Iterator[None]:
    """Feed MLflow from the event log inside the block, and log how the block ended."""
    mirror = _open_mirror(config, folder, log) if config.tracking else None
    try:
        yield
    except BaseException as error:
        if was_interrupted(error, world):
            log.append("run_finished", status="interrupted")
            progress.warn(f"interrupted; go on with: {folder.resume_command}")
        else:
            log.append("run_finished", status="failed", error_kind=type(error).__name__)
        raise
    else:
        log.append("run_finished", status="finished")
    finally:
        if mirror:
            _tell(mirror.close(), folder, progress)


def sentence(summary: MirrorSummary, folder: RunFolder) -> str:
    """Return one line on what arrived in MLflow, and what to do where something did not."""
    if summary.complete:
        return f"MLflow: run {summary.run_id} at {summary.uri}"
    if not summary.missing:
        return f"MLflow: run {summary.run_id} at {summary.uri}, without what it refused: {'; '.join(summary.refused)}"
    return (
        f"MLflow at {summary.uri}: {summary.missing} of {summary.sent + summary.missing} events did not arrive"
        f" ({summary.reason}); nothing is lost: {sync_command(folder)}"
    )


def _tell(summary: MirrorSummary, folder: RunFolder, progress: Progress) -> None:
    tell = progress.note if summary.complete else progress.warn
    tell(sentence(summary, folder))


def _open_mirror(config: FinetuneConfig, folder: RunFolder, log: EventLog) -> MlflowMirror:
    uri = tracking_uri_of(folder, given=config.tracking_uri)
    record = load_record(folder)
    experiment = experiment_of(record, uri=uri, given=config.experiment)
    mirror = MlflowMirror(uri, experiment=experiment, run_name=folder.name, output=folder.path.parent)
    if record is not None and record.uri != without_password(uri) and log.path.is_file():
        for event in read_events(log.path):  # another store than the run began in: it gets what was before as well
            mirror.listen(event)
    log.subscribe(mirror.listen)
    return mirror
