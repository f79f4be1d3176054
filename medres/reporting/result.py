"""`Run`: what ``medres.finetune`` returns, and what a finished run folder can be opened as."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from medres.deployment.predictor import Predictor
from medres.finetuning.scoring import main_block, members_without_learning
from medres.planning.plan import Plan
from medres.reporting.tables import confusion_table, per_class_table, result_table
from medres.reporting.wording import no_learning_lines
from medres.runs.csv_files import read_table
from medres.runs.folder import RunFolder, read_metrics


class Run:
    """A finished run. Everything is read from its folder when it is first asked for.

    Args:
        folder: The run folder, or its path.

    Example:
        ::

            run = medres.Run("runs/ct-nodules")
            run.metrics["pooled"]["scores"]["auroc"]["value"]
            run.model.predict(["new_scan.nii.gz"])
    """

    def __init__(self, folder: RunFolder | Path | str) -> None:
        self.folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def report_path(self) -> Path:
        """The self-contained HTML report."""
        return self.folder.report

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The document ``metrics.json``.

        Raises:
            OutputError: The folder holds no finished run.
        """
        return read_metrics(self.folder)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The table ``predictions.csv``; ids and labels are text."""
        # all as text first: ids keep their zeros, and Python's own parsing of numbers is exact in every pandas
        columns, rows = read_table(self.folder.predictions)
        table = pd.DataFrame(rows, columns=columns, dtype=str)
        return table.astype({name: float for name in table if str(name).startswith(("prob_", "logit_"))})

    @cached_property
    def plan(self) -> Plan:
        """What was decided."""
        return Plan.read(self.folder.plan)

    @cached_property
    def model(self) -> Predictor:
        """The ensemble with its preprocessing, on the CPU."""
        return Predictor(self.folder.model)

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        name, block = main_block(self.metrics)
        return {
            "run": str(self.path),
            "report": str(self.report_path),
            "model": str(self.folder.model),
            "scored": name,
            "kind": self.metrics["kind"],
            "scores": block["scores"],
            "per_class": block["per_class"],
            "confusion": block["tables"]["confusion"],
            "test": (self.metrics["test"] or {}).get("scores"),
            "members_without_learning": members_without_learning(self.metrics),
        }

    def screen(self) -> RenderableType:
        """Return what the command line prints."""
        places = Text.assemble(
            ("report  ", "dim"), str(self.report_path), "\n",
            ("model   ", "dim"), str(self.folder.model), "\n",
            ("predict ", "dim"), f"medres predict {self.path} SCANS -o predictions.csv",
            no_wrap=True, overflow="ignore",
        )  # fmt: skip
        warnings = [Text(line, style="yellow") for line in no_learning_lines(self.metrics)]
        tables = (result_table(self.metrics), per_class_table(self.metrics), confusion_table(self.metrics))
        return Group(*tables, *warnings, places)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"
