"""The scans that a configuration names: what `finetune` and `inspect` share."""

from __future__ import annotations

from medres.config import DataConfig
from medres.data.sources import load_scans
from medres.data.table import ScanTable


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
