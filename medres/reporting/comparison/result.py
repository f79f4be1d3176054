"""`Comparison`: what ``medres.compare`` returns: the documents, the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from medres.evaluation.comparison import compare_predictions
from medres.reporting.comparison.conclusions import conclusions, remarks
from medres.reporting.comparison.contenders import Contender, stages_text
from medres.reporting.comparison.costs import Cost, machine_of
from medres.reporting.comparison.pairing import Pairing
from medres.reporting.comparison.recorded import RecordedRun
from medres.reporting.comparison.tables import (
    Rows,
    choice_rows,
    contender_rows,
    cost_rows,
    delong_rows,
    difference_rows,
    score_rows,
)
from medres.reporting.tables import new_table


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Finished runs beside each other.

    Args:
        runs: All runs.
        contenders: Which of them are one method.
        pairing: Their common units.
        scores: What `compare_predictions` returns, with ``reference``.
        costs: Of each contender.
        page: The page that was written, or None.

    Example:
        ::

            comparison = medres.compare(["runs/r18-s0", "runs/r18-s1", "runs/r50-s0", "runs/r50-s1"])
            comparison.scores["differences"]["r50"]["auroc"]
            print(*comparison.conclusions()["r50"])
    """

    runs: tuple[RecordedRun, ...]
    contenders: tuple[Contender, ...]
    pairing: Pairing
    scores: Mapping[str, Any]
    costs: Mapping[str, Cost]
    page: Path | None = None

    @property
    def reference(self) -> str:
        """Name of the contender that the others are compared with."""
        return str(self.scores["reference"])

    def conclusions(self) -> dict[str, list[str]]:
        """Return what can and what cannot be concluded, sentences by contender."""
        return conclusions(self.scores, self.costs)

    def remarks(self) -> list[str]:
        """Return what has to be known to read all of it."""
        return remarks(self.scores)

    def title(self) -> str:
        """Return one line that says what was compared."""
        what = "pooled held-out folds" if self.pairing.scored == "pooled" else "the given test split"
        units = "scans" if self.pairing.unit == "scan" else f"units ({self.pairing.unit})"
        counts = ", ".join(f"{name} {number}" for name, number in self.pairing.class_counts.items())
        return (
            f"{len(self.runs)} runs, {len(self.contenders)} contenders on {what}: "
            f"{self.pairing.num_patients} patients, {self.pairing.num_units} {units}; {counts}"
        )

    def tables(self) -> Iterator[Rows]:
        """Yield the tables that have rows."""
        made = (
            contender_rows(self.contenders, self.runs),
            choice_rows(self.contenders),
            cost_rows(self.contenders, self.costs, [machine_of(run) for run in self.runs]),
            score_rows(self.scores),
            difference_rows(self.scores),
            delong_rows(self.scores),
        )
        yield from (table for table in made if table.rows)

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints. Local: it holds the paths of the runs."""
        return {
            "format": 1,
            "scored": self.pairing.scored,
            "classes": list(self.pairing.classes),
            "unit": self.pairing.unit,
            "n_units": self.pairing.num_units,
            "n_patients": self.pairing.num_patients,
            "class_counts": self.pairing.class_counts,
            "notes": list(self.pairing.notes),
            "reference": self.reference,
            "contenders": {contender.name: self._contender(contender) for contender in self.contenders},
            "differences": self.scores["differences"],
            "delong": self.scores["delong"],
            "conclusions": self.conclusions(),
            "remarks": self.remarks(),
            "page": None if self.page is None else str(self.page),
        }

    def screen(self) -> RenderableType:
        """Return what the command line prints."""
        parts: list[RenderableType] = [Text(self.title(), "bold"), *map(Text, self.pairing.notes), Text()]
        for table in self.tables():
            parts += [_rich(table), *([Padding(Text(table.note, "dim"), (0, 0, 1, 2))] if table.note else [])]
        parts += [Text("What can be concluded", "bold")]
        parts += [Padding(Text(" ".join(said)), (0, 0, 1, 2)) for said in self.conclusions().values()]
        parts += [Padding(Text(remark), (0, 0, 0, 2)) for remark in self.remarks()]
        if self.page is not None:
            parts += [Text.assemble("\n", ("page    ", "dim"), str(self.page))]
        return Group(*parts)

    def _contender(self, contender: Contender) -> dict[str, Any]:
        runs = [self.runs[place] for place in contender.places]
        return {
            "runs": [str(run.folder.path) for run in runs],
            "seeds": list(contender.seeds),
            "stages": stages_text(runs[0]),
            "choices": dict(contender.choices),
            "mixed": list(contender.mixed),
            "left_out": [self.pairing.left_out[place] for place in contender.places],
            "foldings": [self.pairing.foldings[place] for place in contender.places],
            "machines": [machine_of(run) for run in runs],
            "cost": self.costs[contender.name].summary(),
            "scores": self.scores["scores"][contender.name],
        }


def compare_contenders(
    pairing: Pairing, contenders: Sequence[Contender], *, reference: str, seed: int = 0
) -> dict[str, Any]:
    """Return scores and differences of contenders on their common units; see `compare_predictions`."""
    predictions = {
        contender.name: [pairing.predictions[place] for place in contender.places] for contender in contenders
    }
    found = compare_predictions(predictions, num_classes=len(pairing.classes), reference=reference, seed=seed)
    return {"reference": reference, **found}


def _rich(rows: Rows) -> RenderableType:
    """Return the table for the terminal; sections instead of a first column leave room for names."""
    first = int(rows.sectioned)
    left = [place - first for place in rows.left if place >= first]
    table = new_table(rows.title, rows.heads[first:], left=left)
    for row in rows.rows:
        if first and row[0]:
            table.add_section()
            table.add_row(Text(row[0], "italic"))
        table.add_row(*map(Text, row[first:]))
    return table
