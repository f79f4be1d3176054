"""A tiny trained ensemble for tests: real architecture, random weights, phantom scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import safetensors.torch
import torch

from medres.data.phantoms import write_phantoms
from medres.data.readers import read_scan
from medres.data.sources import list_scans
from medres.data.statistics import scan_statistics
from medres.data.table import ScanTable
from medres.deployment.bundle import write_bundle
from medres.deployment.manifest import BundleManifest
from medres.deployment.members import TrainedMember
from medres.evaluation.operating_point import OperatingPoint
from medres.models.factory import create_model
from medres.planning.fingerprint import make_fingerprint
from medres.planning.plan import Augmentation, Intensity, Plan

Kind = Literal["CT 3D", "MR 3D", "images 2D"]


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """Phantoms and a bundle that says it was trained on the first half of them.

    Args:
        bundle: The bundle.
        manifest: What it is.
        table: All phantoms, with content hashes.
        plan: How they are prepared.
        members: What the bundle was written from.
    """

    bundle: Path
    manifest: BundleManifest
    table: ScanTable
    plan: Plan
    members: tuple[TrainedMember, ...]


def make_tiny(folder: Path, kind: Kind = "CT 3D", *, num_members: int = 2, num_scans: int = 6, tta: int = 0) -> Tiny:
    """Write phantoms into ``folder/data`` and a bundle into ``folder/run/model``."""
    data = _write_scans(folder / "data", kind, num_scans)
    table = list_scans([data])
    images = {scan.sample_id: read_scan(scan.path) for scan in table}
    table = table.with_content_hashes({name: image.content_hash for name, image in images.items()})
    plan, classes = tiny_plan(kind), _classes(kind)
    trained = [scan.content_hash for scan in table.scans[: num_scans // 2]]
    members = []
    for fold in range(num_members):
        weights_file = _write_weights(folder / "run" / f"fold_{fold}", plan, len(classes), seed=fold)
        member = TrainedMember(
            weights_file=weights_file, fold=fold, temperature=1.0 + fold / 2,
            logit_offset=np.linspace(-0.2, 0.3, len(classes)), operating_point=_point(len(classes), fold),
            training_hashes=trained[fold::num_members],
        )  # fmt: skip
        members.append(member)
    manifest = write_bundle(
        folder / "run" / "model", arch=tiny_arch(kind), classes=classes, positive=classes[-1], plan=plan,
        fingerprint=make_fingerprint({name: scan_statistics(image) for name, image in images.items()}),
        members=members, operating_point=_point(len(classes), 0), card="# A model of tests\n", tta=tta,
    )  # fmt: skip
    return Tiny(bundle=folder / "run" / "model", manifest=manifest, table=table, plan=plan, members=tuple(members))


def tiny_arch(kind: Kind) -> str:
    return "resnet18" if kind == "images 2D" else "resnet10"


def tiny_plan(kind: Kind) -> Plan:
    if kind == "images 2D":
        return Plan(
            spatial_dims=2, modality="other", shape=(32, 32), in_channels=1, batch_size=4,
            intensity=Intensity(scheme="scaled", scale_range=(0.0, 255.0)), augmentation=Augmentation(),
        )  # fmt: skip
    schemes: dict[Kind, Any] = {
        "CT 3D": {"scheme": "hu_windows", "windows_hu": ("lung", "soft_tissue")},
        "MR 3D": {"scheme": "robust_zscore"},
    }
    return Plan(
        spatial_dims=3, modality="CT" if kind == "CT 3D" else "MR", orientation="SPL", spacing_mm=(8.0, 8.0, 8.0),
        shape=(16, 16, 16), in_channels=2 if kind == "CT 3D" else 1, batch_size=4,
        intensity=Intensity(**schemes[kind]), augmentation=Augmentation(),
    )  # fmt: skip


def rewrite_manifest(bundle: Path, **changes: Any) -> None:
    """Change ``bundle.json`` as somebody would who knows about its checksums and its seal."""
    from medres.runs.documents import sha256_of

    manifest = BundleManifest.read(bundle / "bundle.json").model_copy(update=changes)
    files = {name: sha256_of(bundle / name) for name in manifest.files}
    members = tuple(member.model_copy(update={"sha256": files[member.file]}) for member in manifest.members)
    manifest.model_copy(update={"files": files, "members": members}).signed().write_json(bundle / "bundle.json")


def _write_scans(folder: Path, kind: Kind, num_scans: int) -> Path:
    modality: Literal["CT", "MR"] = "MR" if kind == "MR 3D" else "CT"
    dims: Literal[2, 3] = 2 if kind == "images 2D" else 3
    return write_phantoms(
        folder, modality=modality, spatial_dims=dims, num_scans=num_scans, num_classes=len(_classes(kind)), size=24
    )


def _classes(kind: Kind) -> tuple[str, ...]:
    return ("benign", "malignant") if kind != "MR 3D" else ("a", "b", "c")


def _write_weights(folder: Path, plan: Plan, num_classes: int, *, seed: int) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        arch = "resnet18" if plan.spatial_dims == 2 else "resnet10"
        model = create_model(
            arch, spatial_dims=plan.spatial_dims, num_classes=num_classes, in_channels=plan.in_channels
        )
        model.head.weight.data.normal_(std=1.0)  # so that scans differ in their probabilities
    folder.mkdir(parents=True)
    path = folder / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return path


def _point(num_classes: int, fold: int) -> OperatingPoint:
    weights = np.arange(num_classes, 0, -1) + fold
    return OperatingPoint(priors=tuple(float(weight) for weight in weights / weights.sum()))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Two members for CT volumes; not to be changed."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))
