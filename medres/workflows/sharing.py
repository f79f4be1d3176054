"""A run that rank 0 has opened, in the hands of all processes that work on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from medres.config import FinetuneConfig
from medres.errors import TrainingError, UsageError
from medres.finetuning.engine import own_device
from medres.finetuning.ranks import Ranks
from medres.runs.events import EventLog, SilentLog
from medres.runs.folder import RunFolder
from medres.runs.progress import Silent
from medres.workflows.design import Design, make_feed
from medres.workflows.job import Job
from medres.workflows.study import Study


def opened(ranks: Ranks, open_job: Callable[[ExitStack], Job | None], locks: ExitStack) -> Job | None:
    """Open a run on rank 0 while the others wait, and give it to all of them.

    The others get what rank 0 has read and decided, not its files: they read no scan, decide nothing and write nothing.

    Args:
        ranks: The processes.
        open_job: Called on rank 0 alone, with `locks`; None where there is nothing to do.
        locks: What rank 0 holds as long as it works on the run.

    Returns:
        The run, with the device of this process; None where there is nothing to do.

    Raises:
        MedresError: As in `open_job`, on rank 0; or the processes cannot share it.
    """
    job = open_job(locks) if ranks.is_first else None
    if job is not None:
        _require_shares(job, ranks)
    parts = ranks.from_first(job and _Parts(job.config, job.folder, job.study, job.design))
    if parts is None:
        return None
    return _of_this_process(job or _beside_the_first(parts), ranks)


def fold_log(job: Job, index: int) -> EventLog:
    """Return where the events of a fold go that is a job of its own."""
    log = EventLog if job.ranks.is_first else SilentLog
    return log(job.folder.fold_events(index))


class _Parts(NamedTuple):
    """What the others get of a run."""

    config: FinetuneConfig
    folder: RunFolder
    study: Study
    design: Design


def _beside_the_first(parts: _Parts) -> Job:
    progress, log = Silent(), SilentLog(parts.folder.events)
    # every scan is prepared: the cache is opened, not filled
    feed = make_feed(parts.config, parts.study, parts.design, progress)
    return Job(**parts._asdict(), log=log, progress=progress, feed=feed)


def _of_this_process(job: Job, ranks: Ranks) -> Job:
    device = own_device(job.config.device, ranks)
    if job.config.optimisation.sync_batchnorm and ranks.size > 1 and device.type != "cuda":
        raise UsageError(
            f"optimisation.sync_batchnorm works on GPUs only; this run is on {device}.",
            fix="Leave it out, or use --device cuda.",
        )
    design = replace(job.design, device=device)
    return replace(job, design=design, feed=replace(job.feed, device=device), ranks=ranks)


def _require_shares(job: Job, ranks: Ranks) -> None:
    """Refuse batches that are smaller than the number of processes, before anything is trained."""
    trained = any(stage.solver == "sgd" and stage.epochs for stage in job.design.stages)
    for fold in job.study.folding.folds if trained else ():
        smallest = len(fold.train) // math.ceil(len(fold.train) / job.design.plan.batch_size)
        if smallest < ranks.size:
            raise TrainingError(
                f"Fold {fold.index} has batches of {smallest} scans, which {ranks.size} processes cannot share.",
                fix="Use fewer processes or a larger --batch-size (it is that of all processes together).",
            )
