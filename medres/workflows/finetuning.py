"""`finetune`: from a folder of labelled scans to a scored, tracked, registered bundle. Each step leaves a file."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.config import FinetuneConfig
from medres.finetuning.cross_validation import Scored, fit_temperatures, score_held_out, score_test
from medres.finetuning.features import frozen_features
from medres.finetuning.feed import Feed
from medres.finetuning.fold_training import FoldOutcome, FoldTrainer
from medres.finetuning.predictions import write_predictions
from medres.finetuning.scoring import flat_scores, score_run
from medres.finetuning.trainer import Trainer
from medres.models.names import require_arch
from medres.reporting.report import write_report
from medres.reporting.result import Run
from medres.runs.atomic import atomic_write_json, require_writable
from medres.runs.events import EventLog
from medres.runs.folder import RunFolder, new_run_folder
from medres.runs.progress import Prefixed, Progress, Silent
from medres.tracking.registry import check_names
from medres.workflows.bundling import write_run_bundle
from medres.workflows.design import Design, make_design, make_feed
from medres.workflows.environment import describe_environment
from medres.workflows.mirroring import mirrored
from medres.workflows.registry import register
from medres.workflows.study import Study, data_event, read_study


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


def run_finetune(config: FinetuneConfig, *, progress: Progress) -> Run:
    """Do what the configuration asks for; the command line and `finetune` both end here."""
    require_arch(config.arch)  # a run is named after its architecture
    folder = new_run_folder(config.output, config.name or default_run_name(config))
    job = _prepare(config, folder, progress)
    with mirrored(config, folder, job.log, progress):
        job.announce()
        outcomes = job.train_folds()
        temperatures = job.score(outcomes)
        write_run_bundle(folder, job.study, job.design, outcomes, temperatures)
        write_report(folder)
        job.log.append("artifact", path=folder.report.name)
        job.log.append("model", path=folder.model.name)
    if config.register_name:
        registration = register(folder.path, name=config.register_name, tracking_uri=config.tracking_uri)
        progress.note(registration.screen())
    return Run(folder)


def default_run_name(config: FinetuneConfig) -> str:
    """Return a name from the architecture and the time, such as ``resnet50-20261121-141530``.

    The data's name stays out of it: the run's name goes to MLflow, and folders are named after patients at times.
    """
    return f"{re.sub('[^A-Za-z0-9]+', '-', config.arch)[:60].strip('-')}-{time.strftime('%Y%m%d-%H%M%S')}"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run that is ready to train."""

    config: FinetuneConfig
    folder: RunFolder
    log: EventLog
    progress: Progress
    study: Study
    design: Design
    feed: Feed

    def announce(self) -> None:
        """Log what is about to be done."""
        decided = {"recipe": self.design.recipe, "weights": self.design.weights_source}
        parameters = {**self.config.to_parameters(), **decided}
        versions = describe_environment(self.design.device)
        self.log.append("run_started", name=self.folder.name, parameters=parameters, versions=versions)
        self.log.append("data", **data_event(self.study, self.folder.pseudonyms()))
        self.log.append("weights", **self.design.loading.counts())
        self.log.append("plan", digest=self.design.plan.digest(), reasons=self.design.plan.reasons)

    def train_folds(self) -> list[FoldOutcome]:
        """Train all folds, one after the other."""
        folds = self.study.folding.folds
        features = self._frozen_features()
        shown = self.progress.track(folds, description="folds", total=len(folds))
        return [self._train_fold(index, features) for index, _ in enumerate(shown)]

    def _frozen_features(self) -> npt.NDArray[np.float32] | None:
        if self.design.stages[0].solver != "lbfgs":
            return None
        return frozen_features(
            self.design.make_model(), self.feed, num_rows=len(self.study.table),
            num_views=self.config.optimisation.head_views, batch_size=self.design.plan.batch_size,
            seed=self.config.seed, progress=self.progress,
        )  # fmt: skip

    def _train_fold(self, index: int, features: npt.NDArray[np.float32] | None) -> FoldOutcome:
        fold = self.study.folding.folds[index]
        self.log.append("fold_started", fold=fold.index, num_train=len(fold.train), num_held_out=len(fold.held_out))
        name = f"fold {index + 1}/{len(self.study.folding.folds)}"
        trainer = Trainer(
            feed=self.feed, plan=self.design.plan, optimisation=self.config.optimisation, seed=self.config.seed,
            progress=Prefixed(self.progress, name), on_event=partial(self.log.append, fold=fold.index),
        )  # fmt: skip
        outcome = FoldTrainer(
            table=self.study.table, stages=self.design.stages, trainer=trainer, make_model=self.design.make_model,
            features=features, test=self.study.folding.test, pseudonyms=self._sample_pseudonyms(),
            seed=self.config.seed,
        ).train(fold, self.folder.fold(fold.index))  # fmt: skip
        self.log.append("fold_finished", fold=fold.index, seconds=outcome.seconds)
        return outcome

    def _sample_pseudonyms(self) -> tuple[str, ...]:
        pseudonyms = self.folder.pseudonyms()
        return tuple(pseudonyms.sample(scan.sample_id) for scan in self.study.table)

    def score(self, outcomes: Sequence[FoldOutcome]) -> list[float]:
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


def _prepare(config: FinetuneConfig, folder: RunFolder, progress: Progress) -> _Job:
    """Read, check, plan and prepare; a refusal before any training leaves no half-made run behind."""
    log = folder.event_log()
    try:
        if config.register_name:
            check_names(config.register_name)
        require_writable(config.cache_folder)
        config.write_yaml(folder.config, header="What was asked for; plan.yaml says what was decided.")
        study = read_study(config, folder, progress)
        design = make_design(config, study, folder, progress)
        feed = make_feed(config, study, design, progress)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    # the images are in the cache now: free their memory before training
    study = replace(study, survey=replace(study.survey, images={}))
    return _Job(config=config, folder=folder, log=log, progress=progress, study=study, design=design, feed=feed)
