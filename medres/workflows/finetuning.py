"""`finetune`: from a folder of labelled scans to a scored, tracked, registered bundle. Each step leaves a file."""

from __future__ import annotations

import re
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from medres.config import FinetuneConfig
from medres.errors import MedresError, TrackingError, UsageError
from medres.finetuning.outcomes import FoldOutcome
from medres.finetuning.ranks import Ranks, joined_ranks
from medres.models.names import require_arch
from medres.reporting.result import Run
from medres.runs.atomic import explained_os_errors
from medres.runs.events import read_events
from medres.runs.folder import RunFolder, is_finished, new_run_folder, require_run_name, unused_run_name
from medres.runs.host import independent_of_host
from medres.runs.leftovers import emptied_when_refused, empty_folder_removed, files_as_found, folders_as_found
from medres.runs.progress import Progress, Silent
from medres.workflows.advice import going_on_with
from medres.workflows.job import Job, held, prepare_job, read_config, reopen_job
from medres.workflows.mirroring import mirrored
from medres.workflows.preflight import check_places, check_request
from medres.workflows.registry import register
from medres.workflows.sharing import fold_log, opened
from medres.workflows.tracked import check_tracking

#: What may be said anew when a run goes on: where it runs and where it is tracked, nothing that decides its numbers.
RESUME_OPTIONS = ("device", "tracking", "tracking_uri", "cache_dir", "weights_dir")


def finetune(data: str | Path, arch: str, *, progress: Progress | None = None, **options: Any) -> Run:
    """Fine-tune, cross-validate and score a classifier: ``medres finetune`` from Python.

    Args:
        data: Folder of class folders, folder with ``labels.csv`` (or that file), or a MedMNIST ``.npz``.
        arch: Backbone, such as ``resnet50``.
        progress: Shows how far it is; None shows nothing.
        options: Any other field of `medres.config.FinetuneConfig`, such as ``folds=5`` or ``weights="none"``.

    Returns:
        The run: ``metrics``, ``predictions``, ``report_path``, ``model``.

    Raises:
        MedresError: What was given cannot be used; the message says why and what to do.

    Example:
        ::

            run = medres.finetune("scans/", arch="resnet50", folds=5)
            run.metrics["pooled"]["scores"]["auroc"]
    """
    config = FinetuneConfig.build(data=Path(data), arch=arch, **options)
    return run_finetune(config, progress=progress or Silent())


@independent_of_host()
def run_finetune(config: FinetuneConfig, *, progress: Progress) -> Run:
    """Do what the configuration asks for; the command line and `finetune` both end here."""
    check_places(config)
    require_arch(config.arch)  # a run is named after its architecture
    ranks = joined_ranks()

    def prepare(locks: ExitStack) -> Job:
        check_request(config)
        with folders_as_found(config.output), files_as_found(config.survey_memory):
            name = config.name or unused_run_name(config.output, default_run_name(config))
            as_found = folders_as_found if config.name else empty_folder_removed
            with as_found(config.output / name):
                check_tracking(config, RunFolder(config.output / name), progress)
                folder = new_run_folder(config.output, name)
                locks.enter_context(held(folder.path / ".lock", what=str(folder.path)))
                with emptied_when_refused(folder.path):
                    return prepare_job(config, folder, progress, ranks)

    with ExitStack() as locks:
        return _run(_required(opened(ranks, config, prepare, locks)))


@independent_of_host()
def resume(run: str | Path, *, progress: Progress | None = None, **options: Any) -> Run:
    """Go on with a run that was interrupted, whichever fold it was in: ``medres finetune --resume RUN``.

    What is finished is read, what was under way continues from its last checkpoint, and the weights are those that the
    run would have had without the interruption: bit for bit on the same processor, threads and versions.

    Args:
        run: The run folder.
        progress: Shows how far it is; None shows nothing.
        options: Any of `RESUME_OPTIONS`.

    Raises:
        MedresError: The folder holds no run, or data, plan or weights are not those that it began with.
    """
    folder, config = _read_begun(run, options)
    shown, ranks = progress or Silent(), joined_ranks()

    def reopen(locks: ExitStack) -> Job | None:
        locks.enter_context(held(folder.path / ".lock", what=str(folder.path)))
        if is_finished(folder):
            shown.note(f"{folder.path} is finished: nothing is left to do")
            return None
        check_tracking(config, folder, shown)
        return reopen_job(folder, config, shown, ranks)

    with ExitStack() as locks:
        job = opened(ranks, config, reopen, locks)
        return _run(job) if job else Run(folder)


