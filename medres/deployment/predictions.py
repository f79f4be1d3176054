"""`Predictions`: what a bundle says about scans, and the CSV that it becomes."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medres.errors import MedresError
from medres.runs.atomic import atomic_write_text


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
        decisions: Class index at the stored operating point, ``(N,)``; -1 likewise, and where it is withheld.
        findings: What the user should know about each scan, as ``code: sentence``.
        errors: Why a scan could not be predicted, or None.
        withheld: Codes for which a scan has no decision (`medres.deployment.foreign`); empty where it has one.
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
    withheld: tuple[tuple[str, ...], ...] = ()

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

    @property
    def num_withheld(self) -> int:
        """Number of scans that have probabilities but no decision, since they are unlike the training scans."""
        return len(self._withheld())

    def withheld_for(self) -> dict[str, int]:
        """Return how many decisions each code withheld; one scan may have several."""
        return dict(Counter(code for codes in self._withheld() for code in codes))

    def _withheld(self) -> list[tuple[str, ...]]:
        rows = zip(self.withheld, self.errors, strict=True) if self.withheld else ()
        return [codes for codes, error in rows if codes and error is None]

    def to_csv(self, path: Path) -> None:
        """Write one row a scan, numbers in full precision (local only: it names files)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self._row(index) for index in range(len(self)))
        atomic_write_text(path, text.getvalue())

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
