"""`Predictions`: what a bundle says about scans, and the CSV that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medres.errors import MedresError
from medres.runs.csv_files import write_csv


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of N scans, in the order in which they were given.

    Args:
        sample_ids: Name of each scan (local: it may be a file name).
        files: Path of each scan, empty where it came as an image (local).
        classes: In the order of the columns of the arrays.
        fold: Which member predicted, or ``ensemble``.
        logits: Calibrated: softmax gives the probabilities, ``(N, K)``; NaN for scans that could not be read.
        probabilities: ``(N, K)``; NaN likewise.
        decisions: Class index at the stored operating point, ``(N,)``; -1 likewise.
        findings: What the user should know about each scan.
        errors: Why a scan could not be predicted, or None.
    """

    sample_ids: tuple[str, ...]
    files: tuple[str, ...]
    classes: tuple[str, ...]
    fold: str
    logits: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.int64]
    findings: tuple[tuple[str, ...], ...]
    errors: tuple[MedresError | None, ...]

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def predicted(self) -> tuple[str | None, ...]:
        """The most probable class of each scan; None where there is none."""
        return tuple(
            None if error else self.classes[int(row.argmax())]
            for row, error in zip(self.probabilities, self.errors, strict=True)
        )

    @property
    def decision(self) -> tuple[str | None, ...]:
        """The class at the stored operating point; None where there is none."""
        return tuple(None if index < 0 else self.classes[int(index)] for index in self.decisions)

    @property
    def num_failed(self) -> int:
        """Number of scans that could not be predicted."""
        return sum(error is not None for error in self.errors)

    def to_csv(self, path: Path) -> None:
        """Write one row a scan, numbers in full precision (local only: it names files)."""
        write_csv(path, self.columns, (self._row(index) for index in range(len(self))))

    @property
    def columns(self) -> list[str]:
        """Columns of the CSV."""
        probabilities = [f"prob_{name}" for name in self.classes]
        logits = [f"logit_{name}" for name in self.classes]
        return ["sample", "path", "fold", *probabilities, *logits, "predicted", "decision", "findings"]

    def _row(self, index: int) -> list[str]:
        numbers = [*self.probabilities[index], *self.logits[index]]
        return [
            self.sample_ids[index], self.files[index], self.fold,
            *("" if np.isnan(number) else repr(float(number)) for number in numbers),
            self.predicted[index] or "", self.decision[index] or "", " ".join(self.findings[index]),
        ]  # fmt: skip
