"""A run that is ready to train: made once, opened again by whoever goes on with it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout
from lightning_fabric import Fabric

from medres.config import FinetuneConfig
from medres.data.table import ScanTable
from medres.data.wording import first_of
from medres.errors import ConfigError, OutputError, TrainingError
from medres.finetuning.cross_validation import Scored, fit_temperatures, score_held_out, score_test
from medres.finetuning.engine import make_fabric
from medres.finetuning.feed import Feed
from medres.finetuning.fold_training import FoldTrainer
from medres.finetuning.inner_validation import inner_validation
from medres.finetuning.outcomes import OUTCOME_FILE, FoldOutcome
from medres.finetuning.predictions import write_predictions
from medres.finetuning.ranks import ALONE, Ranks
from medres.finetuning.scoring import flat_scores, score_run
from medres.finetuning.trainer import Trainer
from medres.reporting.report import write_report
from medres.runs.atomic import atomic_write_json, explained_os_errors, sweep_parts
from medres.runs.csv_files import read_csv
from medres.runs.documents import Document, digest_of
from medres.runs.events import EventLog, read_events
from medres.runs.folder import RunFolder
from medres.runs.plain_data import shortened
from medres.runs.progress import Prefixed, Progress
from medres.workflows.bundling import write_run_bundle
from medres.workflows.design import Design, make_design, make_feed, write_design
from medres.workflows.environment import describe_environment
from medres.workflows.room import require_room
from medres.workflows.study import Study, data_event, read_study, write_study


class RunIdentity(Document):
    """``identity.json``: what a run is, and what it began on.

    Args:
        format: Version of this document.
        settings: Digest of plan, recipe, optimisation, weights and seed.
        folds: Names of the folds.
        environment: Versions, device and threads: equal ones give equal bits.
    """

    format: Literal[1] = 1
    settings: str
    folds: tuple[int, ...]
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is ready to train.

    Args:
        config: What was asked for.
        folder: Where everything is written.
        log: The run's events.
        progress: Shows how far it is.
        study: The data.
        design: The decisions.
        feed: The way to prepared scans.
        ranks: Processes that work on it; rank 0 writes.
    """

    config: FinetuneConfig
    folder: RunFolder
    log: EventLog
    progress: Progress
    study: Study
    design: Design
    feed: Feed
    ranks: Ranks = ALONE

    @cached_property
    def engine(self) -> Fabric:
        """Device, precision and processes, made once."""
        return make_fabric(self.design.device, self.design.plan.precision, self.ranks)

    @property
    def identity(self) -> str:
        """Digest of all that the outcome of a fold depends on, but for the scans."""
        design = self.design
        return digest_of(
            {
                "arch": design.arch, "plan": design.plan.digest(), "seed": design.seed,
                "weights": design.weights.sha256 if design.weights else "",
                "stages": [stage.to_mapping() for stage in design.stages],
                "optimisation": self.config.optimisation.to_mapping(), "classes": list(self.study.table.classes),
            }
        )  # fmt: skip

    @property
    def fold_indices(self) -> tuple[int, ...]:
        """Names of the folds."""
        return tuple(fold.index for fold in self.study.folding.folds)

    def announce(self) -> None:
        """Log what is about to be done; a run that goes on says so and nothing twice."""
        known = {event["kind"] for event in read_events(self.log.path)} if self.log.path.is_file() else set()
        decided = {"recipe": self.design.recipe, "weights": self.design.weights_source}
        parameters = {**self.config.to_parameters(), **decided}
        versions = describe_environment(self.design.device)
        self.log.append(
            "run_started", name=self.folder.name, parameters=parameters, versions=versions, resumed="plan" in known
        )
        if "plan" in known:
            return
        self.log.append("data", **data_event(self.study, self.folder.pseudonyms()))
        self.log.append("weights", **self.design.loading.counts())
        self.log.append("plan", digest=self.design.plan.digest(), reasons=self.design.plan.reasons)

    def train_folds(self) -> list[FoldOutcome]:
        """Train all folds that are not trained yet, one after the other."""
        folds = self.study.folding.folds
        shown = self.progress.track(folds, description="folds", total=len(folds))
        return [self.train_fold(fold.index, log=self.log) for fold in shown]

    def train_fold(self, index: int, *, log: EventLog) -> FoldOutcome:
        """Train one fold, or read it if it is trained.

        Args:
            index: Name of the fold.
            log: Where its events go.

        Raises:
            OutputError: Another process is at work on it.
        """
        position = self.fold_indices.index(index)
        fold = self.study.folding.folds[position]
        what = f"fold {index} of {self.folder.path}"
        with held(self.folder.fold(index) / ".lock", what=what) if self.ranks.is_first else nullcontext():
            trainer = self._fold_trainer(log, index, f"fold {position + 1}/{len(self.fold_indices)}")
            if _has_ended(log, index):  # it is read, and its end was told
                return trainer.train(fold, self.folder.fold(index))
            log.append("fold_started", fold=index, num_train=len(fold.train), num_held_out=len(fold.held_out))
            outcome = trainer.train(fold, self.folder.fold(index))
            log.append("fold_finished", fold=index, seconds=outcome.seconds)
        return outcome

    def finished_folds(self) -> list[FoldOutcome]:
        """Return the outcomes of all folds.

        Raises:
            TrainingError: Some are not trained yet, by name.
        """
        path, folds, missing = self.folder.path, self.study.folding.folds, self.untrained_folds()
        if missing:
            names = ", ".join(map(str, missing))
            raise TrainingError(
                f"{len(missing)} of the {len(folds)} folds of {path} are not trained yet: {names}.",
                fix=f"Train them: {self.folder.resume_command}, or --fold K as a job of its own each.",
            )
        trainers = [self._fold_trainer(self.log, fold.index, "") for fold in folds]
        # nothing is left to train: they are read, and checked
        return [one.train(fold, self.folder.fold(fold.index)) for one, fold in zip(trainers, folds, strict=True)]

    def untrained_folds(self) -> tuple[int, ...]:
        """Return the names of the folds that are not trained yet."""
        files = {index: self.folder.fold(index) / OUTCOME_FILE for index in self.fold_indices}
        return self.ranks.first(lambda: tuple(index for index, file in files.items() if not file.is_file()))

    def finish(self, outcomes: Sequence[FoldOutcome]) -> None:
        """Calibrate, score, and write predictions, metrics, bundle and report."""
        temperatures = self._score(outcomes)
        write_run_bundle(self.folder, self.study, self.design, outcomes, temperatures)
        write_report(self.folder)
        self.log.append("artifact", path=self.folder.report.name)
        self.log.append("model", path=self.folder.model.name)

    def _fold_trainer(self, log: EventLog, index: int, name: str) -> FoldTrainer:
        folding = self.study.folding
        trainer = Trainer(
            feed=self.feed, plan=self.design.plan, optimisation=self.config.optimisation, seed=self.config.seed,
            progress=Prefixed(self.progress, name), on_event=partial(log.append, fold=index),
            activations=self.config.cache_folder / "activations", ranks=self.ranks, engine=self.engine,
        )  # fmt: skip
        return FoldTrainer(
            table=self.study.table, stages=self.design.stages, trainer=trainer, make_model=self.design.make_model,
            shared_rows=np.unique(np.concatenate([fold.train for fold in folding.folds])), test=folding.test,
            pseudonyms=self._sample_pseudonyms(), seed=self.config.seed, identity=self.identity,
        )  # fmt: skip

    def _sample_pseudonyms(self) -> tuple[str, ...]:
        pseudonyms = self.folder.pseudonyms()
        return tuple(pseudonyms.sample(scan.sample_id) for scan in self.study.table)

    def _score(self, outcomes: Sequence[FoldOutcome]) -> list[float]:
        """Calibrate and score; write ``predictions.csv`` and ``metrics.json``; return the temperatures."""
        table, folding = self.study.table, self.study.folding
        temperatures = fit_temperatures(outcomes, table.class_indices)
        held_out = [score_held_out(*member) for member in zip(outcomes, temperatures, strict=True)]
        test = score_test(outcomes, temperatures, folding) if len(folding.test) else None
        self._write_predictions(held_out, test)
        metrics = score_run(table, folding, outcomes, temperatures, held_out, test, seed=self.config.seed)
        atomic_write_json(self.folder.metrics, metrics)
        self.log.append("scores", scores=flat_scores(metrics))
        folder = self.folder
        for path in (folder.metrics, folder.predictions, folder.plan, folder.fingerprint, folder.weights, folder.folds):
            self.log.append("artifact", path=path.name)
        return temperatures

    def _write_predictions(self, held_out: Sequence[Scored], test: Scored | None) -> None:
        pseudonyms = self.folder.pseudonyms()
        name = "test" if self.study.folding.kind == "given-split" else "held-out"
        parts = [(name, part) for part in held_out]
        for part in parts:
            path = self.folder.fold(int(part[1].fold)) / "predictions.csv"
            write_predictions(path, self.study.table, [part], pseudonyms)
        everything = [*parts, *([("test", test)] if test else [])]
        write_predictions(self.folder.predictions, self.study.table, everything, pseudonyms)


