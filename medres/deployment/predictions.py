"""`Predictions`: what a bundle says about scans, and the CSV that it becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.errors import MedresError
from medres.runs.csv_files import write_csv

#: What is the same in all rows; the other fields have a value a row.
_OF_THE_MODEL = ("classes", "fold")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of N scans, in the order in which they were given.

    Args:
        sample_ids: Name of each scan (local: it may be a file name).
        files: Path of each scan, spelled as it was given; empty where it came as an image (local).
        given: What each row belongs to: the path as it was given, of a table with the row; of an image its number.
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
    given: tuple[str, ...]
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
        write_csv(path, self.columns, (self.cells(index) for index in range(len(self))))

    @property
    def columns(self) -> list[str]:
        """Columns of the CSV."""
        probabilities = [f"prob_{name}" for name in self.classes]
        logits = [f"logit_{name}" for name in self.classes]
        return ["sample", "path", "given", "fold", *probabilities, *logits, "predicted", "decision", "findings"]

    def cells(self, index: int) -> list[str]:
        """Return one row of the CSV."""
        numbers = [*self.probabilities[index], *self.logits[index]]
        return [
            self.sample_ids[index], self.files[index], self.given[index], self.fold,
            *("" if np.isnan(number) else repr(float(number)) for number in numbers),
            self.predicted[index] or "", self.decision[index] or "", " ".join(self.findings[index]),
        ]  # fmt: skip


def joined(parts: Iterable[Predictions], nothing: Predictions) -> Predictions:
    """Return the predictions of all parts, in their order.

    Args:
        parts: By one model.
        nothing: What no parts are: no rows, with the model's classes.
    """
    together = [nothing, *parts]
    columns = {field.name: [getattr(part, field.name) for part in together] for field in fields(Predictions)}
    return Predictions(**{name: _column(name, values) for name, values in columns.items()})


def _column(name: str, values: list[Any]) -> Any:
    if name in _OF_THE_MODEL:
        return values[0]
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else tuple(chain.from_iterable(values))
