"""A run that rank 0 has opened, in the hands of all processes that work on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import torch

from medres.config import FinetuneConfig
from medres.errors import UsageError
from medres.finetuning.engine import own_device
from medres.finetuning.ranks import Ranks
from medres.runs.events import EventLog, SilentLog
from medres.runs.folder import RunFolder
from medres.runs.progress import Silent
from medres.workflows.design import Design, make_feed
from medres.workflows.job import Job
from medres.workflows.study import Study


def opened(
    ranks: Ranks, config: FinetuneConfig, open_job: Callable[[ExitStack], Job | None], locks: ExitStack
) -> Job | None:
    """Open a run on rank 0 while the others wait, and give it to all of them.

    The others get what rank 0 has read and decided, not its files: they read no scan, decide nothing and write nothing.

    Args:
        ranks: The processes.
        config: What was asked for.
        open_job: Called on rank 0 alone, with `locks`; None where there is nothing to do.
        locks: What rank 0 holds as long as it works on the run.

    Returns:
        The run, with the device of this process; None where there is nothing to do.

    Raises:
        MedresError: As in `open_job`, on rank 0; or the processes cannot share it.
    """
    device = own_device(config.device, ranks)
    _require_synchronisable(config, device, ranks)
    job = open_job(locks) if ranks.is_first else None
    parts = ranks.from_first(_Parts(job.config, job.folder, job.study, job.design) if job else None)
    if parts is None:
        return None
    job = job or _beside_the_first(parts)
    design = replace(job.design, device=device)
    return replace(job, design=design, feed=replace(job.feed, device=device), ranks=ranks)


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


def _require_synchronisable(config: FinetuneConfig, device: torch.device, ranks: Ranks) -> None:
    if config.optimisation.sync_batchnorm and ranks.size > 1 and device.type != "cuda":
        raise UsageError(
            f"optimisation.sync_batchnorm works on GPUs only; this run is on {device}.",
            fix="Leave it out, or use --device cuda.",
        )
