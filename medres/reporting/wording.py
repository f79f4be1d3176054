"""How numbers, choices and limits are put into words: the same on the screen, in the report and on the card."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medres.data.wording import counted, range_text
from medres.finetuning.scoring import main_block, members_without_learning
from medres.planning.plan import Plan
from medres.runs.documents import Document

#: How scores are called in print; others are shown under their own name.
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

#: What is scored, by the kind of division.
KIND_NAMES = {
    "cross-validation": "cross-validated single model, held-out folds pooled",
    "single-split": "one model, its held-out patients",
    "given-split": "one model, the given test split",
}


def score_title(name: str) -> str:
    """Return how a score is called.

    Example:
        >>> score_title("auroc"), score_title("calibration_slope")
        ('AUROC', 'calibration slope')
    """
    return SCORE_NAMES.get(name, name.replace("_", " "))


def main_title(metrics: dict[str, Any]) -> str:
    """Return one line that says what was scored: the model, patients and units."""
    return f"{KIND_NAMES.get(metrics['kind'], metrics['kind'])}: {count_text(main_block(metrics)[1], metrics['unit'])}"


def count_text(block: dict[str, Any], unit: str) -> str:
    """Return ``494 patients, 882 units (lesion_id)``."""
    first = next(iter(block["scores"].values()))
    units = f"{first['n_units']} scans" if unit == "scan" else f"{first['n_units']} units ({unit})"
    return f"{first['n_patients']} patients, {units}"


def value_text(score: dict[str, Any], *, digits: int = 3) -> str:
    """Return the value, or a dash where there is none."""
    return "-" if score["value"] is None else f"{score['value']:.{digits}f}"


def interval_text(score: dict[str, Any], *, digits: int = 3) -> str:
    """Return ``0.712 to 0.934``, or why there is no interval.

    Example:
        >>> interval_text({"low": None, "high": None, "reason": "3 patients in the smallest class"})
        'none: 3 patients in the smallest class'
    """
    if score["low"] is None or score["high"] is None:
        return f"none: {score.get('reason', 'not computed')}"
    return f"{score['low']:.{digits}f} to {score['high']:.{digits}f}"


def value_with_interval(score: dict[str, Any], *, digits: int = 2) -> str:
    """Return ``0.83 (0.71 to 0.93)``; without an interval the value alone, and that it has none."""
    if score["value"] is None:
        return "-"
    has_interval = score["low"] is not None and score["high"] is not None
    bounds = interval_text(score, digits=digits) if has_interval else "no interval"
    return f"{value_text(score, digits=digits)} ({bounds})"


def reasons(scores: Iterable[dict[str, Any]]) -> list[str]:
    """Return why some of the scores have no value or no interval, each reason once."""
    return list(dict.fromkeys(score["reason"] for score in scores if score.get("reason")))


def no_learning_lines(metrics: dict[str, Any]) -> list[str]:
    """Return which members learned nothing, why that is said, and what to do; nothing where all learned."""
    named = members_without_learning(metrics)
    if not named:
        return []
    one = len(named) == 1
    number = f"{len(named)} of {counted(len(metrics['folds']), 'member')}"
    return [
        f"{number} learned nothing: {', '.join(map(str, named))}. {'It is' if one else 'They are'} scored, and part of "
        "the model, all the same.",
        *(f"Member {fold}: {'; '.join(signs)}." for fold, signs in named.items()),
        "What helps: pretrained weights; more epochs (--epochs); a smaller rate (--set optimisation.lr_factor=0.3); "
        "larger inputs or a region of interest, where what matters is small. If nothing does, the scans may not tell "
        "the classes apart.",
    ]


def plan_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """Return (choice, value, reason) of every choice that has a reason."""
    names = [name for name in plan.reasons if name in Plan.model_fields]
    return [(name, brief(getattr(plan, name)), plan.reasons[name]) for name in names]


def brief(value: Any) -> str:
    """Return a choice in a few words.

    Example:
        >>> brief((64, 64, 32)), brief(("lung", "bone")), brief(None), brief(True)
        ('64 x 64 x 32', 'lung, bone', 'not set', 'yes')
    """
    if isinstance(value, Document):
        return ", ".join(_named(key, item) for key, item in value.to_mapping().items() if item not in ([], None))
    if isinstance(value, (tuple, list)):
        numbers = all(isinstance(item, (int, float)) for item in value)
        return (" x " if numbers else ", ").join(brief(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not set" if value is None else str(value)


def _named(key: str, value: Any) -> str:
    if key == "scale_range":
        return f"{key} [{range_text(*value).replace(' to ', ', ')}]"
    if isinstance(value, list):
        items = [f"{item[0]:g} to {item[1]:g}" if isinstance(item, list) else brief(item) for item in value]
        return f"{key} {items[0] if len(items) == 1 else '[' + ', '.join(items) + ']'}"
    return f"{key} {brief(value)}"


def limits(metrics: dict[str, Any]) -> list[str]:
    """Return what the scores do not say, for the way in which they were made."""
    said = [_LIMITS[metrics["kind"]]] if metrics["kind"] in _LIMITS else []
    if metrics["kind"] == "cross-validation" and metrics["test"] is not None:
        said.append("The scores under 'test' are those of the ensemble, on scans that no member was trained on.")
    return [
        *said,
        "All scored scans come from the data set that was given: another hospital, scanner, protocol or prevalence can "
        "give other scores. Evaluate on your own scans before use.",
        "The intervals are over patients of this data set. They hold sampling noise, not the difference between "
        "hospitals, and not the spread between training seeds.",
        "Probabilities are calibrated to the prevalence of the training scans.",
    ]


_LIMITS = {
    "cross-validation": (
        "The pooled scores are those of the cross-validated single model. The ensemble of all folds, which is what is "
        "served, can only be scored on a test split or on external data."
    ),
    "single-split": "One division into training and held-out patients: another division gives other scores.",
    "given-split": (
        "The scores are those of one model on the given test split. What was chosen was chosen on its validation scans."
    ),
}
