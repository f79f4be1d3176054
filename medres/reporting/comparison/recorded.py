"""What a comparison reads of one finished run: also what stays local, `scans.csv` and `pseudonyms.csv`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from medres.data.table import Scan
from medres.errors import OutputError
from medres.finetuning.scoring import main_block
from medres.planning.plan import Plan
from medres.runs.csv_files import read_table
from medres.runs.documents import read_yaml
from medres.runs.events import Event, read_events
from medres.runs.folder import RunFolder, read_metrics

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredScans:
    """The scans that a run is judged by, in the order of its ``predictions.csv``.

    Args:
        pseudonyms: Of the scans, ``(N,)``.
        scans: The scans, ``(N,)``.
        folds: Member that scored each, ``(N,)``.
        class_indices: ``(N,)``.
        probabilities: Calibrated, ``(N, K)``.
        priors: Prevalence among the training scans of that member, its operating point, ``(N, K)``.
    """

    pseudonyms: tuple[str, ...]
    scans: tuple[Scan, ...]
    folds: tuple[str, ...]
    class_indices: npt.NDArray[np.int64]
    probabilities: Floats
    priors: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """A finished run.

    Args:
        folder: Where it is.
        metrics: ``metrics.json``.
        config: ``config.yaml``: what was asked for.
        plan: What was decided.
        events: What happened.
        scans: All rows of ``scans.csv``.
        scored: The scans of its main block.
    """

    folder: RunFolder
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    plan: Plan
    events: tuple[Event, ...]
    scans: tuple[Scan, ...]
    scored: ScoredScans

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.path.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes in the order of all columns; of two, the last is positive."""
        return tuple(self.metrics["classes"])

    @property
    def seed(self) -> int:
        """Seed of splits, order and augmentation."""
        return int(self.config["seed"])

    def event(self, kind: str) -> Event:
        """Return the last event of a kind; empty where there is none."""
        return next((event for event in reversed(self.events) if event.get("kind") == kind), {})


def read_run(path: Path) -> RecordedRun:
    """Read a finished run.

    Raises:
        OutputError: The folder holds no run, an unfinished one, or a file of it is missing or damaged.
        ConfigError: ``config.yaml`` or ``plan.yaml`` is not valid.
    """
    folder = RunFolder(path)
    metrics = _metrics(folder)
    config = read_yaml(folder.config)
    if not isinstance(config, dict) or not isinstance(config.get("seed"), int):
        _refuse(folder.config, "names no seed")
    scans = _scans(folder)
    events = _events(folder)
    return RecordedRun(
        folder=folder, metrics=metrics, config=config, plan=Plan.read(folder.plan), events=tuple(events),
        scans=scans, scored=_scored(folder, metrics, scans),
    )  # fmt: skip


def _metrics(folder: RunFolder) -> dict[str, Any]:
    if not folder.path.is_dir():
        raise OutputError(
            f"{folder.path} is no run folder: there is no such folder.",
            fix="Give folders of finished runs, such as runs/NAME.",
        )
    if not folder.metrics.is_file():
        _refuse_unfinished(folder)
    try:
        document = read_metrics(folder)
        main_block(document)[1]["scores"], document["classes"], document["kind"], document["unit"], document["folds"]
    except (LookupError, TypeError, AttributeError):
        _refuse(folder.metrics, "is damaged")
    return dict(document)


def _refuse_unfinished(folder: RunFolder) -> NoReturn:
    if folder.config.is_file():
        raise OutputError(
            f"{folder.path} holds a run that is not finished: metrics.json is missing.",
            fix=f"Finish it with: {folder.resume_command}, or leave it out.",
        )
    inside = sorted(path.parent.name for path in folder.path.glob("*/metrics.json"))
    fix = "Give folders of finished runs, such as runs/NAME."
    if inside:
        fix = f"Give the runs in it, such as {folder.path / inside[0]}."
    raise OutputError(f"{folder.path} is no run folder: metrics.json is missing.", fix=fix)


