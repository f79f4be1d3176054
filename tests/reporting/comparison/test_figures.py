from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from matplotlib.figure import Figure

from medres.evaluation.comparison import COMPARED_SCORES
from medres.reporting.comparison.costs import Cost
from medres.reporting.comparison.figures import cost_figure, draw_costs, forest_figure

VALUES = {"a": 0.62, "b": 0.71, "c": 0.93, "$d$": 0.88}


def _document(*, interval: bool = True) -> dict[str, Any]:
    def found(value: float) -> dict[str, Any]:
        bounds = {"low": value - 0.05, "high": value + 0.04} if interval else {"low": None, "high": None}
        return {"value": value, **bounds}

    return {
        "reference": "a",
        "scores": {name: dict.fromkeys(COMPARED_SCORES, found(value)) for name, value in VALUES.items()},
        "differences": {
            name: dict.fromkeys(COMPARED_SCORES, found(value - 0.62)) for name, value in VALUES.items() if name != "a"
        },
    }


@pytest.mark.parametrize("interval", [True, False])
@pytest.mark.parametrize("costs", [(1e6, 1e9, 1e9, 4e10), (10.0, 12.0, 20.0, 10.0), (5.0, 5.0, 5.0, 5.0)])
def test_every_point_is_inside_of_the_axes_and_none_behind_another(costs: tuple[float, ...], interval: bool) -> None:
    axes = Figure(dpi=72).subplots()
    draw_costs(axes, _document(interval=interval), dict(zip(VALUES, costs, strict=True)))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    places = []
    for cost, value in zip(costs, VALUES.values(), strict=True):
        assert left < cost < right
        assert bottom < value - (0.05 if interval else 0) <= value + (0.04 if interval else 0) < top
    for line in axes.get_lines():
        if line.get_marker() == "o":
            [(x, _)] = line.get_transform().transform(list(zip(*line.get_data(), strict=True)))
            places.append(round(float(x), 3))
    assert len(set(places)) == len(places) == 4


def test_without_a_cost_it_says_so() -> None:
    axes = Figure().subplots()
    draw_costs(axes, _document(), dict.fromkeys(VALUES, 0.0))
    assert [text.get_text() for text in axes.texts] == ["not known"]


@pytest.mark.parametrize("interval", [True, False])
def test_the_figures_name_every_contender(interval: bool) -> None:
    cost = Cost(parameters=1, trained_parameters=1, macs=10, models=5, epochs=1, train_seconds=3.0, seed_seconds=(3.0,))
    document = _document(interval=interval)
    for svg in (forest_figure(document), cost_figure(document, dict.fromkeys(VALUES, cost))):
        ET.fromstring(svg)
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
        assert {"b", "c", "$d$"} <= set(texts)