def prepare_job(config: FinetuneConfig, folder: RunFolder, progress: Progress, ranks: Ranks = ALONE) -> Job:
    """Read, check, plan and prepare a new run; what a refusal leaves behind is for the caller to take away.

    Args:
        config: What was asked for.
        folder: Empty.
        progress: Shows how far it is.
        ranks: Processes that will work on it; rank 0 prepares.

    Raises:
        MedresError: What was asked for cannot be done.
    """
    config.located().write_yaml(folder.config, header="What was asked for; plan.yaml says what was decided.")
    study = read_study(config, progress)
    write_study(study, folder)
    design = make_design(config, study, folder, progress)
    write_design(design, folder)
    job = _ready(config, folder, study, design, progress, ranks)
    environment = describe_environment(design.device)
    RunIdentity(settings=job.identity, folds=job.fold_indices, environment=environment).write_json(folder.identity)
    return job


def reopen_job(folder: RunFolder, config: FinetuneConfig, progress: Progress, ranks: Ranks = ALONE) -> Job:
    """Open a run that was begun: the same scans, folds, plan and weights, or a refusal.

    Args:
        folder: The run.
        config: Its configuration (`read_config`).
        progress: Shows how far it is.
        ranks: Processes that will work on it; rank 0 opens it.

    Raises:
        TrainingError: Data, plan or weights are not those that it began with.
    """
    if not folder.identity.is_file():
        return prepare_job(config, folder, progress, ranks)  # it ended before anything was decided
    known = RunIdentity.read(folder.identity)
    study = read_study(config.model_copy(update={"plan": folder.plan}), progress)
    _require_same_scans(study.table, folder)
    design = make_design(config.model_copy(update={"plan": folder.plan}), study, folder, progress)
    job = _ready(config, folder, study, design, progress, ranks)
    if (job.identity, job.fold_indices) != (known.settings, known.folds):
        raise TrainingError(
            f"{folder.path} cannot go on: its plan, weights or settings are not those that it began with.",
            fix="Put back what was changed (plan.yaml, config.yaml, the weights file), or begin a new run.",
        )
    _note_differences(known.environment, describe_environment(design.device), progress)
    return job


