"""Tables for the terminal: every score with its interval and its n."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from medres.finetuning.scoring import main_block
from medres.planning.plan import Plan

#: How scores are called in print.
SCORE_NAMES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "log_loss": "log-loss",
}

_KINDS = {
    "cross-validation": "cross-validated single model, held-out folds pooled",
    "single-split": "one model, its held-out patients",
    "given-split": "one model, the given test split",
}


def result_title(metrics: dict[str, Any]) -> str:
    """Return one line that says what was scored."""
    name, block = main_block(metrics)
    first = block["scores"]["auroc"]
    unit = "" if metrics["unit"] == "scan" else f" ({metrics['unit']})"
    what = f"{first['n_patients']} patients, {first['n_units']} units{unit}"
    return f"{_KINDS[metrics['kind']]}: {what}" if name == "pooled" else f"{_KINDS['given-split']}: {what}"


def result_table(metrics: dict[str, Any]) -> Table:
    """Return the scores that the run is judged by; beside them, those of the ensemble on a test split, if any."""
    blocks = [(result_title(metrics), main_block(metrics)[1])]
    if metrics["pooled"] is not None and metrics["test"] is not None:
        blocks.append(("ensemble on the test split", metrics["test"]))
    table = _table("Scores")
    for heading, justify in (("score", "left"), ("value", "right"), ("95 % interval", "left"), ("patients", "right"),
                             ("units", "right"), ("events", "right")):  # fmt: skip
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for title, block in blocks:
        table.add_section()
        table.add_row(f"[italic]{title}[/italic]")
        for name, score in block["scores"].items():
            table.add_row(SCORE_NAMES[name], *score_cells(score))
    return table


def per_class_table(metrics: dict[str, Any]) -> Table:
    """Return each class against the rest."""
    table = _table("Per class, against the rest")
    for heading in ("class", "patients", "units", "AUROC", "sensitivity", "specificity"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, scores in main_block(metrics)[1]["per_class"].items():
        ranges = [value_with_interval(scores[score]) for score in ("auroc", "sensitivity", "specificity")]
        table.add_row(_plain(name), str(scores["n_patients"]), str(scores["n_units"]), *ranges)
    return table


def confusion_table(metrics: dict[str, Any]) -> Table:
    """Return how labels were decided, in units."""
    confusion = main_block(metrics)[1]["tables"]["confusion"]
    table = _table("Labels (rows) and decisions (columns)")
    table.add_column("")
    for name in confusion["classes"]:
        table.add_column(_plain(name), justify="right")
    for name, counts in zip(confusion["classes"], confusion["counts"], strict=True):
        table.add_row(_plain(name), *(str(count) for count in counts))
    return table


def fold_table(metrics: dict[str, Any]) -> Table:
    """Return AUROC, size, temperature and time of each fold."""
    table = _table("Folds")
    for heading in ("fold", "AUROC", "units", "temperature", "seconds"):
        table.add_column(heading, justify="right")
    for fold in metrics["folds"]:
        score = fold["scores"]["auroc"]
        values = (value_with_interval(score), str(score["n_units"]), f"{fold['temperature']:.2f}")
        table.add_row(str(fold["fold"]), *values, f"{fold['seconds']:.0f}")
    return table


def plan_table(plan: Plan) -> Table:
    """Return each choice with its reason."""
    table = _table("Plan")
    for heading in ("choice", "value", "reason"):
        table.add_column(heading, overflow="fold")
    for name, value, reason in plan_rows(plan):
        table.add_row(name, _plain(value), _plain(reason))
    return table


def plan_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """Return (choice, value, reason) of every choice that has a reason."""
    return [(name, brief(getattr(plan, name)), reason) for name, reason in plan.reasons.items()]


def brief(value: Any) -> str:
    """Return a choice in a few words."""
    if hasattr(value, "to_mapping"):
        return ", ".join(
            f"{key} {brief(item)}" for key, item in value.to_mapping().items() if item not in ([], (), None)
        )
    if isinstance(value, (tuple, list)):
        return " x ".join(brief(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)


def score_cells(score: dict[str, Any]) -> list[str]:
    """Return value, interval (or why there is none) and counts."""
    value = "-" if score["value"] is None else f"{score['value']:.3f}"
    return [value, interval_text(score), str(score["n_patients"]), str(score["n_units"]), str(score["n_events"])]


def interval_text(score: dict[str, Any]) -> str:
    """Return ``0.712 to 0.934``, or the reason why there is no interval."""
    if score["low"] is None:
        return f"none: {score.get('reason', 'not computed')}"
    return f"{score['low']:.3f} to {score['high']:.3f}"


def value_with_interval(score: dict[str, Any]) -> str:
    """Return ``0.83 (0.71 to 0.93)``."""
    if score["value"] is None:
        return "-"
    if score["low"] is None:
        return f"{score['value']:.2f} (no interval)"
    return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold")


def _plain(text: str) -> str:
    """Keep class names such as ``[grade 2]`` from being read as markup."""
    return text.replace("[", r"\[")
