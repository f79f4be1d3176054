"""A tiny trained ensemble that reads two sequences in a region of interest, and the scans that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import safetensors.torch
import torch

from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_sample, sample_key
from medres.data.statistics import ScanStatistics, scan_statistics
from medres.data.table import Scan, ScanTable
from medres.deployment.bundle import write_bundle
from medres.deployment.members import TrainedMember
from medres.evaluation.operating_point import OperatingPoint
from medres.models.factory import create_model
from medres.planning.fingerprint import make_fingerprint
from medres.planning.plan import Augmentation, Intensity, Plan

SIZE = (40, 36, 32)


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """Scans with lesions, and a bundle.

    Args:
        bundle: The bundle.
        table: One row a lesion, two a scan, with content hashes and centres.
        masked: The same rows with masks in the place of centres.
        statistics: By sample id.
        plan: Of the bundle.
    """

    bundle: Path
    table: ScanTable
    masked: ScanTable
    statistics: dict[str, ScanStatistics]
    plan: Plan

    @property
    def keys(self) -> list[str]:
        return [sample_key(scan, self.statistics[scan.sample_id]) for scan in self.table]


def make_lesions(folder: Path, *, names: tuple[str, ...] = ("t1", "t2"), scheme: str = "robust_zscore") -> Lesions:
    """Write scans into ``folder/data`` and a bundle into ``folder/run/model``; no names: scans of one image."""
    rules = ReadingRules(sequences=names, roi_size_mm=(16, 16, 16))
    (folder / "data").mkdir(parents=True)
    rows = [row for number in range(3) for row in _scan_rows(folder / "data", number, names)]
    images = {row.sample_id: read_sample(row, rules=rules) for row in rows}
    rows = [replace(row, content_hash=images[row.sample_id].content_hash) for row in rows]
    table = ScanTable(
        root=folder / "data", scans=tuple(replace(row, mask=None) for row in rows), classes=(), source="test"
    )
    masked = replace(table, scans=tuple(replace(row, center_ras_mm=None) for row in rows))
    statistics = {name: scan_statistics(image) for name, image in images.items()}
    plan = _plan(rules, scheme)
    bundle = _write_bundle(folder / "run", plan, statistics, [rows[0].content_hash])
    return Lesions(bundle=bundle, table=table, masked=masked, statistics=statistics, plan=plan)


def _scan_rows(folder: Path, number: int, names: tuple[str, ...]) -> list[Scan]:
    rng = np.random.default_rng(number)
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[:3, 3] = rng.uniform(-30, 30, 3)
    files = {}
    for name in names or ("scan",):
        voxels = rng.integers(0, 1000, SIZE).astype(np.int16)
        files[name] = folder / f"{number}-{name}.nii.gz"
        nib.save(nib.Nifti1Image(voxels, affine), files[name])
    rows = []
    for lesion, center in enumerate([(12, 14, 10), (27, 20, 19)]):
        mask = np.zeros(SIZE, np.uint8)
        mask[tuple(slice(c - 1, c + 2) for c in center)] = 1
        path = folder / f"{number}-mask{lesion}.nii.gz"
        nib.save(nib.Nifti1Image(mask, affine), path)
        place = (affine @ [*center, 1.0])[:3]
        rows.append(
            Scan(
                sample_id=f"{number}-{lesion}",
                patient_id=str(number),
                path=next(iter(files.values())),
                mask=path,
                sequences=files if names else {},
                center_ras_mm=(float(place[0]), float(place[1]), float(place[2])),
            )
        )
    return rows


def _plan(rules: ReadingRules, scheme: str) -> Plan:
    windows: Any = ("lung", "soft_tissue") if scheme == "hu_windows" else ()
    channels = max(1, len(rules.sequences)) * max(1, len(windows))
    return Plan(
        spatial_dims=3, modality="CT" if windows else "MR", reading=rules, orientation="SPL",
        spacing_mm=(2.0, 1.0, 1.0), shape=(8, 16, 16), in_channels=channels, batch_size=4,
        intensity=Intensity(scheme=scheme, windows_hu=windows), augmentation=Augmentation(),  # type: ignore[arg-type]
    )  # fmt: skip


def _write_bundle(run: Path, plan: Plan, statistics: dict[str, ScanStatistics], trained: list[str]) -> Path:
    members = []
    for fold in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(fold)
            model = create_model("resnet10", spatial_dims=3, num_classes=2, in_channels=plan.in_channels)
            model.head.weight.data.normal_(std=1.0)
        path = run / f"fold_{fold}" / "model.safetensors"
        path.parent.mkdir(parents=True)
        safetensors.torch.save_file(model.state_dict(), path)
        members.append(
            TrainedMember(
                weights_file=path,
                fold=fold,
                temperature=1.0,
                logit_offset=(0.0, 0.1),
                training_hashes=trained,
                operating_point=OperatingPoint(priors=(0.5, 0.5)),
            )
        )
    write_bundle(
        run / "model", arch="resnet10", classes=("benign", "malignant"), positive="malignant", plan=plan,
        fingerprint=make_fingerprint(statistics), members=members, operating_point=OperatingPoint(priors=(0.5, 0.5)),
    )  # fmt: skip
    return run / "model"
