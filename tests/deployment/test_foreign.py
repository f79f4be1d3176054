"""Scans that a model cannot decide about: what stands in their rows, by policy, with the numbers left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medres.data.catalogue import KINDS
from medres.data.image import ScanImage
from medres.data.readers import read_scan
from medres.deployment.bundle import Bundle, load_bundle
from medres.deployment.predictor import Predictor
from medres.errors import DataError, UsageError
from tests.deployment.tiny import Kind, Tiny, make_tiny


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> Bundle:
    return load_bundle(tiny.bundle, verify=False)


@pytest.fixture(scope="module")
def images(tiny: Tiny) -> list[ScanImage]:
    return [read_scan(scan.path) for scan in tiny.table]


def with_voxels(image: ScanImage, change: Callable[[Any], Any], **changed: Any) -> ScanImage:
    return replace(image, voxels=change(image.voxels), content_hash="another", **changed)


FOREIGN: dict[str, tuple[str, Callable[[ScanImage], ScanImage]]] = {
    "black": ("constant", lambda image: with_voxels(image, np.zeros_like)),
    "air": ("nearly-empty", lambda image: with_voxels(image, lambda voxels: -1000 + voxels % 7)),
    "MR": ("mixed-modality", lambda image: replace(image, modality="MR")),
    "ultrasound": ("mixed-modality", lambda image: replace(image, modality="US")),
    "no intercept": ("mixed-modality", lambda image: with_voxels(image, lambda voxels: voxels + 1024)),
    "CT without intercept": (
        "not-hounsfield", lambda image: with_voxels(image, lambda voxels: voxels + 1024, modality="CT")
    ),
    "metres": (
        "spacing-implausible", lambda image: replace(image, spacing_mm=(1e-3, 1e-3, 1e-3))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_the_decision_is_withheld_and_the_probabilities_stay(model: Bundle, images: list[ScanImage], name: str) -> None:
    code, change = FOREIGN[name]
    foreign = change(images[-1])
    found = Predictor(model).predict_images([images[-1], foreign, images[-1]])
    assert (found.decisions[1], found.decision[1], found.errors[1]) == (-1, None, None)
    assert np.isfinite(found.probabilities[1]).all()
    assert found.predicted[1] is not None
    assert code in found.withheld[1]
    assert found.num_withheld == 1
    assert found.withheld_for()[code] == 1
    told = [finding.partition(": ")[0] for finding in found.findings[1]]
    assert told[0] == "decision-withheld"
    assert code in told
    assert set(told) <= set(KINDS)
    assert found.findings[0] == found.findings[2] == ()  # the others are decided about
    assert None not in (found.decision[0], found.decision[2])


@pytest.mark.parametrize("name", FOREIGN)
def test_each_policy_does_what_it_is_called(model: Bundle, images: list[ScanImage], name: str) -> None:
    code, change = FOREIGN[name]
    asked = [images[-1], change(images[-1])]
    withheld = Predictor(model).predict_images(asked)
    warned = Predictor(model, on_mismatch="warn").predict_images(asked)
    refused = Predictor(model, on_mismatch="refuse").predict_images(asked)
    np.testing.assert_array_equal(warned.probabilities, withheld.probabilities)
    assert warned.decision[1] is not None
    assert next(finding.partition(":")[0] for finding in warned.findings[1]) == code
    assert warned.num_withheld == refused.num_withheld == 0
    assert np.isnan(refused.probabilities[1]).all()
    assert isinstance(refused.errors[1], DataError)
    assert code in str(refused.errors[1])
    assert (refused.predicted[1], refused.decision[1], refused.num_failed) == (None, None, 1)
    np.testing.assert_array_equal(refused.probabilities[0], withheld.probabilities[0])


@pytest.mark.parametrize("kind", ["CT 3D", "MR 3D", "images 2D"])
def test_scans_of_training_are_decided_about(tmp_path: Path, kind: Kind) -> None:
    tiny = make_tiny(tmp_path, kind, num_members=1, num_scans=12)
    found = Predictor(tiny.bundle, verify=False).predict(tiny.table)
    assert found.withheld == ((),) * 12
    assert None not in found.decision
    assert {finding.partition(":")[0] for row in found.findings for finding in row} == {"training-scan"}


def test_a_policy_can_be_chosen_for_one_request(model: Bundle, images: list[ScanImage]) -> None:
    predictor = Predictor(model)
    black = FOREIGN["black"][1](images[0])
    assert predictor.with_policy("warn").predict_images([black]).decision[0] is not None
    assert predictor.predict_images([black]).decision == (None,)
    with pytest.raises(UsageError, match="warn, withhold, refuse"):
        predictor.with_policy("ignore")
    with pytest.raises(UsageError, match="'perhaps'"):
        Predictor(model, on_mismatch="perhaps")  # type: ignore[arg-type]


def test_a_scan_of_other_dimensions_is_an_error_with_its_code(model: Bundle, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.arange(64, dtype=np.int16).reshape(8, 8), np.eye(4)), tmp_path / "flat.nii")
    found = Predictor(model).predict([tmp_path / "flat.nii"])
    assert found.num_failed == 1
    assert any(finding.startswith("mixed-dimensions: ") for finding in found.findings[0])


def test_no_finding_holds_a_path_a_name_or_a_value_of_a_voxel(model: Bundle, images: list[ScanImage]) -> None:
    loud = with_voxels(images[-1], lambda voxels: np.where(voxels < -900, 31337, voxels).astype(np.int32))
    for foreign in [loud, *(change(images[-1]) for _, change in FOREIGN.values())]:
        text = " ".join(Predictor(model).predict_images([foreign]).findings[0])
        assert "31337" not in text
        assert "/" not in text
        assert str(model.folder) not in text


def test_the_statistics_come_from_the_scan_in_memory(
    tiny: Tiny, model: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medres.deployment import predictor as module

    reads = []
    original = module.read_sample
    monkeypatch.setattr(module, "read_sample", lambda scan, **named: reads.append(scan) or original(scan, **named))
    Predictor(model).predict(tiny.table)
    assert len(reads) == len(tiny.table)
