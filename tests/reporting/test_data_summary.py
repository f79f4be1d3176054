from __future__ import annotations

import json

import pytest

from medres.reporting.data_summary import class_rows, fingerprint_rows
from medres.runs.events import read_events
from medres.runs.folder import RunFolder
from tests.planning.examples import DATA_SETS, fingerprint


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_kind_of_data_set_is_described(name: str) -> None:
    scans = DATA_SETS[name]()
    rows = dict(fingerprint_rows(fingerprint(scans)))
    dims = len(scans[0].spatial_shape)
    assert rows["training scans"] == str(len(scans))
    assert rows["volume size in voxels" if dims == 3 else "image size in voxels"].count("×") == dims - 1
    known = all(scan.spacing_mm for scan in scans)
    assert ("spacing in mm" in rows) == known
    assert rows.get("spacing", "the files do not say") == "the files do not say"


def test_without_a_fingerprint_there_are_no_rows() -> None:
    assert fingerprint_rows(None) == []


def test_class_rows_count_the_data_and_what_was_scored(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text())
    rows = class_rows(metrics, read_events(run.events))
    assert rows == [("benign", "90", 30, 30), ("malignant", "90", 30, 30)]
    assert class_rows(metrics, [])[0] == ("benign", "not recorded", 30, 30)
