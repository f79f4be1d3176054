"""`Preview`: what ``medres preview`` shows, as JSON and for the terminal. Local only: it names files and ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medres.planning.plan import Plan
from medres.reporting.wording import plan_rows


@dataclass(frozen=True, kw_only=True)
class View:
    """One input of the network.

    Args:
        epoch: In which epoch of the training it is shown; 0: the scan as it is, which is what is scored.
        seed: Of its random changes; None: unchanged.
        changes: What was drawn, in words.
        picture: PNG.
        numbers: Mean, standard deviation, minimum and maximum of the input, in this order.
        num_slices: In 2.5D how many slices the network is shown; else None.
    """

    epoch: int
    seed: int | None
    changes: tuple[str, ...]
    picture: bytes
    numbers: tuple[float, float, float, float]
    num_slices: int | None = None


@dataclass(frozen=True, kw_only=True)
class PreviewedScan:
    """One scan on its way into the network.

    Args:
        sample_id: Of the table.
        label: Its class.
        file: Where it lies.
        size: Voxels and, where known, their size, in words.
        original: JPEG of the scan as it was read.
        rows: Names of the channels, from top to bottom of each picture; empty where there is one.
        columns: What stands side by side in each picture; empty for images.
        views: The scan as it is, then one random change an epoch.
    """

    sample_id: str
    label: str
    file: str
    size: str
    original: bytes
    rows: tuple[str, ...]
    columns: str
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the network would see.

    Args:
        data: What was given.
        arch: Backbone that the plan was made for.
        plan: How scans are prepared and changed.
        scans: A few of each class.
        page: The HTML page, or None.

    Example:
        ::

            preview = medres.preview("scans/", html="preview.html")
            preview.plan.augmentation.rotation_degrees
            preview.scans[0].views[1].changes
    """

    data: Path
    arch: str
    plan: Plan
    scans: tuple[PreviewedScan, ...]
    page: Path | None = None

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints: the plan with its reasons, and what was drawn for each scan."""
        return {
            "format": 1,
            "data": str(self.data),
            "arch": self.arch,
            "plan": self.plan.to_mapping(),
            "scans": [_scan(scan) for scan in self.scans],
            "html": None if self.page is None else str(self.page),
        }

    def screen(self) -> RenderableType:
        """Return what the command line prints: the choices, and where the page is."""
        table = Table(box=SIMPLE_HEAD, title=Text("What the network sees"), title_justify="left", title_style="bold")
        for head in ("choice", "value"):
            table.add_column(head, overflow="fold")
        for name, value, _ in plan_rows(self.plan):
            table.add_row(Text(name), Text(value))
        shown = f"{len(self.scans)} scans, {len(self.scans[0].views) - 1 if self.scans else 0} random changes of each"
        where = [Text(f"page: {self.page} (local: it names files and shows patients)")] if self.page else []
        return Group(table, Text(f"{shown}. Nothing was trained and nothing else was written."), *where)


def _scan(scan: PreviewedScan) -> dict[str, Any]:
    views = [
        {
            "epoch": view.epoch, "seed": view.seed, "changes": list(view.changes), "num_slices": view.num_slices,
            **dict(zip(("mean", "std", "min", "max"), view.numbers, strict=True)),
        }
        for view in scan.views
    ]  # fmt: skip
    return {"sample_id": scan.sample_id, "label": scan.label, "file": scan.file, "size": scan.size, "views": views}