def read_config(run: Path) -> tuple[RunFolder, FinetuneConfig]:
    """Return a run folder and what was asked for, wherever the folder lies now.

    Raises:
        OutputError: It is no run.
    """
    folder = RunFolder(run.resolve())
    if not folder.config.is_file():
        raise OutputError(
            f"{run} holds no run that can go on: config.yaml is missing.",
            fix="Begin it with medres finetune --data ...",
        )
    try:
        config = FinetuneConfig.read(folder.config)
    except ConfigError as error:
        raise ConfigError(error.problem, fix="Put config.yaml back as it was, or begin a new run.") from None
    cache = config.cache_folder  # the cache stays where it was, also when the run was moved
    place = {"output": folder.path.parent, "name": folder.name, "cache_dir": cache}
    return folder, config.model_copy(update=place)


@contextmanager
def held(path: Path, *, what: str) -> Iterator[None]:
    """Hold the lock of a folder and sweep what killed writers left in it, or refuse where another process holds it.

    Raises:
        OutputError: Another process is at work, or the folder cannot be written.
    """
    lock = FileLock(path)
    with explained_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"Another process is at work on {what}.", fix="Wait for it to end, or stop it first."
            ) from None
    try:
        sweep_parts(path.parent)
        yield
    finally:
        lock.release()


