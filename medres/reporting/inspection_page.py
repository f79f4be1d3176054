"""The page of ``medres inspect``: what was understood, each finding with its scans, distributions, pictures.

Self-contained: no script, no font, image or style from elsewhere. Local only: it holds paths, ids and pictures, and
says so on top.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from medres._version import __version__
from medres.data.checks.about import place_of
from medres.data.findings import Finding, FindingGroup
from medres.data.survey import Survey
from medres.data.table import Scan
from medres.reporting.inspection_facts import class_rows, data_rows, scan_rows, site_tables
from medres.reporting.inspection_figures import inspection_figures
from medres.reporting.pages import page_template

if TYPE_CHECKING:
    from medres.reporting.inspection import Inspection

#: Pictures of scans without regard to findings, evenly over the table.
MAX_OVERVIEW = 60
#: Pictures below findings: of one kind, and in all.
MAX_PICTURES_OF_KIND = 24
MAX_PICTURES_OF_FINDINGS = 200
#: Rows of one kind; all are in ``--json``.
MAX_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A thumbnail with what stands below it.

    Args:
        source: Data URI; empty where the scan could not be read.
        name: Sample id.
        caption: Label and size.
        file: Path, shown when the mouse rests on it.
    """

    source: str
    name: str
    caption: str
    file: str


@dataclass(frozen=True, kw_only=True)
class FindingSection:
    """One kind of finding on the page.

    Args:
        group: The findings.
        illustrated: Findings about groups of scans (copies), each with its pictures beside each other.
        rows: The others that are listed, in text.
        pictures: Of the scans that the rows are about.
        num_more_pictures: How many scans have a picture that is not shown.
    """

    group: FindingGroup
    illustrated: tuple[tuple[Finding, tuple[Picture, ...]], ...]
    rows: tuple[Finding, ...]
    pictures: tuple[Picture, ...]
    num_more_pictures: int


def render_inspection(inspection: Inspection) -> str:
    """Return the page."""
    survey = inspection.survey
    return page_template("inspection.html.j2").render(
        name=survey.table.root.name or str(survey.table.root),
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        inspection=inspection,
        table=survey.table,
        counts={severity: _count(survey, severity) for severity in ("error", "warning", "info")},
        data_rows=data_rows(survey),
        scan_rows=scan_rows(survey),
        class_table=class_rows(survey.table),
        sites=site_tables(survey.table),
        sections=list(_sections(inspection)),
        figures=[(heading, Markup(svg), caption) for heading, svg, caption in inspection_figures(survey)],
        overview=_overview(survey),
        num_pictures=len(survey.thumbnails),
    )


def _count(survey: Survey, severity: str) -> int:
    return sum(finding.severity == severity for finding in survey.findings)


class _Pictures:
    """Pictures of scans, until there are enough of them on the page."""

    def __init__(self, survey: Survey, *, most: int) -> None:
        self._survey = survey
        self._scans = {scan.sample_id: scan for scan in survey.table if scan.sample_id in survey.thumbnails}
        self._left = most

    def there(self, names: Sequence[str]) -> list[str]:
        """Return which of the scans have a picture; none where all scans are concerned: the overview shows as much."""
        there = [name for name in names if name in self._scans]
        return there if len(there) < len(self._scans) else []

    def take(self, names: Sequence[str], *, most: int) -> tuple[Picture, ...]:
        """Return pictures of the first scans."""
        shown = self.there(names)[: min(self._left, most)]
        self._left -= len(shown)
        return tuple(picture_of(self._survey, self._scans[name]) for name in shown)


def _sections(inspection: Inspection) -> Iterator[FindingSection]:
    pictures = _Pictures(inspection.survey, most=MAX_PICTURES_OF_FINDINGS)
    for group in inspection.groups:
        illustrated = tuple(_illustrated(group, pictures))
        rows = group.findings[len(illustrated) : len(illustrated) + MAX_ROWS]
        concerned = [] if illustrated else [name for finding in rows for name in finding.samples]
        shown = pictures.take(concerned, most=MAX_PICTURES_OF_KIND)
        num_shown = len(shown) + sum(len(beside) for _, beside in illustrated)
        yield FindingSection(
            group=group,
            illustrated=illustrated,
            rows=rows,
            pictures=shown,
            num_more_pictures=len(pictures.there(group.samples)) - num_shown if num_shown else 0,
        )


def _illustrated(group: FindingGroup, pictures: _Pictures) -> Iterator[tuple[Finding, tuple[Picture, ...]]]:
    """Yield the first findings about several scans, as long as there is room for their pictures."""
    left = MAX_PICTURES_OF_KIND
    for finding in group.findings:
        beside = pictures.take(finding.samples, most=left) if finding.sample_id and finding.others else ()
        if not beside:
            return
        left -= len(beside)
        yield finding, beside


def _overview(survey: Survey) -> list[Picture]:
    """Return pictures evenly over the table, which is sorted by class or patient in most data sets."""
    scans = [scan for scan in survey.table if scan.sample_id in survey.thumbnails]
    positions = np.unique(np.linspace(0, len(scans) - 1, min(MAX_OVERVIEW, len(scans))).round().astype(int))
    return [picture_of(survey, scans[position]) for position in positions]


def picture_of(survey: Survey, scan: Scan) -> Picture:
    """Return the thumbnail of a scan that was read, with its label and size."""
    content = base64.b64encode(survey.thumbnails[scan.sample_id]).decode("ascii")
    shape = " × ".join(str(size) for size in survey.statistics[scan.sample_id].spatial_shape)
    caption = shape if scan.label is None else f"{scan.label} · {shape}"
    source = f"data:image/jpeg;base64,{content}"
    return Picture(source=source, name=scan.sample_id, caption=caption, file=place_of(scan))
