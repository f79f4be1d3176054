"""The golden case: a synthetic scan and what the members say about it, so that a bundle can prove itself anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import nn

from medres.errors import BundleError
from medres.finetuning.inference import compute_logits
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.atomic import atomic_write

#: How far a logit may be from the recorded one, relative to the largest of them (or to 1). The same fp32 arithmetic
#: on another CPU or GPU differs by about 1e-6 a layer's worth; bf16 or a changed weight by far more.
TOLERANCE = 1e-4
_SEED = 20_240_229
#: Of a scan that is read slice by slice: enough to be weighed against each other, few enough to be asked at each start.
_SLICES = 8


@dataclass(frozen=True)
class GoldenCase:
    """A synthetic prepared scan, never a real one, and the members' answers.

    Args:
        prepared: ``(1, C_stored, *spatial)`` in the type of the packed cache.
        logits: As each network gives them, ``(M, K)``.
        probabilities: Calibrated, ``(M, K)``.
    """

    prepared: npt.NDArray[Any]
    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]

    def write(self, path: Path) -> None:
        """Write ``golden.safetensors``."""
        tensors = {"prepared": self.prepared, "logits": self.logits, "probabilities": self.probabilities}
        content = safetensors.numpy.save(tensors)
        with atomic_write(path, num_bytes=len(content)) as file:
            file.write(content)

    @classmethod
    def read(cls, path: Path) -> GoldenCase:
        """Read ``golden.safetensors``.

        Raises:
            BundleError: It is damaged.
        """
        try:
            tensors = safetensors.numpy.load_file(path)
            return cls(tensors["prepared"], tensors["logits"], tensors["probabilities"])
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise BundleError(f"{path} is not a golden case: {error}.", fix="Get the bundle again.") from None


def golden_input(preprocessor: Preprocessor) -> npt.NDArray[Any]:
    """Return the synthetic prepared scan ``(1, C_stored, *spatial)``: seeded noise over the range of its type."""
    rng = np.random.default_rng(_SEED)
    shape, dtype = golden_shape(preprocessor), preprocessor.storage_dtype
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if dtype == np.int16:
        return rng.integers(-1000, 1000, shape, dtype=np.int16)  # Hounsfield units, from air to bone
    return rng.standard_normal(shape).astype(dtype)


def golden_shape(preprocessor: Preprocessor) -> tuple[int, ...]:
    """Return the shape of the synthetic prepared scan; in 2.5D a scan of few slices."""
    channels, *spatial = preprocessor.stored_shape
    if preprocessor.plan.slicewise:
        spatial[0] = min(spatial[0], _SLICES)
    return (1, channels, *spatial)


def golden_logits(
    model: nn.Module, preprocessor: Preprocessor, prepared: npt.NDArray[Any], *, tta: int
) -> npt.NDArray[np.float32]:
    """Return what a member says about the golden case, ``(K,)``, on the CPU."""
    logits = compute_logits(
        model, preprocessor, lambda part: prepared[part], 1, batch_size=1, device=torch.device("cpu"), tta=tta
    )
    answer: npt.NDArray[np.float32] = logits[0]
    return answer


def largest_deviation(found: Sequence[float] | npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest expected size or to 1.

    Example:
        >>> round(largest_deviation([2.0, -4.0], np.array([2.0, -4.4])), 3)
        0.091
    """
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(np.asarray(found) - expected).max() / max(1.0, float(np.abs(expected).max())))
