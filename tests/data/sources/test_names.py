from pathlib import Path

import pytest

from medres.data.sources import list_scans
from medres.data.sources.names import names_not_text
from medres.data.table import Scan
from tests.data.making import write_png

WRONG = "M\udcfcller"


@pytest.mark.parametrize("fields", [
    {"path": Path(WRONG)}, {"mask": Path(WRONG)}, {"sequences": {"t1": Path("x"), "t2": Path(WRONG)}},
    {"label": WRONG}, {"patient_id": WRONG}, {"sample_id": WRONG}, {"member": WRONG},
])  # fmt: skip
def test_every_name_of_a_scan_is_looked_at(fields):
    right = {"sample_id": "ä", "patient_id": "ö", "path": Path("ü.nii"), "label": "ß"}
    (finding,) = names_not_text([Scan(**right), Scan(**{**right, **fields})])
    assert (finding.code, finding.severity) == ("name-not-text", "error")
    finding.value.encode("utf-8")


def test_new_scans_with_such_names_are_listed(tmp_path):
    write_png(tmp_path / "a.png").rename(tmp_path / f"{WRONG}.png")
    found = list_scans([tmp_path])
    assert (len(found), [finding.code for finding in found.findings]) == (1, ["name-not-text"])
