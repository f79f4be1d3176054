"""`Inspection`: what ``medres inspect`` found, as JSON and for the terminal. Local only: it names files and ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medres.data.findings import FindingGroup, summarise
from medres.data.survey import Survey
from medres.data.wording import counted
from medres.reporting.inspection_facts import class_rows, data_rows, scan_fingerprint, scan_rows
from medres.runs.printable import one_line

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What ``medres inspect`` found.

    Args:
        survey: Table, statistics and findings; nothing was refused.
        page: The HTML page, or None.

    Example:
        ::

            inspection = medres.inspect("scans/")
            inspection.exit_code                      # 1 where training would be refused
            [finding.code for finding in inspection.survey.findings]
    """

    survey: Survey
    page: Path | None = None

    @property
    def groups(self) -> list[FindingGroup]:
        """The findings by kind, errors first."""
        return summarise(self.survey.findings)

    @property
    def num_errors(self) -> int:
        """Number of findings for which training is refused."""
        return sum(finding.severity == "error" for finding in self.survey.findings)

    @property
    def exit_code(self) -> int:
        """1 where training would be refused, else 0."""
        return 1 if self.num_errors else 0

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints: every finding, one a scan."""
        survey, table = self.survey, self.survey.table
        fingerprint = scan_fingerprint(survey)
        return {
            "format": 1,
            "data": {
                "root": str(table.root),
                "source": table.source,
                "notes": list(table.notes),
                "num_scans": len(table),
                "num_read": len(survey.statistics),
                "num_patients": table.num_patients if table.patients_given else None,
                "classes": table.class_counts(),
                "splits": dict(Counter(scan.split for scan in table if scan.split)),
            },
            "scans": fingerprint.to_mapping() if fingerprint else None,
            "num_findings": dict(Counter(finding.severity for finding in survey.findings)),
            "kinds": [_kind(group) for group in self.groups],
            "findings": [finding.to_mapping() for group in self.groups for finding in group.findings],
            "excluded": {code: list(samples) for code, samples in survey.excluded.items()},
            "html": None if self.page is None else str(self.page),
        }

    def screen(self) -> RenderableType:
        """Return what the command line prints: one line a kind of finding."""
        parts: list[RenderableType] = [_rows_table("Data", [*data_rows(self.survey), *scan_rows(self.survey)])]
        if self.survey.table.classes:
            parts.append(_class_table(self.survey))
        if self.groups:
            parts.append(_findings_table(self.groups))
        return Group(*parts, Text(self.verdict()), *([Text(f"page: {self.page}")] if self.page else []))

    def verdict(self) -> str:
        """Return whether a finding stops ``medres finetune``, in a sentence."""
        counts = Counter(group.severity for group in self.groups)
        said = " and ".join(
            f"{counted(counts[severity], 'kind')} of {severity}"
            for severity in ("error", "warning")
            if counts[severity]
        )
        if counts["error"]:
            return f"{said}. medres finetune would refuse the data; --exclude-findings CODE leaves scans out."
        if not self.survey.table.classes:
            return f"{said or 'No error and no warning'}. The scans have no labels yet."
        if any(group.code == "few-patients" for group in self.groups):
            return f"{said}. medres finetune divides the data with fewer --folds only."
        return f"{said or 'No error and no warning'}. Nothing here stops medres finetune."


def _kind(group: FindingGroup) -> dict[str, Any]:
    return {
        "code": group.code, "severity": group.severity, "rule": group.rule, "num_findings": group.count,
        "num_scans": len(group.samples), "fix": group.fix,
    }  # fmt: skip


def _rows_table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = _table(title, ["what", "value"])
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def _class_table(survey: Survey) -> Table:
    heads, rows = class_rows(survey.table)
    table = _table("Classes", heads)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def _findings_table(groups: list[FindingGroup]) -> Table:
    table = _table("Findings", ["severity", "code", "what was found", "what to do"])
    for group in groups:
        severity = Text(group.severity, style=_STYLES[group.severity])
        table.add_row(
            severity, Text(group.code, style="bold"), Text(one_line(group.sentence())), Text(one_line(group.fix))
        )
    return table


def _table(title: str, heads: list[str]) -> Table:
    table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", title_style="bold", header_style="bold")
    for index, head in enumerate(heads):
        table.add_column(Text(head), overflow="fold", no_wrap=index == 0, min_width=8)
    return table