def _events(folder: RunFolder) -> list[Event]:
    events = read_events(folder.events) if folder.events.is_file() else []
    if not any(event.get("kind") == "run_started" for event in events):
        _refuse(folder.events, "is missing, or does not say how the run was started")
    return events


def _scans(folder: RunFolder) -> tuple[Scan, ...]:
    rows = list(_rows(folder.scans, ("sample_id", "patient_id", "label", "unit", "content_hash")))
    return tuple(
        Scan(
            sample_id=row["sample_id"], patient_id=row["patient_id"], path=Path(row.get("path") or ""),
            label=row["label"] or None, unit=row["unit"] or None, content_hash=row["content_hash"],
            alike=row.get("alike") or "",
        )
        for row in rows
    )  # fmt: skip


def _scored(folder: RunFolder, metrics: Mapping[str, Any], scans: Sequence[Scan]) -> ScoredScans:
    classes = metrics["classes"]
    split = "held-out" if main_block(dict(metrics))[0] == "pooled" else "test"
    columns = ("sample", "fold", "split", "label", *(f"prob_{name}" for name in classes))
    rows = [row for row in _rows(folder.predictions, columns) if row["split"] == split]
    if not rows:
        _refuse(folder.predictions, f"has no rows of the split {split}")
    if any(not scan.content_hash for scan in scans):
        _refuse(folder.scans, "has scans without content_hash, by which they are paired")
    known = _scan_of_pseudonym(folder, scans)
    priors = _priors(folder, known, classes)
    try:
        return ScoredScans(
            pseudonyms=tuple(row["sample"] for row in rows),
            scans=tuple(known[row["sample"]] for row in rows),
            folds=tuple(row["fold"] for row in rows),
            class_indices=np.array([classes.index(row["label"]) for row in rows], dtype=np.int64),
            probabilities=np.array([[float(row[f"prob_{name}"]) for name in classes] for row in rows]),
            priors=np.array([priors[row["fold"]] for row in rows]),
        )
    except KeyError as error:
        _refuse(folder.predictions, f"names {error}, which pseudonyms.csv, scans.csv and folds.csv do not know")
    except ValueError as error:
        _refuse(folder.predictions, f"is damaged ({error})")


def _scan_of_pseudonym(folder: RunFolder, scans: Sequence[Scan]) -> dict[str, Scan]:
    by_id = {scan.sample_id: scan for scan in scans}
    rows = _rows(folder.mapping, ("kind", "pseudonym", "id"))
    return {
        row["pseudonym"]: by_id[row["id"]] for row in rows if row["kind"] == "sample" and row["id"] in by_id
    }  # fmt: skip


def _priors(folder: RunFolder, known: Mapping[str, Scan], classes: Sequence[str]) -> dict[str, Floats]:
    """Return the operating point of each member, as `FoldTrainer` takes it: the classes among its training scans."""
    counts: dict[str, Floats] = {}
    places = {name: place for place, name in enumerate(classes)}
    for row in _rows(folder.folds, ("fold", "part", "sample")):
        of_fold = counts.setdefault(row["fold"], np.zeros(len(classes)))
        if row["part"] == "train":
            try:
                of_fold[places[known[row["sample"]].label or ""]] += 1
            except KeyError as error:
                _refuse(folder.folds, f"names {error}, which pseudonyms.csv and scans.csv do not know")
    if any(not of_fold.all() for of_fold in counts.values()):
        _refuse(folder.folds, "has a fold whose training scans lack a class")
    return {fold: of_fold / of_fold.sum() for fold, of_fold in counts.items()}


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        known, rows = read_table(path)
        missing = [column for column in columns if column not in known]
        if missing:
            _refuse(path, f"lacks the columns {', '.join(missing)}")
        yield from rows
    except FileNotFoundError:
        _refuse(path, "is missing", fix="Copy the whole run folder: scans are paired by its local files.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        _refuse(path, f"cannot be read ({error})")


def _refuse(path: Path, problem: str, *, fix: str = "Restore the file, or leave the run out.") -> NoReturn:
    raise OutputError(f"{path} {problem}.", fix=fix)
