"""What several tests of `medres.data` look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.data.sources import load_scans
from medres.data.survey import Survey, survey_scans
from medres.data.table import ScanTable
from medres.runs.progress import Silent


@pytest.fixture(scope="session")
def brain_survey(real_data: Path) -> Survey:
    """Survey the 253 real MRI slices once a worker: to read them takes ten seconds."""
    return survey_scans(load_scans(real_data / "brain_mri_tumor"), progress=Silent())


@pytest.fixture(scope="session")
def lesion_slices(real_data: Path) -> ScanTable:
    """List the 5,043 real CT slices, scored by lesion, once a worker."""
    return load_scans(real_data / "lidc_nodule_slices", unit_column="lesion_id")