@dataclass(frozen=True, kw_only=True)
class FoldDone:
    """One fold of a run, trained as a job of its own.

    Args:
        run: The run folder.
        fold: The fold.
        seconds: Time taken.
        left: Folds that are not trained yet.
    """

    run: Path
    fold: int
    seconds: float
    left: tuple[int, ...]

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"run": str(self.run), "fold": self.fold, "seconds": self.seconds, "left": list(self.left)}

    def screen(self) -> str:
        """Return what the command line prints."""
        collect = f"medres collect {shlex.quote(str(self.run))}"
        left = f"not trained yet: {', '.join(map(str, self.left))}; when they are" if self.left else "all are trained"
        return f"fold {self.fold} of {self.run} is trained in {self.seconds:.0f} s; {left}: {collect}"


@independent_of_host()
def run_fold(config: FinetuneConfig, *, fold: int, progress: Progress) -> FoldDone:
    """Train one fold as a job of its own; the first of such jobs prepares the run, the others join it.

    Args:
        config: The same for all jobs of the run; with a name.
        fold: Which fold, from 0.
        progress: Shows how far it is.

    Raises:
        UsageError: The run has no name, or no such fold.
        MedresError: As in `resume`.
    """
    if config.name is None:
        raise UsageError("--fold trains a part of a run, which needs a name.", fix="Give all jobs the same --name.")
    check_places(config, fold=fold)
    ranks = joined_ranks()

    def join(_: ExitStack) -> Job:
        job = _joined(config, progress, ranks)
        if fold not in job.fold_indices:
            raise UsageError(f"--fold is {fold}; the run has the folds {', '.join(map(str, job.fold_indices))}.")
        return job

    job = _required(opened(ranks, config, join, ExitStack()))
    with going_on_with("the same command again"):
        outcome = job.train_fold(fold, log=fold_log(job, fold))
    ranks.wait()
    return FoldDone(run=job.folder.path, fold=fold, seconds=outcome.seconds, left=job.untrained_folds())


@independent_of_host()
def collect(run: str | Path, *, progress: Progress | None = None, **options: Any) -> Run:
    """Score a run whose folds were trained as jobs of their own: ``medres collect RUN``.

    Args:
        run: The run folder.
        progress: Shows how far it is; None shows nothing.
        options: Any of `RESUME_OPTIONS`.

    Raises:
        MedresError: Folds are missing, or as in `resume`.
    """
    folder, config = _read_begun(run, options)
    ranks = joined_ranks()

    shown = progress or Silent()

    def reopen(locks: ExitStack) -> Job:
        locks.enter_context(held(folder.path / ".lock", what=str(folder.path)))
        check_tracking(config, folder, shown)
        return reopen_job(folder, config, shown, ranks)

    with ExitStack() as locks:
        job = _required(opened(ranks, config, reopen, locks))
        return _run(job, job.finished_folds())  # a missing fold is refused before anything is written


def default_run_name(config: FinetuneConfig) -> str:
    """Return a name from the architecture and the time, such as ``resnet50-20261121-141530``.

    The data's name stays out of it: the run's name goes to MLflow, and folders are named after patients at times.
    """
    return f"{re.sub('[^A-Za-z0-9]+', '-', config.arch)[:60].strip('-')}-{time.strftime('%Y%m%d-%H%M%S')}"


def _run(job: Job, outcomes: list[FoldOutcome] | None = None) -> Run:
    """Train what is not trained, then score and publish; processes beside the first only train.

    Args:
        job: Ready to train.
        outcomes: Of all folds, where they are known to be trained; None = train what is not.
    """
    with going_on_with(job.folder.resume_command):
        if job.ranks.is_first:
            _train_and_publish(job, outcomes)
        elif outcomes is None:
            job.train_folds()
    if job.ranks.is_first and job.config.register_name:
        _register(job, job.config.register_name)
    job.ranks.wait()
    return Run(job.folder)


