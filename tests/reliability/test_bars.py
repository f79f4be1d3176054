"""The table of the 20 bars is whole, and each of its tests exists; the page tells what it was told."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.reliability.bars import BARS, Bar
from tests.reliability.outcomes import read_outcomes
from tests.reliability.page import ROOT, judge, row

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a.test_b" name="test_c[x-y]" time="1.5"><properties>
<property name="figure" value="200 of 200"/><property name="other" value="no"/></properties></testcase>
<testcase classname="tests.a.test_b" name="test_c[z]" time="0.5">{inside}</testcase>
</testsuite></testsuites>"""


@cache
def _functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_all_numbers_are_there_once_in_order() -> None:
    assert [bar.number for bar in BARS] == list(range(1, 21))


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: str(bar.number))
def test_every_bar_has_words_and_tests_that_exist(bar: Bar) -> None:
    assert bar.title
    assert bar.bar
    assert bar.tests
    for node_id in bar.tests:
        file, _, function = node_id.partition("::")
        assert (ROOT / file).is_file(), file
        assert function.startswith("test_")
        assert function in _functions_in(file), node_id


def test_no_test_of_this_folder_belongs_to_no_bar() -> None:
    proving = {node_id for bar in BARS for node_id in bar.tests}
    own = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in Path(__file__).parent.glob("test_*.py")
        if path.name != Path(__file__).name
        for name in _functions_in(str(path.relative_to(ROOT)))
        if name.startswith("test_")
    }
    assert own
    assert own <= proving


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("", "| 2 of 2 | 2 | met |"),
        ('<failure message="no"/>', "| 1 of 2 | 2 | **failed** |"),
        ('<error message="no"/>', "| 1 of 2 | 2 | **failed** |"),
        ('<skipped message="no real files: /data is absent"/>', "**incomplete** (skipped: no real data)"),
        ('<skipped message="needs root"/>', "**incomplete** (skipped)"),
    ],
)
def test_a_row_says_what_pytest_said(tmp_path: Path, inside: str, words: str) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(JUNIT.format(inside=inside))
    bar = Bar(number=1, title="A", bar="B", tests=("tests/a/test_b.py::test_c",))
    (verdict,) = judge([bar], read_outcomes(report), {bar.tests[0]: 2})
    assert words in row(verdict)
    assert "200 of 200" in row(verdict)
    assert verdict.is_met == (inside == "")
    (early,) = judge([bar], read_outcomes(report), {bar.tests[0]: 3})  # a third case was never reached
    assert not early.is_met


def test_what_did_not_run_is_not_met(tmp_path: Path) -> None:
    verdicts = judge(BARS, read_outcomes(tmp_path / "nothing.xml"), {})
    assert len(verdicts) == 20
    assert not any(verdict.is_met for verdict in verdicts)
    assert all("**not run**" in row(verdict) for verdict in verdicts)
