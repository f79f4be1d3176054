"""``report.html``: one page that says what was scored, how, and how far it can be believed.

Self-contained: no script, no font, image or style from elsewhere, so that it opens on a machine without a network and
in ten years. It holds pseudonyms, counts and aggregates; no path and no id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from medres._version import __version__
from medres.data.findings import read_findings
from medres.finetuning.scoring import main_block
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.reporting import wording
from medres.reporting.data_summary import class_rows, fingerprint_rows
from medres.reporting.figures import (
    confusion_figure,
    learning_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from medres.reporting.pages import page_template
from medres.reporting.predictions import ScoredUnit, class_probabilities, read_units, worst_errors
from medres.runs.atomic import atomic_write_text
from medres.runs.events import Event, read_events, settled
from medres.runs.folder import RunFolder, read_metrics

#: Reliability panels; classes beyond them are named in the tables only.
MAX_RELIABILITY_PANELS = 12
_CLASS_COLUMNS = ("auroc", "average_precision", "sensitivity", "specificity")
_FOLD_COLUMNS = ("auroc", "balanced_accuracy", "brier")
#: Parameters that are shown. A fixed list: whatever else a configuration may hold stays out of the page.
_SHOWN_PARAMETERS = (
    "arch", "weights", "recipe", "dims", "folds", "epochs", "batch_size", "seed", "device", "precision", "unit_column",
    "positive",
)  # fmt: skip


def write_report(folder: RunFolder) -> Path:
    """Write ``report.html`` of a finished run and return its path.

    Sections whose file is missing (no fingerprint, no events, ...) are left out.

    Raises:
        OutputError: The run has no ``metrics.json``, or the report cannot be written.
        ConfigError: A document of the run is not valid.
    """
    atomic_write_text(folder.report, render_report(folder))
    return folder.report


def render_report(folder: RunFolder) -> str:
    """Return the page of a finished run.

    Raises:
        OutputError: The run has no ``metrics.json``.
        ConfigError: A document of the run is not valid.
    """
    metrics = read_metrics(folder)
    name, _ = main_block(metrics)
    units = read_units(folder.predictions, metrics["classes"], split="held-out" if name == "pooled" else "test")
    events = settled(read_events(folder.events)) if folder.events.is_file() else []
    return _template().render(
        name=folder.name,
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        **_scores(metrics),
        errors=worst_errors(units, metrics["classes"]),
        num_units_read=len(units),
        **_data_and_plan(folder, metrics, events),
        **_run(metrics, events),
        **_figures(metrics, units, events),
    )


def _scores(metrics: dict[str, Any]) -> dict[str, Any]:
    _, block = main_block(metrics)
    return {
        "metrics": metrics,
        "block": block,
        "weakest": _weakest_class(metrics),
        "class_columns": _CLASS_COLUMNS,
        "class_scores": [scores[key] for scores in block["per_class"].values() for key in _CLASS_COLUMNS],
        "fold_columns": _FOLD_COLUMNS,
        "fold_scores": [fold["scores"][key] for fold in metrics["folds"] for key in _FOLD_COLUMNS],
        "limits": wording.limits(metrics),
        "no_learning": wording.no_learning_lines(metrics),
    }


def _data_and_plan(folder: RunFolder, metrics: dict[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    fingerprint = Fingerprint.read(folder.fingerprint) if folder.fingerprint.is_file() else None
    return {
        "class_rows": class_rows(metrics, events),
        "fingerprint_rows": fingerprint_rows(fingerprint),
        "findings": _findings(folder),
        "plan_rows": wording.plan_rows(Plan.read(folder.plan)) if folder.plan.is_file() else [],
    }


def _run(metrics: dict[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    started = _last(events, "run_started")
    given: Mapping[str, Any] = started.get("parameters", {})
    task = f"{len(metrics['classes'])} classes: {', '.join(metrics['classes'])}"
    return {
        "task": f"{given['arch']} · {task}" if "arch" in given else task,
        "parameters": {name: given[name] for name in _SHOWN_PARAMETERS if name in given},
        "versions": started.get("versions", {}),
        "weights_rows": _weights_rows(_last(events, "weights")),
    }


def _weights_rows(loaded: Event) -> list[tuple[str, str]]:
    """Return what was loaded into the network before training; none for random weights and for runs of old."""
    if not loaded.get("sha256"):
        return []

    def counted(groups: Mapping[str, int]) -> str:
        return "; ".join(f"{number} {how}" for how, number in groups.items()) or "none"

    return [
        ("file or tag", loaded["source"]), ("SHA-256", loaded["sha256"]), ("tensors taken", str(loaded["taken"])),
        ("tensors adapted", counted(loaded["adapted"])), ("tensors left out", counted(loaded["left_out"])),
        *(("note", note) for note in loaded["notes"]),
    ]  # fmt: skip


def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "value": wording.value_text, "interval": wording.interval_text,
        "with_interval": wording.value_with_interval, "title_of": wording.score_title,
    }  # fmt: skip
    template = page_template("report.html.j2", filters=filters)
    template.globals.update(
        main_title=wording.main_title, count_text=wording.count_text, reasons=wording.reasons,
    )  # fmt: skip
    return template


def _figures(metrics: dict[str, Any], units: Sequence[ScoredUnit], events: Sequence[Event]) -> dict[str, Markup | None]:
    _, block = main_block(metrics)
    classes = metrics["classes"]
    # of two classes the curves of the first mirror those of the second
    shown = classes[-1:] if len(classes) == 2 else classes
    risks = {name: class_probabilities(units, classes, classes.index(name)) for name in shown[:MAX_RELIABILITY_PANELS]}
    learning = learning_figure(events)
    return {
        "roc": Markup(roc_figure(block, shown)),
        "precision_recall": Markup(precision_recall_figure(block, shown)),
        "reliability": Markup(reliability_figure(block, risks)) if units else None,
        "confusion": Markup(confusion_figure(block["tables"]["confusion"])),
        "learning": Markup(learning) if learning else None,
    }


def _weakest_class(metrics: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the class that is recognised least, of more than two: a macro average hides it."""
    _, block = main_block(metrics)
    known = {name: scores["sensitivity"] for name, scores in block["per_class"].items()}
    known = {name: score for name, score in known.items() if score["value"] is not None}
    if len(metrics["classes"]) == 2 or not known:
        return None
    return min(known.items(), key=lambda item: float(item[1]["value"]))


def _findings(folder: RunFolder) -> list[tuple[str, str, int]]:
    """Return (severity, code, count): the rest of a finding may name files and stays in the run folder."""
    if not folder.findings.is_file():
        return []
    counts: dict[tuple[str, str], int] = {}
    for finding in read_findings(folder.findings):
        key = (finding.severity, finding.code)
        counts[key] = counts.get(key, 0) + 1
    return [(severity, code, count) for (severity, code), count in counts.items()]


def _last(events: Sequence[Event], kind: str) -> Event:
    return next((event for event in reversed(events) if event.get("kind") == kind), {})
