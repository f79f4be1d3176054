"""The networks of a bundle: from a weights file to a network that is the one that was trained, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch

from medres.deployment.manifest import MemberManifest
from medres.errors import BundleError, ModelError
from medres.evaluation.calibration import probabilities_of
from medres.evaluation.operating_point import OperatingPoint
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.models.geometry import DEFAULT, options_of
from medres.planning.plan import Plan

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainedMember:
    """One trained network, as it goes into a bundle.

    Args:
        weights_file: All its tensors, as safetensors.
        fold: The fold that it was not trained on.
        temperature: What its logits are divided by.
        logit_offset: log(class weight), ``(K,)``.
        operating_point: The classes' prevalence among its training scans.
        training_hashes: Content hashes of the scans that it was trained on.
    """

    weights_file: Path
    fold: int
    temperature: float
    logit_offset: Sequence[float] | Floats
    operating_point: OperatingPoint
    training_hashes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class LoadedMember:
    """One member of a loaded bundle.

    Args:
        manifest: Its calibration.
        model: On the CPU, in eval mode.
    """

    manifest: MemberManifest
    model: ClassificationModel

    def probabilities(self, logits: npt.NDArray[Any]) -> Floats:
        """Return the calibrated probabilities ``(N, K)`` of its logits ``(N, K)``."""
        return calibrated(logits, offset=self.manifest.logit_offset, temperature=self.manifest.temperature)

    def calibrated_logits(self, logits: npt.NDArray[Any]) -> Floats:
        """Return the logits ``(N, K)`` whose softmax is `probabilities`."""
        offset = np.asarray(self.manifest.logit_offset, dtype=np.float64)
        return (np.asarray(logits, dtype=np.float64) - offset) / self.manifest.temperature


def calibrated(logits: npt.NDArray[Any], *, offset: Sequence[float] | Floats, temperature: float) -> Floats:
    """Return softmax((logits - offset) / temperature) in double precision, ``(N, K)``."""
    doubles = np.asarray(logits, dtype=np.float64)
    offsets = np.asarray(offset, dtype=np.float64)
    return np.asarray(probabilities_of(doubles, offset=offsets, temperature=temperature), dtype=np.float64)


def rebuild_network(weights_file: Path, *, arch: str, num_classes: int, plan: Plan) -> ClassificationModel:
    """Build a network and fill it from a weights file, every tensor of it and nothing else.

    Raises:
        BundleError: The file is no safetensors file, or its tensors are not those of the architecture.
    """
    try:
        tensors = safetensors.torch.load_file(weights_file)
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"{weights_file} is not a safetensors file: {error}.") from None
    options = _geometry(tensors, plan, weights_file)
    try:
        with torch.device("meta"):  # neither time nor random numbers for weights that are replaced at once
            model = create_model(
                arch, spatial_dims=plan.spatial_dims, slicewise=plan.slicewise, num_classes=num_classes,
                in_channels=plan.in_channels, weights="none", **options,
            )  # fmt: skip
    except ModelError as error:
        raise BundleError(f"{weights_file} cannot be used: {error.problem}", fix=error.fix) from None
    _fill(model, tensors, weights_file)
    return model.eval()


def _geometry(tensors: dict[str, torch.Tensor], plan: Plan, weights_file: Path) -> dict[str, Any]:
    try:
        options = options_of(tensors)
    except ModelError as error:
        raise BundleError(f"{weights_file} cannot be used: {error.problem}", fix=error.fix) from None
    own = options.get("stem_stride", DEFAULT.stem_stride)
    if plan.stem_stride not in (None, own):
        raise BundleError(
            f"{weights_file} is of a network with a stem stride of {own}, the plan's is {plan.stem_stride}.",
            fix="The weights and the plan must come from one run.",
        )
    return options


def _fill(model: ClassificationModel, tensors: dict[str, torch.Tensor], weights_file: Path) -> None:
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise BundleError(
            f"{weights_file} does not fit the network: {len(wrong)} tensors are missing, unknown or of another"
            f" shape or type, the first being {wrong[0]!r}.",
            fix="The weights and the architecture must come from one run.",
        )
    model.load_state_dict(tensors, strict=True, assign=True)
