"""The page of a comparison: self-contained, names of runs and contenders, counts and scores; no path and no id."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from markupsafe import Markup

from medres._version import __version__
from medres.reporting.comparison.figures import cost_figure, forest_figure
from medres.reporting.pages import page_template

if TYPE_CHECKING:
    from medres.reporting.comparison.result import Comparison


def render_comparison(comparison: Comparison) -> str:
    """Return the page."""
    return page_template("comparison.html.j2").render(
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        comparison=comparison,
        tables=list(comparison.tables()),
        forest=Markup(forest_figure(comparison.scores)),
        cost=Markup(cost_figure(comparison.scores, comparison.costs)),
    )