def _ready(
    config: FinetuneConfig, folder: RunFolder, study: Study, design: Design, progress: Progress, ranks: Ranks
) -> Job:
    _require_shares(study, design, ranks)
    require_room(config, folder, study, design)
    feed = make_feed(config, study, design, progress)
    # the images are in the cache now: free their memory before training
    study = replace(study, survey=replace(study.survey, images={}))
    log = folder.event_log()
    return Job(
        config=config, folder=folder, log=log, progress=progress, study=study, design=design, feed=feed, ranks=ranks
    )


def _require_shares(study: Study, design: Design, ranks: Ranks) -> None:
    """Refuse batches that are smaller than the number of processes, before anything is prepared.

    Raises:
        DataError: Early stopping finds no scans to watch in a fold.
        TrainingError: Batches are too small.
    """
    trained = any(stage.takes_steps for stage in design.stages)
    for fold in study.folding.folds if trained else ():
        rows = fold.train
        if design.optimisation.early_stopping_patience:
            rows, _ = inner_validation(study.table, fold, seed=design.seed)
        smallest = len(rows) // math.ceil(len(rows) / design.plan.batch_size)
        if smallest < ranks.size:
            raise TrainingError(
                f"Fold {fold.index} has batches of {smallest} scans, which {ranks.size} processes cannot share.",
                fix="Use fewer processes or a larger --batch-size (it is that of all processes together).",
            )


def _has_ended(log: EventLog, index: int) -> bool:
    events = read_events(log.path) if log.path.is_file() else []
    return any(event["kind"] == "fold_finished" and event.get("fold") == index for event in events)


def _require_same_scans(table: ScanTable, folder: RunFolder) -> None:
    try:
        known = {row["sample_id"]: (row["content_hash"], row["label"]) for row in read_csv(folder.scans)}
    except (csv.Error, KeyError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{folder.path} cannot go on: {folder.scans.name} is damaged ({shortened(str(error))}).",
            fix="Restore the file, or begin a new run.",
        ) from None
    now = {scan.sample_id: (scan.content_hash, scan.label or "") for scan in table}
    changed = sorted(name for name in known.keys() | now.keys() if known.get(name) != now.get(name))
    if changed:
        raise TrainingError(
            f"{folder.path} cannot go on: {len(changed)} scans are new, gone or changed: {first_of(changed)}.",
            fix="Put the data back as it was, or begin a new run.",
        )


def _note_differences(before: dict[str, str], now: dict[str, str], progress: Progress) -> None:
    changed = [f"{name} {before.get(name)} -> {now.get(name)}" for name in now if before.get(name) != now.get(name)]
    if changed:
        progress.note(
            f"this machine is not that which the run began on ({', '.join(changed)}): "
            "its results are the same within rounding, not bit for bit"
        )