def _train_and_publish(job: Job, outcomes: list[FoldOutcome] | None) -> None:
    config, folder = job.config, job.folder
    with mirrored(config, folder, job.log, job.progress, job.ranks.world):
        job.announce()
        _take_over_folds(job)
        job.finish(job.train_folds() if outcomes is None else outcomes)


def _register(job: Job, name: str) -> None:
    """Register a finished run; what goes wrong costs nothing but the registration."""
    config, folder = job.config, job.folder
    try:
        made = register(folder.path, name=name, tracking_uri=config.tracking_uri, experiment=config.experiment)
    except TrackingError as error:
        command = f"medres register {shlex.quote(str(folder.path))} {shlex.quote(name)}"
        error.add_advice(f"The run is finished, its report is {folder.report}; it is registered by: {command}")
        raise
    job.progress.note(made.screen())


def _required(job: Job | None) -> Job:
    assert job is not None  # only a run that goes on may have nothing to do
    return job


def _take_over_folds(job: Job) -> None:
    """Copy the events of folds that were jobs of their own into the run's log."""
    known = {event.get("fold") for event in read_events(job.log.path) if event["kind"] == "fold_finished"}
    for index in job.fold_indices:
        path = job.folder.fold_events(index)
        if index not in known and path.is_file():
            for event in read_events(path):
                job.log.take_over(event)


def _joined(config: FinetuneConfig, progress: Progress, ranks: Ranks) -> Job:
    """Return the run that all jobs of it share: prepared by the first of them, while the others wait."""
    name = require_run_name(str(config.name))
    path, lock = config.output / name, config.output / f".{name}.lock"
    with folders_as_found(path), files_as_found(config.survey_memory):
        with explained_os_errors(config.output, option="--output"):
            config.output.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            try:
                return _prepared_or_joined(config, path, progress, ranks)
            except MedresError:
                if not path.is_dir():  # no job has a run to join; who waits for this file sees that it is gone
                    lock.unlink(missing_ok=True)
                raise


def _prepared_or_joined(config: FinetuneConfig, path: Path, progress: Progress, ranks: Ranks) -> Job:
    folder = RunFolder(path.resolve())
    if folder.identity.is_file():
        _, known = read_config(path)
        _require_same_request(config, known, folder)
        return reopen_job(folder, known, progress, ranks)
    check_request(config)
    if folder.config.is_file():  # it ended before anything was decided
        return prepare_job(config, folder, progress, ranks)
    with folders_as_found(path):
        begun = new_run_folder(config.output, path.name)
        with emptied_when_refused(begun.path):
            return prepare_job(config, begun, progress, ranks)


def _require_same_request(config: FinetuneConfig, known: FinetuneConfig, folder: RunFolder) -> None:
    place = {"output", "name", "cache_dir", "device", "tracking", "tracking_uri", "experiment", "weights_dir"}
    asked, began = config.located().to_mapping(), known.to_mapping()
    differing = sorted(key for key in asked if key not in place and asked[key] != began[key])
    if differing:
        raise UsageError(
            f"{folder.path} was begun with other options than this job: {', '.join(differing)}.",
            fix="Give all jobs of a run the same options, or another --name.",
        )


def _read_begun(run: str | Path, options: dict[str, Any]) -> tuple[RunFolder, FinetuneConfig]:
    """Return a run that was begun and what was asked for, with what may be said anew."""
    _refuse_other_options(options)
    folder, config = read_config(Path(run))
    return folder, config.model_copy(update={key: value for key, value in options.items() if value is not None})


def _refuse_other_options(options: dict[str, Any]) -> None:
    others = sorted(key for key, value in options.items() if value is not None and key not in RESUME_OPTIONS)
    if others:
        raise UsageError(
            f"A run that goes on keeps its settings; {', '.join(others)} cannot be given with it.",
            fix=f"Leave them out (only {', '.join(RESUME_OPTIONS)} may change), or begin a new run.",
        )
