from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from medres.finetuning.scoring import main_block
from medres.reporting.figures import (
    confusion_figure,
    learning_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from medres.reporting.predictions import class_probabilities, read_units
from medres.reporting.svg import GREY, INK, PALETTE, Canvas, colour_of, label_text, line_style_of, styled
from medres.runs.events import read_events
from medres.runs.folder import RunFolder
from tests.reporting.conftest import HOSTILE


def _block(run: RunFolder) -> tuple[list[str], dict[str, Any]]:
    metrics = json.loads(run.metrics.read_text())
    return metrics["classes"], main_block(metrics)[1]


@cache
def _draw_all(run: RunFolder) -> dict[str, str | None]:
    classes, block = _block(run)
    units = read_units(run.predictions, classes, split="held-out")
    risks = {name: class_probabilities(units, classes, index) for index, name in enumerate(classes)}
    return {
        "roc": roc_figure(block, classes),
        "precision-recall": precision_recall_figure(block, classes),
        "reliability": reliability_figure(block, risks),
        "confusion": confusion_figure(block["tables"]["confusion"]),
        "learning": learning_figure(read_events(run.events)),
    }


def _texts(svg: str | None) -> list[str]:
    assert svg is not None
    return [(element.text or "").strip() for element in ET.fromstring(svg).iter("text")]


@pytest.mark.parametrize(
    "name",
    ["two classes, lesions, test split", "three classes", "hostile names", "perfect, solved head"],
)
def test_figures_are_inline_svg_that_stands_alone(runs: dict[str, RunFolder], name: str) -> None:
    drawn = {figure: svg for figure, svg in _draw_all(runs[name]).items() if svg}
    assert len(drawn) >= 4
    for figure, svg in drawn.items():
        root = ET.fromstring(svg)  # well-formed
        assert root.get("role") == "img", figure
        assert root.get("aria-label"), figure
        assert not re.search(r"https?:|<script|<style|<image|data:|<!--", svg), figure
        assert INK not in svg
        assert "currentColor" in svg


def test_axes_say_what_they_show(runs: dict[str, RunFolder]) -> None:
    drawn = _draw_all(runs["three classes"])
    assert {"1 − specificity (false-positive rate)", "sensitivity (true-positive rate)"} <= set(_texts(drawn["roc"]))
    assert {"recall (sensitivity)", "precision (positive predictive value)"} <= set(_texts(drawn["precision-recall"]))
    assert {"probability", "observed share", "units"} <= set(_texts(drawn["reliability"]))
    assert {"label", "decision"} <= set(_texts(drawn["confusion"]))
    assert "training loss (mean over scans)" in _texts(drawn["learning"])


def test_legend_names_every_class_with_its_score(runs: dict[str, RunFolder]) -> None:
    classes, block = _block(runs["three classes"])
    texts = _texts(roc_figure(block, classes))
    for name in classes:
        score = block["per_class"][name]["auroc"]
        assert f"{name}: {score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})" in texts


def test_hostile_names_are_drawn_literally(runs: dict[str, RunFolder]) -> None:
    classes, block = _block(runs["hostile names"])
    drawn = " ".join(_texts(roc_figure(block, classes)))
    for name in HOSTILE[:4]:
        assert name[:20] in drawn


def test_curve_of_a_single_scored_class_is_missed_in_words(runs: dict[str, RunFolder]) -> None:
    metrics = json.loads(runs["folds of one class"].metrics.read_text())
    fold = metrics["folds"][0]
    assert "no curve: only one class was scored" in _texts(roc_figure(fold, metrics["classes"][-1:]))
    assert "no curve: only one class was scored" in _texts(precision_recall_figure(fold, metrics["classes"][:1]))


def test_confusion_figure_writes_counts_and_shares_of_the_row() -> None:
    texts = _texts(confusion_figure({"classes": ["a", "b"], "counts": [[3, 1], [0, 0]]}))
    assert {"3", "75%", "1", "25%", "0%"} <= set(texts)


def test_no_epochs_make_no_learning_curve() -> None:
    assert learning_figure([{"kind": "fold_started", "fold": 0}]) is None
    assert learning_figure([{"kind": "epoch", "fold": 0, "epoch": 1, "metrics": {"loss": None}}]) is None


def test_a_repeated_epoch_replaces_the_first() -> None:
    events = [{"kind": "epoch", "fold": 0, "stage": "full", "epoch": epoch, "metrics": {"loss": loss}}
              for epoch, loss in ((1, 0.9), (2, 99.0), (2, 0.8), (3, 0.7))]  # fmt: skip
    assert learning_figure(events) == learning_figure([events[0], *events[2:]])


def test_drawing_leaves_matplotlib_as_it_was(runs: dict[str, RunFolder]) -> None:
    before = dict(mpl.rcParams)
    _draw_all.__wrapped__(runs["three classes"])
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_the_same_numbers_give_the_same_figure(runs: dict[str, RunFolder]) -> None:
    assert _draw_all.__wrapped__(runs["three classes"]) == _draw_all(runs["three classes"])


def test_classes_are_told_apart_by_colour_and_line() -> None:
    looks = [(colour_of(index), line_style_of(index)) for index in range(24)]
    assert len(set(looks)) == 24


@pytest.mark.parametrize("colour", [*PALETTE, GREY])
@pytest.mark.parametrize("page", [1.0, 0.009], ids=["white page", "dark page"])
def test_colours_can_be_seen_on_the_page(colour: str, page: float) -> None:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    brighter, darker = max(luminance, page), min(luminance, page)
    # WCAG asks for 3 for graphics; the lightest of Okabe & Ito's colours reach 2.2 on white and are drawn thick
    assert (brighter + 0.05) / (darker + 0.05) > 2


def test_long_and_hidden_labels() -> None:
    assert label_text("x" * 40) == "x" * 27 + "…"
    assert label_text("_hidden").endswith("_hidden")
    assert not label_text("_hidden").startswith("_")


def test_description_is_escaped() -> None:
    @styled
    def draw() -> str:
        canvas = Canvas(1, 1)
        canvas.panels(1)
        return canvas.to_svg("<b> \"quoted\" & 'so'")

    assert ET.fromstring(draw()).get("aria-label") == "<b> \"quoted\" & 'so'"
