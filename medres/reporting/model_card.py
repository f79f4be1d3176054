"""The model card of a bundle: what it is for, what it was made from, how good it is and where that ends.

The headings follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019). Numbers only, no path and no id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from medres.finetuning.scoring import main_block
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.reporting.data_summary import fingerprint_rows
from medres.reporting.wording import (
    SCORE_NAMES,
    brief,
    interval_text,
    limits,
    main_title,
    no_learning_lines,
    plan_rows,
    score_title,
)

_NOT_A_DEVICE = (
    "**Not a medical device.** For research. It has not been cleared by any authority and must not decide about the "
    "care of a patient. Before use elsewhere it has to be evaluated on that hospital's own scans."
)


def model_card(
    metrics: dict[str, Any], plan: Plan, *, arch: str, weights_source: str, weights_sha256: str = "",
    weights_notes: Sequence[str] = (),
    fingerprint: Fingerprint | None = None,
) -> str:  # fmt: skip
    """Return the card as Markdown.

    Args:
        metrics: The document ``metrics.json``.
        plan: What was decided about the scans.
        arch: Backbone.
        weights_source: Where its weights came from, as the user sees it: a file's name, a timm tag, ``none``.
        weights_sha256: Of the file of those weights; empty without.
        weights_notes: What a user should know of them, such as which of several networks of the file was taken.
        fingerprint: Of the training scans: what a scan must be like; None: the section is left out.
    """
    started = "random weights" if weights_source == "none" else _plain(weights_source)
    started += f" (SHA-256 {weights_sha256})" if weights_sha256 else ""
    started += "".join(f"; {_plain(note)}" for note in weights_notes)
    parts = [
        f"# {' / '.join(_plain(name) for name in metrics['classes'])}: classifier of {_scans(plan)}",
        _NOT_A_DEVICE,
        _section("Model", _model_lines(metrics, plan, arch, started)),
        _section("Intended use", _use_lines(metrics, plan)),
        *_expected_section(fingerprint),
        _section("Data", _data_lines(metrics)),
        _section("Scores", [_plain(_sentence(main_title(metrics))), "", *_score_rows(main_block(metrics)[1])]),
        *_ensemble_section(metrics),
        _section("Per class, against the rest", _class_rows(main_block(metrics)[1])),
        _section("Preprocessing and training plan", _plan_rows(plan)),
        _section("Limits", [f"- {limit}" for limit in limits(metrics)]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _scans(plan: Plan) -> str:
    kind = "images" if plan.spatial_dims == 2 else "volumes"
    return kind if plan.modality == "other" else f"{plan.modality} {kind}"


def _model_lines(metrics: dict[str, Any], plan: Plan, arch: str, started: str) -> list[str]:
    shape = " x ".join(str(size) for size in plan.shape)
    members = len(metrics["folds"])
    return [
        f"- Backbone: {_plain(arch)}, {plan.dims:g}D, input of {plan.in_channels} x {shape} (channels x size)",
        f"- Started from: {started}",
        f"- Members: {members}; the answer is the mean of their calibrated probabilities",
        "- `predicted` is the most probable class; `decision` the class that is most probable against its "
        "prevalence in training",
        *(f"- {_plain(line)}" for line in no_learning_lines(metrics)),
    ]


def _use_lines(metrics: dict[str, Any], plan: Plan) -> list[str]:
    names = ", ".join(_plain(name) for name in metrics["classes"])
    return [
        f"- Input: {_scans(plan)} of the kind that it was trained on; a scan of another kind is outside its use",
        f"- Output: a probability of each of {names}",
        "- Users: researchers who can judge the scores below against their own question",
    ]


def _expected_section(fingerprint: Fingerprint | None) -> list[str]:
    if fingerprint is None:
        return []
    told = (
        "Each scan is compared with the training scans below (median, and from the smallest to the largest). "
        "One of another modality, one that shows nothing or one far outside gets probabilities, but no decision."
    )
    rows = [[name, _plain(value)] for name, value in fingerprint_rows(fingerprint)]
    return [_section("Expected scans", [told, "", *_table(["training scans", "value"], rows)])]


def _data_lines(metrics: dict[str, Any]) -> list[str]:
    _, block = main_block(metrics)
    unit = "scan" if metrics["unit"] == "scan" else _plain(metrics["unit"])
    rows = [
        [_plain(name), str(scores["n_patients"]), str(scores["n_units"])] for name, scores in block["per_class"].items()
    ]
    return [f"Scored patients and units (one unit = one {unit}).", "", *_table(["class", "patients", "units"], rows)]


def _score_rows(block: dict[str, Any]) -> list[str]:
    rows = [[score_title(name), *_cells(score)] for name, score in block["scores"].items()]
    return _table(["score", "value", "95 % interval", "patients", "units", "events"], rows)


def _cells(score: dict[str, Any]) -> list[str]:
    value = "-" if score["value"] is None else f"{score['value']:.3f}"
    counts = [str(score[key]) for key in ("n_patients", "n_units", "n_events")]
    return [value, _plain(interval_text(score)), *counts]


def _ensemble_section(metrics: dict[str, Any]) -> list[str]:
    if metrics["pooled"] is None or metrics["test"] is None:
        return []
    return [_section("Scores of the ensemble on the test split", _score_rows(metrics["test"]))]


def _class_rows(block: dict[str, Any]) -> list[str]:
    names = [name for name in SCORE_NAMES if all(name in scores for scores in block["per_class"].values())]
    rows = [
        [_plain(label), *(" ".join(_value_and_interval(scores[name])) for name in names)]
        for label, scores in block["per_class"].items()
    ]
    return _table(["class", *(score_title(name) for name in names)], rows)


def _value_and_interval(score: dict[str, Any]) -> Iterable[str]:
    yield "-" if score["value"] is None else f"{score['value']:.3f}"
    if score["low"] is not None:
        yield f"({interval_text(score)})"


def _plan_rows(plan: Plan) -> list[str]:
    rows = [[name, _plain(value), _plain(reason)] for name, value, reason in plan_rows(plan)]
    if not rows:  # a plan that was written by hand has values, not reasons
        rows = [[name, _plain(brief(getattr(plan, name))), ""] for name in ("modality", "shape", "spacing_mm", "crop")]
    return _table(["choice", "value", "reason"], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _plain(text: str) -> str:
    """Keep names from being read as Markdown or HTML."""
    joined = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]#|~])", r"\\\1", joined).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
