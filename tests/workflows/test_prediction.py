"""``medres predict`` on scans that the model cannot decide about: screen, JSON, CSV and exit code."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medres
from tests.deployment.tiny import Tiny, tiny
from tests.integration.conftest import inside

__all__ = ["tiny"]


@pytest.fixture
def scans(tiny: Tiny, tmp_path: Path) -> Path:
    """A scan of the cohort, a black one, and one in the scale that files have without their intercept."""
    source, folder = nibabel.load(tiny.table.scans[-1].path), tmp_path / "new"
    values = np.asarray(source.dataobj).astype(np.int16)
    folder.mkdir()
    for name, made in {"good": values, "black": np.zeros_like(values), "shifted": values + 1024}.items():
        nibabel.save(nibabel.Nifti1Image(made, source.affine), folder / f"{name}.nii.gz")
    return folder


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {Path(row["path"]).name.partition(".")[0]: row for row in csv.DictReader(file)}


def test_decisions_are_withheld_by_default_and_it_is_said_why(tiny: Tiny, scans: Path, tmp_path: Path) -> None:
    done = inside("predict", tiny.bundle, scans, "-o", tmp_path / "out.csv", "--json", "--quiet")
    assert done.exit_code == 0
    summary = json.loads(done.stdout)
    assert (summary["num_scans"], summary["num_failed"], summary["num_withheld"]) == (3, 0, 2)
    assert summary["withheld_for"] == {"constant": 1, "mixed-modality": 1}
    assert sum(summary["decision"].values()) == 1
    table = rows(tmp_path / "out.csv")
    assert [bool(table[name]["decision"]) for name in ("good", "black", "shifted")] == [True, False, False]
    assert all(table[name]["prob_benign"] and table[name]["predicted"] for name in table)
    assert "constant: " in table["black"]["findings"]
    shown = inside("predict", tiny.bundle, scans, "-o", tmp_path / "out.csv").stdout
    assert "2 of 3 decisions withheld: constant 1, mixed-modality 1" in " ".join(shown.split())


def test_warn_decides_with_the_same_numbers(tiny: Tiny, scans: Path, tmp_path: Path) -> None:
    for policy in ("warn", "withhold"):
        name = tmp_path / f"{policy}.csv"
        assert inside("predict", tiny.bundle, scans, "-o", name, "--on-mismatch", policy, "-q").exit_code == 0
    warned, withheld = rows(tmp_path / "warn.csv"), rows(tmp_path / "withhold.csv")
    for name, row in warned.items():
        assert row["decision"]
        assert (row["prob_benign"], row["logit_benign"]) == (
            withheld[name]["prob_benign"],
            withheld[name]["logit_benign"],
        )
    assert warned["black"]["findings"].startswith("constant: ")


def test_refuse_makes_them_errors_with_the_way_out(tiny: Tiny, scans: Path, tmp_path: Path) -> None:
    done = inside("predict", tiny.bundle, scans, "-o", tmp_path / "out.csv", "--on-mismatch", "refuse", "-q")
    assert done.exit_code == 1
    for said in ("2 of 3 scans could not be predicted", "black.nii.gz", "constant", "--on-mismatch withhold"):
        assert said in " ".join(done.stderr.split())
    table = rows(tmp_path / "out.csv")
    assert (table["black"]["prob_benign"], table["black"]["predicted"], table["black"]["decision"]) == ("", "", "")
    assert table["good"]["decision"]


def test_a_policy_that_does_not_exist_is_a_wrong_option(tiny: Tiny, scans: Path, tmp_path: Path) -> None:
    done = inside("predict", tiny.bundle, scans, "-o", tmp_path / "out.csv", "--on-mismatch", "ignore")
    assert done.exit_code == 2
    assert "Choose one of warn, withhold, refuse" in " ".join(done.stderr.split())
    assert not (tmp_path / "out.csv").exists()


def test_python_has_the_same_option(tiny: Tiny, scans: Path) -> None:
    decided = {
        policy: medres.predict(tiny.bundle, scans, on_mismatch=policy).decision for policy in ("warn", "withhold")
    }
    assert decided["warn"].count(None) == 0
    assert decided["withhold"].count(None) == 2
    assert medres.predict(tiny.bundle, scans).decision == decided["withhold"]
