"""The life of a run: mirrored to MLflow while it works, and never left open, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medres.config import FinetuneConfig
from medres.finetuning.world import World
from medres.runs.events import EventLog
from medres.runs.folder import RunFolder
from medres.runs.progress import Progress
from medres.tracking.mirror import MirrorSummary, MlflowMirror
from medres.tracking.store import resolve_tracking_uri
from medres.workflows.processes import was_interrupted


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
            progress.note(f"interrupted; go on with: medres finetune --resume {folder.path}")
        else:
            log.append("run_finished", status="failed", error_kind=type(error).__name__)
        raise
    else:
        log.append("run_finished", status="finished")
    finally:
        if mirror:
            progress.note(sentence(mirror.close(), folder))


def sentence(summary: MirrorSummary, folder: RunFolder) -> str:
    """Return one line on what arrived in MLflow, and what to do where something did not."""
    if summary.complete:
        return f"MLflow: run {summary.run_id} at {summary.uri}"
    if not summary.missing:
        return f"MLflow: run {summary.run_id} at {summary.uri}, without what it refused: {'; '.join(summary.refused)}"
    return (
        f"MLflow at {summary.uri}: {summary.missing} of {summary.sent + summary.missing} events did not arrive"
        f" ({summary.reason}); nothing is lost: medres track sync {folder.path}"
    )


def _open_mirror(config: FinetuneConfig, folder: RunFolder, log: EventLog) -> MlflowMirror:
    uri = resolve_tracking_uri(config.output, config.tracking_uri)
    mirror = MlflowMirror(uri, experiment=config.experiment, run_name=folder.name, output=folder.path.parent)
    log.subscribe(mirror.listen)
    return mirror
