"""`predict`: a run, a bundle or a registered model, on new scans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from medres.data.wording import counted
from medres.deployment.asked import Asked
from medres.deployment.foreign import OnMismatch, parse_on_mismatch
from medres.deployment.manifest import CARD
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor
from medres.errors import DataError
from medres.runs.atomic import require_place
from medres.runs.host import independent_of_host
from medres.runs.printable import one_line
from medres.runs.progress import Progress, Silent
from medres.workflows.answering import SHOWN, Answers, answer_to_file


@dataclass(frozen=True, kw_only=True)
class PredictionOutcome:
    """What ``medres predict`` did.

    Args:
        answers: All rows.
        classes: Of the model.
        fold: Which member predicted, or ``ensemble``.
        path: Where they were written.
    """

    answers: Answers
    classes: Sequence[str]
    fold: str
    path: Path

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        predicted, decision = (Counter(self.answers.column(name)) for name in ("predicted", "decision"))
        return {
            "written": str(self.path),
            "num_scans": len(self.answers.rows),
            "num_failed": self.answers.num_failed,
            "num_withheld": self.answers.num_withheld,
            "withheld_for": self.answers.withheld_for(),
            "num_taken_over": self.answers.num_taken_over,
            "predicted": {name: predicted[name] for name in self.classes},
            "decision": {name: decision[name] for name in self.classes},
        }

    def screen(self) -> RenderableType:
        """Return what the command line prints."""
        rows = self.answers.rows
        table = Table(title=f"{counted(len(rows), 'scan')}, by {self.fold}", title_justify="left", header_style="bold")
        for column in ("sample", *(f"prob {name}" for name in self.classes), "decision", "findings"):
            table.add_column(column, overflow="fold")
        for row in rows[:SHOWN]:
            table.add_row(*_cells(dict(zip(self.answers.columns, row, strict=True)), self.classes))
        more = f"... and {len(rows) - SHOWN} more\n" if len(rows) > SHOWN else ""
        taken = self.answers.num_taken_over
        over = f"{counted(taken, 'row')} taken over from the run before\n" if taken else ""
        return Group(table, f"{more}{_withheld(self.answers)}{over}written to {self.path}")


def predict(model: str | Path, scans: Asked, **options: Any) -> Predictions:
    """Predict scans with a trained model, exactly as in its evaluation.

    One row for each thing given, in the order given: a file is a row, a table stands for its rows, a folder for the
    scans in it, sorted, at its place; see `Predictor.predict`.

    Args:
        model: A run, a bundle, or ``models:/NAME@alias``.
        scans: A file, a folder or a table, or several of them.
        options: ``member``, ``device``, ``tracking_uri``, ``output``, ``progress``, ``on_mismatch`` (``warn``,
            ``withhold`` or ``refuse``: what is done about scans unlike those of training).

    Returns:
        Predictions; a scan that does not exist or could not be read has an entry in ``errors`` and NaN probabilities.

    Example:
        ::

            medres.predict("runs/ct-nodules", ["new_scan.nii.gz"]).probabilities
    """
    progress = options.pop("progress", None) or Silent()
    return load_predictor(model, **options).predict(scans, progress=progress)


@independent_of_host()
def run_predict(
    model: str,
    scans: Sequence[Path],
    *,
    out: Path,
    member: int | None,
    device: str,
    tracking_uri: str | None,
    output: Path,
    progress: Progress,
    on_mismatch: str = "withhold",
) -> PredictionOutcome:
    """Predict, write the CSV, and refuse with one message where no scan could be predicted.

    Rows are written as they come, to ``OUT.part``; the same command after one that was stopped goes on from there.

    Raises:
        DataError: Scans could not be predicted, or were refused; the others are in the file.
        InterruptedPredictionError: By Ctrl-C or a signal; it says what is where.
        UsageError: ``on_mismatch`` is none of the three.
    """
    policy = parse_on_mismatch(on_mismatch)
    require_place(out, option="-o")
    predictor = load_predictor(
        model, member=member, device=device, tracking_uri=tracking_uri, output=output, on_mismatch=policy
    )
    if named := predictor.bundle.manifest.members_without_learning:
        folds = ", ".join(map(str, named))
        card = predictor.bundle.folder / CARD
        progress.warn(f"{counted(len(named), 'member')} of this model learned nothing: {folds}. Why: {card}")
    answers = answer_to_file(predictor, predictor.asked(scans, progress=progress), out, progress=progress)
    if answers.num_failed:
        raise DataError(_failures(answers, out))
    return PredictionOutcome(answers=answers, classes=predictor.classes, fold=predictor.fold, path=out)


@independent_of_host()
def load_predictor(
    model: str | Path,
    *,
    member: int | None = None,
    device: str = "cpu",
    tracking_uri: str | None = None,
    output: Path = Path("runs"),
    on_mismatch: OnMismatch = "withhold",
) -> Predictor:
    """Return the predictor of a run, a bundle or a registered model (``models:/...``, fetched first)."""
    if str(model).startswith(("models:/", "runs:/")):
        # MLflow takes seconds to import; a run folder or a bundle does not need it
        from medres.tracking.registry import fetch_model
        from medres.tracking.store import resolve_tracking_uri

        uri = resolve_tracking_uri(output, tracking_uri)
        model = fetch_model(str(model), tracking_uri=uri, cache=output / "cache" / "models")
    return Predictor(model, member=member, device=device, on_mismatch=on_mismatch)


def _withheld(answers: Answers) -> str:
    if not answers.num_withheld:
        return ""
    reasons = ", ".join(f"{code} {count}" for code, count in answers.withheld_for().items())
    told = f"{answers.num_withheld} of {counted(len(answers.rows), 'decision')} withheld: {reasons}"
    return f"{told} (unlike the training scans; --on-mismatch warn decides all the same)\n"


def _cells(row: Mapping[str, str], classes: Sequence[str]) -> list[str]:
    probabilities = [f"{float(row[f'prob_{name}']):.3f}" for name in classes]
    return [one_line(cell) for cell in (row["sample"], *probabilities, row["decision"] or "-", row["findings"])]


def _failures(answers: Answers, out: Path) -> str:
    shown = "\n  ".join(map(one_line, answers.failures))
    hidden = answers.num_failed - len(answers.failures)
    more = f"\n  ... and {hidden} more" if hidden else ""
    count = f"{answers.num_failed} of {counted(len(answers.rows), 'scan')} could not be predicted"
    return f"{count} (see {out}, with what is wrong in the column findings):\n  {shown}{more}"
