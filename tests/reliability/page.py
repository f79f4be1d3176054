"""``python -m tests.reliability.page``: run the 20 tests of reliability and write what they showed.

The page is made of what one pytest process reported, nothing else: a number is met where all its tests ran and passed.
Ctrl-C ends the tests and writes the page with the numbers that were not run, and says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.reliability import collected as plugin
from tests.reliability.bars import BARS, Bar
from tests.reliability.machine import describe_code, describe_load, describe_machine
from tests.reliability.outcomes import TestOutcomes, read_outcomes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "reliability.md"
COMMAND = "make reliability"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the tests of one bar showed.

    Args:
        bar: The bar.
        tests: Outcomes of its test functions, by node id; those that did not run are absent.
        num_cases: How many cases each of them has.
    """

    bar: Bar
    tests: dict[str, TestOutcomes]
    num_cases: dict[str, int]

    @property
    def missing(self) -> list[str]:
        """Test functions of which a case did not run."""
        ran = {node_id: len(test.cases) for node_id, test in self.tests.items()}
        return [name for name in self.bar.tests if ran.get(name, 0) < max(1, self.num_cases.get(name, 0))]

    @property
    def skipped(self) -> list[str]:
        """Test functions of which a case was skipped."""
        return [node_id for node_id, test in self.tests.items() if test.count("skipped")]

    @property
    def failed(self) -> list[str]:
        """Test functions of which a case failed."""
        return [node_id for node_id, test in self.tests.items() if test.count("failed")]

    @property
    def is_met(self) -> bool:
        """Whether every test ran and passed."""
        return not (self.failed or self.skipped or self.missing)

    def in_words(self) -> str:
        """Return the verdict as the page says it."""
        if self.failed:
            return "**failed**"
        if self.missing:
            return "**not run**"
        if self.skipped:
            reasons = {reason for test in self.tests.values() for reason in test.reasons}
            real = any("no real files" in reason for reason in reasons)
            return "**incomplete** (skipped: no real data)" if real else "**incomplete** (skipped)"
        return f"**in part**; not yet: {self.bar.not_yet}" if self.bar.not_yet else "met"


def run_tests(node_ids: Sequence[str], junit_xml: Path, collected: Path) -> None:
    """Run tests in one pytest process, slow ones included; Ctrl-C is passed on and waited for.

    Args:
        node_ids: The test functions.
        junit_xml: What pytest reports.
        collected: How many cases each function has (`tests.reliability.collected`).
    """
    options = ["-q", "-p", "no:cacheprovider", "-p", plugin.__name__, "-o", "junit_family=xunit1"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={junit_xml}", *node_ids]
    # bits are promised on the same number of threads
    environment = os.environ | {"OMP_NUM_THREADS": "1", plugin.VARIABLE: str(collected)}
    tests = subprocess.Popen(command, cwd=ROOT, env=environment)
    while True:
        try:
            tests.wait()
            return
        except KeyboardInterrupt:  # the terminal has sent it to the tests, too
            continue


def judge(bars: Sequence[Bar], outcomes: dict[str, TestOutcomes], num_cases: dict[str, int]) -> list[Verdict]:
    """Return what the outcomes say of each bar."""
    return [
        Verdict(bar=bar, tests={name: outcomes[name] for name in bar.tests if name in outcomes}, num_cases=num_cases)
        for bar in bars
    ]


def row(verdict: Verdict) -> str:
    """Return one row of the table."""
    tests = verdict.tests.values()
    passed = sum(test.count("passed") for test in tests)
    cases = sum(verdict.num_cases.get(name, 1) for name in verdict.bar.tests)
    figures = "; ".join(dict.fromkeys(figure for test in tests for figure in test.figures))
    bar, seconds = verdict.bar, sum(test.seconds for test in tests)
    cells = (str(bar.number), bar.title, bar.bar, figures, f"{passed} of {cases}", f"{seconds:.0f}", verdict.in_words())
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def details(verdicts: Sequence[Verdict]) -> list[str]:
    """Return which tests prove which number, and which of them failed, were skipped or did not run."""
    lines = []
    for verdict in verdicts:
        lines += ["", f"**{verdict.bar.number}. {verdict.bar.title}**", ""]
        for node_id in verdict.bar.tests:
            test = verdict.tests.get(node_id, TestOutcomes())
            told = [f"{test.count(kind)} {kind}" for kind in ("passed", "failed", "skipped") if test.count(kind)]
            lines.append(f"- `{node_id}`: {', '.join(told) or 'did not run'}")
    return lines


def write_page(verdicts: Sequence[Verdict], *, seconds: float, load: str) -> str:
    """Return the page."""
    met = sum(verdict.is_met and not verdict.bar.not_yet for verdict in verdicts)
    in_part = sum(verdict.is_met and bool(verdict.bar.not_yet) for verdict in verdicts)
    others = [str(verdict.bar.number) for verdict in verdicts if not verdict.is_met]
    lines = [
        "# Reliability",
        "",
        "Twenty tests of what happens when things go wrong: a server that dies, a disk that is full, a damaged scan, a",
        "leak, a malicious file. Each has a bar that was set before it was built.",
        f"This page is written by `{COMMAND}`, which runs the tests, slow ones included, and fails where one of them",
        "fails, is skipped or did not run. Nothing in the tables is typed by hand.",
        "",
        f"**{met} of {len(verdicts)} met" + (f", {in_part} in part" if in_part else "")
        + (f", others: {', '.join(others)}" if others else "") + ".**",
        "",
        f"- When: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, in {seconds / 60:.0f} minutes",
        f"- Code: {describe_code(ROOT)}",
        f"- Machine: {describe_machine()}",
        f"- {load}",
        "",
        "Times are CPU time or the best of several tries where the figure says so: other programs may run beside.",
        "",
        "| # | Test | Bar | Seen | Cases passed | Seconds | Verdict |",
        "|---|---|---|---|---|---|---|",
        *map(row, verdicts),
        "",
        "## The tests behind each number",
        *details(verdicts),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> list[Bar]:
    """Return the bars that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.page", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="3,7", help="run these numbers and print, without writing the page")
    only = parser.parse_args(arguments).only
    numbers = {int(number) for number in only.split(",")} if only else {bar.number for bar in BARS}
    if unknown := numbers - {bar.number for bar in BARS}:
        parser.error(f"no such number: {', '.join(map(str, sorted(unknown)))}")
    return [bar for bar in BARS if bar.number in numbers]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write (or print, where only some numbers are asked for) and return the exit code."""
    bars, started, load = parse_arguments(arguments), time.monotonic(), describe_load()
    with tempfile.TemporaryDirectory() as folder:
        junit_xml, collected = Path(folder) / "junit.xml", Path(folder) / "collected.json"
        run_tests(list(dict.fromkeys(name for bar in bars for name in bar.tests)), junit_xml, collected)
        verdicts = judge(bars, read_outcomes(junit_xml), plugin.read_collected(collected))
    page = write_page(verdicts, seconds=time.monotonic() - started, load=f"{load}, at the end {os.getloadavg()[0]:.1f}")
    if len(bars) == len(BARS):
        PAGE.write_text(page, encoding="utf-8")
    sys.stdout.write(page)
    return 0 if all(verdict.is_met for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
