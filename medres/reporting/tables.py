"""Tables for the terminal: every score with its interval and its n. Names are shown literally, never as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from medres.finetuning.scoring import main_block
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.reporting.data_summary import fingerprint_rows
from medres.reporting.wording import (
    interval_text,
    main_title,
    plan_rows,
    score_title,
    value_text,
    value_with_interval,
)
from medres.runs.printable import one_line

_COUNTS = ("n_patients", "n_units", "n_events")


def result_table(metrics: dict[str, Any]) -> Table:
    """Return the scores that the run is judged by; beside them, those of the ensemble on a test split, if any.

    Args:
        metrics: The document ``metrics.json``.
    """
    table = new_table("Scores", ["score", "value", "95 % interval", "patients", "units", "events"], left=(0, 2))
    blocks = [(main_title(metrics), main_block(metrics)[1])]
    if metrics["pooled"] is not None and metrics["test"] is not None:
        blocks.append(("ensemble, test split", metrics["test"]))
    table.title = Text(blocks[0][0])
    for index, (title, block) in enumerate(blocks):
        if index:
            table.add_section()
            table.add_row(Text(title, style="bold italic"))
        for name, score in block["scores"].items():
            counts = [str(score[key]) for key in _COUNTS]
            table.add_row(score_title(name), Text(value_text(score), "bold"), Text(interval_text(score)), *counts)
    return table


def per_class_table(metrics: dict[str, Any]) -> Table:
    """Return each class against the rest."""
    names = ("auroc", "sensitivity", "specificity")
    heads = ["class", "patients", "units", *(score_title(name) for name in names)]
    table = new_table("Per class, against the rest", heads)
    for label, scores in main_block(metrics)[1]["per_class"].items():
        values = [value_with_interval(scores[name]) for name in names]
        table.add_row(Text(one_line(label)), str(scores["n_patients"]), str(scores["n_units"]), *values)
    return table


def confusion_table(metrics: dict[str, Any]) -> Table:
    """Return how the units of each label (rows) were decided (columns)."""
    confusion = main_block(metrics)[1]["tables"]["confusion"]
    table = new_table("Decisions", ["label", *confusion["classes"]])
    for label, counts in zip(confusion["classes"], confusion["counts"], strict=True):
        table.add_row(Text(one_line(label)), *(str(count) for count in counts))
    return table


def fold_table(metrics: dict[str, Any]) -> Table:
    """Return size, scores and temperature of each fold."""
    names = ("auroc", "balanced_accuracy")
    heads = ["fold", "patients", "units", *(score_title(name) for name in names), "temperature"]
    table = new_table("Folds", heads)
    for fold in metrics["folds"]:
        first = fold["scores"]["auroc"]
        values = [value_with_interval(fold["scores"][name]) for name in names]
        counts = (str(first["n_patients"]), str(first["n_units"]))
        table.add_row(str(fold["fold"]), *counts, *values, f"{fold['temperature']:.2f}")
    return table


def plan_table(plan: Plan) -> Table:
    """Return each choice, its value and its reason."""
    table = new_table("Plan", ["choice", "value", "reason"], left=(0, 1, 2))
    for row in plan_rows(plan):
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def data_table(fingerprint: Fingerprint, *, class_counts: Mapping[str, int], num_patients: int) -> Table:
    """Return what the data looks like: classes, patients and the aggregates of the scans.

    Args:
        fingerprint: Of the scans.
        class_counts: Scans of each class.
        num_patients: Number of different patients.
    """
    table = new_table("Data", ["what", "value"], left=(0, 1))
    for label, count in class_counts.items():
        table.add_row(Text(one_line(f"class {label}")), f"{count} scans")
    table.add_row("patients", str(num_patients))
    for row in fingerprint_rows(fingerprint):
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def new_table(title: str, heads: Sequence[str], *, left: Sequence[int] = (0,)) -> Table:
    """Return an empty table in the one style of all of them.

    Args:
        title: Above it.
        heads: Of the columns.
        left: Columns of words; the others hold numbers and are aligned to the right.
    """
    table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", title_style="bold", header_style="bold")
    for index, head in enumerate(heads):
        justify: Literal["left", "right"] = "left" if index in left else "right"
        table.add_column(Text(one_line(head)), justify=justify, overflow="fold")
    return table
