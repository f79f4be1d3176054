"""How often the audit takes scans of two patients for copies, and how many planted copies it finds, on real scans.

    .venv/bin/pytest tests/benchmarks/test_near_duplicates.py -m slow -s -q

Patients are divided into two halves by their ids. `LEAST_SIMILARITY` and `_DEVIATIONS` follow from the first half;
`docs/concepts/leakage.md` reports the second.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from medres.data.near_duplicates import NearGroup, find_near_duplicates
from medres.data.phantoms import write_phantoms
from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_sample
from medres.data.sources import load_scans
from medres.data.table import Scan
from tests.data.copies import COPIES, HARDER, Voxels, looks

pytestmark = [pytest.mark.slow, pytest.mark.real]

SETS = {
    "brain_mri_tumor": "brain_mri_tumor",
    "breastmnist": "medmnist/breastmnist.npz",
    "lidc_nodule_texture": "lidc_nodule_texture",
    "lidc_nodule_slices": "lidc_nodule_slices",
    "adrenalmnist3d": "medmnist/adrenalmnist3d.npz",
}
NUM_PLANTED = 60


def _half(scan: Scan) -> int:
    return zlib.crc32(scan.patient_id.encode()) % 2


def _voxels(scan: Scan) -> Voxels:
    return read_sample(scan, rules=ReadingRules()).voxels.mean(axis=0)


def _groups(hashes: dict[str, str], patients: dict[str, str]) -> tuple[NearGroup, ...]:
    return find_near_duplicates(hashes, patients=patients)


def _show(name: str, half: int, scans: list[Scan]) -> dict[str, float]:
    voxels = {scan.sample_id: _voxels(scan) for scan in scans}
    patients = {scan.sample_id: scan.patient_id for scan in scans}
    hashes = {sample: looks(values) for sample, values in voxels.items()}
    groups = _groups(hashes, patients)
    told = [sample for sample, text in hashes.items() if text]
    concerned = sum(len(group.members) for group in groups)
    print(f"\n{name}, half {half + 1}: {len(scans)} scans, {len(scans) - len(told)} too plain to tell; ", end="")
    print(f"{len(groups)} groups of {concerned} scans, {concerned / len(scans):.2%}")
    order = np.random.default_rng(0).permutation(len(told))[: min(NUM_PLANTED, len(told) // 5)]
    found = {}
    for kind, copy in {**COPIES, **HARDER}.items():
        planted = {f"copy of {told[n]}": told[n] for n in order}
        copies = {new: looks(copy(voxels[old])) for new, old in planted.items()}
        together = _groups({**hashes, **copies}, {**patients, **{new: new for new in planted}})
        group_of = {member: index for index, group in enumerate(together) for member in group.members}
        found[kind] = float(np.mean([group_of.get(new, -1) == group_of.get(old, -2) for new, old in planted.items()]))
        print(f"  {kind:32} {found[kind]:.0%} of {len(planted)}")
    return {"alarms": concerned / len(scans), **found}


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("name", list(SETS))
def test_rates_on_real_scans(real_data: Path, name: str, half: int) -> None:
    table = load_scans(real_data / SETS[name])
    rates = _show(name, half, [scan for scan in table if _half(scan) == half])
    if name in ("brain_mri_tumor", "lidc_nodule_texture"):
        assert min(rates[kind] for kind in COPIES) >= 0.9
    if name in ("lidc_nodule_texture", "lidc_nodule_slices", "adrenalmnist3d"):  # the other two hold real copies
        assert rates["alarms"] <= 0.02


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("dims", [2, 3])
def test_phantoms_are_alike_but_no_copies(tmp_path: Path, modality: str, dims: int) -> None:
    write_phantoms(tmp_path, modality=modality, spatial_dims=dims, num_scans=100, size=48, seed=0)  # type: ignore[arg-type]
    assert _show(f"phantoms, {modality} {dims}D", 1, list(load_scans(tmp_path)))["alarms"] == 0
