"""What one pytest process says of each test function: passed, failed or skipped, with the figures it recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class TestOutcomes:
    """All cases of one test function.

    Args:
        cases: Outcome of each case (a parametrized test has several).
        figures: What the test recorded with ``record_property("figure", ...)``, in order.
        reasons: Why cases were skipped.
        seconds: Time of all cases with their fixtures.
    """

    __test__ = False  # no test, whatever its name says to pytest

    cases: list[Outcome] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> int:
        """Return how many cases had this outcome."""
        return self.cases.count(outcome)


def read_outcomes(junit_xml: Path) -> dict[str, TestOutcomes]:
    """Return the outcomes by node id of the test function; empty where pytest ended before it could write.

    Args:
        junit_xml: What ``pytest --junitxml`` wrote.
    """
    by_function: dict[str, TestOutcomes] = defaultdict(TestOutcomes)
    if not junit_xml.is_file():
        return by_function
    for case in ElementTree.parse(junit_xml).iter("testcase"):
        node_id = node_id_of(case.get("classname", ""), case.get("name", ""))
        known = by_function[node_id]
        known.cases.append(_outcome(case))
        known.figures.extend(_figures(case))
        known.reasons.extend(skipped.get("message", "") for skipped in case.iter("skipped"))
        by_function[node_id] = TestOutcomes(
            cases=known.cases,
            figures=known.figures,
            reasons=known.reasons,
            seconds=known.seconds + float(case.get("time", 0)),
        )
    return by_function


def node_id_of(classname: str, name: str) -> str:
    """Return the node id of a test function from what JUnit's XML calls it.

    Example:
        >>> node_id_of("tests.runs.test_events", "test_order[a-b]")
        'tests/runs/test_events.py::test_order'
    """
    return f"{classname.replace('.', '/')}.py::{name.partition('[')[0]}"


def _outcome(case: ElementTree.Element) -> Outcome:
    children = {child.tag for child in case}
    if children & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in children else "passed"


def _figures(case: ElementTree.Element) -> Iterable[str]:
    return (known.get("value", "") for known in case.iter("property") if known.get("name") == "figure")
