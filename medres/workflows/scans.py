"""The scans that a configuration names: what `finetune` and `inspect` share."""

from __future__ import annotations

from medres.config import DataConfig
from medres.data.folds import Folding, make_folds
from medres.data.sources import load_scans
from medres.data.survey import Survey
from medres.data.table import ScanTable
from medres.planning.fingerprint import Fingerprint, make_fingerprint


def load_table(config: DataConfig) -> ScanTable:
    """Return which scans there are and how they are labelled, as a configuration asks for.

    Raises:
        DataError: The data cannot be understood.
        UsageError: Options contradict each other.
    """
    return load_scans(
        config.data, labels=config.labels, label_column=config.label_column, patient_column=config.patient_column,
        patient_pattern=config.patient_pattern, unit_column=config.unit_column, positive=config.positive,
        series=config.series, sequences=config.sequences, mask_column=config.mask_column,
        suffix=config.suffix,
    )  # fmt: skip


def divided(survey: Survey, *, num_folds: int | None, seed: int) -> tuple[Folding, Fingerprint]:
    """Return who trains and who is scored, and the fingerprint of the training rows; test rows are never seen by it.

    Raises:
        DataError: The data cannot be divided so, or its training scans are not alike.
    """
    folding = make_folds(survey.table, num_folds=num_folds, seed=seed)
    ids = [survey.table.scans[int(row)].sample_id for row in folding.training]
    return folding, make_fingerprint({sample_id: survey.statistics[sample_id] for sample_id in ids})
