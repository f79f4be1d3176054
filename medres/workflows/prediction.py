"""`predict`: a run, a bundle or a registered model, on new scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from medres.data.wording import counted
from medres.deployment.foreign import OnMismatch, parse_on_mismatch
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor
from medres.errors import DataError
from medres.runs.atomic import require_writable
from medres.runs.progress import Progress, Silent

#: Rows shown on the screen; all are in the file.
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class PredictionOutcome:
    """What ``medres predict`` did.

    Args:
        predictions: Of all scans.
        path: Where they were written.
    """

    predictions: Predictions
    path: Path

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        table = self.predictions
        return {
            "written": str(self.path),
            "num_scans": len(table),
            "num_failed": table.num_failed,
            "num_withheld": table.num_withheld,
            "withheld_for": table.withheld_for(),
            "predicted": {name: sum(label == name for label in table.predicted) for name in table.classes},
            "decision": {name: sum(label == name for label in table.decision) for name in table.classes},
        }

    def screen(self) -> RenderableType:
        """Return what the command line prints."""
        rows = self.predictions
        table = Table(title=f"{counted(len(rows), 'scan')}, by {rows.fold}", title_justify="left", header_style="bold")
        for column in ("sample", *(f"prob {name}" for name in rows.classes), "decision", "findings"):
            table.add_column(column, overflow="fold")
        for index in range(min(SHOWN, len(rows))):
            table.add_row(*_cells(rows, index))
        more = f"... and {len(rows) - SHOWN} more\n" if len(rows) > SHOWN else ""
        return Group(table, f"{more}{_withheld(rows)}written to {self.path}")


def predict(model: str | Path, scans: Sequence[str | Path] | str | Path, **options: Any) -> Predictions:
    """Predict scans with a trained model, exactly as in its evaluation.

    Args:
        model: A run, a bundle, or ``models:/NAME@alias``.
        scans: Files, folders or a table.
        options: ``member``, ``device``, ``tracking_uri``, ``output``, ``progress``, ``on_mismatch`` (``warn``,
            ``withhold`` or ``refuse``: what is done about scans unlike those of training).

    Returns:
        Predictions; a scan that could not be read has an entry in ``errors`` and NaN probabilities.

    Example:
        ::

            medres.predict("runs/ct-nodules", ["new_scan.nii.gz"]).probabilities
    """
    progress = options.pop("progress", None) or Silent()
    paths = [scans] if isinstance(scans, (str, Path)) else list(scans)
    return load_predictor(model, **options).predict([Path(path) for path in paths], progress=progress)


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

    Raises:
        DataError: Scans could not be predicted, or were refused; the others are in the file.
        UsageError: ``on_mismatch`` is none of the three.
    """
    policy = parse_on_mismatch(on_mismatch)
    require_writable(out.resolve().parent)
    predictor = load_predictor(
        model, member=member, device=device, tracking_uri=tracking_uri, output=output, on_mismatch=policy
    )
    predictions = predictor.predict(scans, progress=progress)
    predictions.to_csv(out)
    if predictions.num_failed:
        raise DataError(*_failures(predictions, out))
    return PredictionOutcome(predictions=predictions, path=out)


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


def _withheld(rows: Predictions) -> str:
    if not rows.num_withheld:
        return ""
    reasons = ", ".join(f"{code} {count}" for code, count in rows.withheld_for().items())
    told = f"{rows.num_withheld} of {counted(len(rows), 'decision')} withheld: {reasons}"
    return f"{told} (unlike the training scans; --on-mismatch warn decides all the same)\n"


def _cells(rows: Predictions, index: int) -> list[str]:
    probabilities = [f"{value:.3f}" for value in rows.probabilities[index]]
    return [rows.sample_ids[index], *probabilities, rows.decision[index] or "-", "\n".join(rows.findings[index])]


def _failures(predictions: Predictions, out: Path) -> tuple[str]:
    failed = [(file, str(error)) for file, error in zip(predictions.files, predictions.errors, strict=True) if error]
    messages = [message if file in message else f"{file}: {message}" for file, message in failed]
    shown = "\n  ".join(messages[:SHOWN])
    more = f"\n  ... and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
    count = f"{len(messages)} of {counted(len(predictions), 'scan')} could not be predicted"
    return (f"{count} (see {out}, with what is wrong in the column findings):\n  {shown}{more}",)
