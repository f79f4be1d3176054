"""Logits in plain fp32: the arithmetic of every number that is reported, in training and in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medres.preprocessing.preprocessor import Preprocessor
from medres.preprocessing.stacks import Inputs
from medres.preprocessing.views import View, views_of
from medres.runs.host import IEEE
from medres.runs.progress import Progress, Silent

Prepared = npt.NDArray[Any] | Sequence[npt.NDArray[Any]]
ReadBatch = Callable[[slice], Prepared]


@contextmanager
def fp32_arithmetic() -> Iterator[None]:
    """Switch autocast, TF32 and reduced-precision CPU kernels off inside the block, and back afterwards.

    bf16 moves a probability by about 1e-4, TF32 by about 1e-5: a final number must not depend on that.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16), fp32_arithmetic():
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    with IEEE.held(), ExitStack() as stack:
        for device_type in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def memory_format(dims: int) -> torch.memory_format:
    """Return channels-last for 2D and 3D networks: the layout that convolutions are fastest in on a CPU."""
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def laid_out(inputs: Inputs) -> torch.Tensor:
    """Return the scans channels-last; slices (2.5D) one by one."""
    scans = inputs.scans
    if inputs.slice_mask is None:
        return scans.contiguous(memory_format=memory_format(scans.ndim - 2))
    slices = scans.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return torch.unflatten(slices, 0, scans.shape[:2])


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules into eval mode inside the block and each one back into its own mode afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # not model.train(): that would wake normalisation layers that were frozen on purpose
        for module, training in before:
            module.training = training


def compute_logits(
    model: nn.Module,
    preprocessor: Preprocessor,
    read_batch: ReadBatch,
    num_samples: int,
    *,
    batch_size: int,
    device: torch.device,
    tta: int = 0,
    progress: Progress | None = None,
    description: str = "predict",
) -> npt.NDArray[np.float32]:
    """Return the logits of prepared scans, ``(N, K)``, as the network gives them.

    Neither class weights nor temperatures are taken out; `medres.evaluation.calibration` does that. With test-time
    augmentation they are the means of the logits over the views, not of probabilities: what class weights added
    comes off a mean of logits exactly, and the temperature is fitted on the very means that it will divide. The mean of
    probabilities that were calibrated one by one would be too close to even.

    Args:
        model: Maps ``(B, C, *spatial)`` (in 2.5D ``(B, D, C, H, W)`` and a mask) to ``(B, K)``, with a linear
            ``.head``; on ``device``. Its modules stay in the modes that they came in.
        preprocessor: Makes the network's input out of stored arrays.
        read_batch: Returns the stored arrays of a range of samples, ``(B, C_stored, *spatial)`` or one a sample.
        num_samples: N; may be 0.
        batch_size: Samples at a time.
        device: Where the model is.
        tta: Views beside the scan itself (`medres.preprocessing.views`).
        progress: Shows batches.
        description: What the progress is called.
    """
    views = views_of(preprocessor.plan, tta=tta)
    shown = _ranges(num_samples, batch_size)
    shown = (progress or Silent()).track(shown, description=description, total=-(-num_samples // batch_size))
    with fp32_arithmetic(), eval_mode(model), torch.inference_mode():
        parts = [_batch_logits(model, preprocessor, views, read_batch(part), batch_size, device) for part in shown]
    if not parts:
        return np.empty((0, _num_classes(model)), dtype=np.float32)
    return np.concatenate(parts)


def linear_logits(
    head: nn.Linear, features: npt.NDArray[np.float32], *, device: torch.device
) -> npt.NDArray[np.float32]:
    """Return the logits ``(N, K)`` of pooled features ``(N, F)`` that are known already, in fp32."""
    with fp32_arithmetic(), torch.inference_mode():
        logits: npt.NDArray[np.float32] = head(torch.from_numpy(features).to(device)).float().cpu().numpy()
    return logits


def _batch_logits(
    model: nn.Module, preprocessor: Preprocessor, views: Sequence[View], stored: Prepared, size: int,
    device: torch.device,
) -> npt.NDArray[np.float32]:  # fmt: skip
    inputs = preprocessor.inputs(_filled_up(stored, size, device), device=device)
    if len(views) == 1:
        return _view_logits(model, inputs, device)[: len(stored)]
    each = [_view_logits(model, view(inputs), device).astype(np.float64) for view in views]
    mean: npt.NDArray[np.float32] = np.mean(each, axis=0).astype(np.float32)
    return mean[: len(stored)]


def _view_logits(model: nn.Module, inputs: Inputs, device: torch.device) -> npt.NDArray[np.float32]:
    # 25 % faster on a CPU, in 2D and in 3D (resnet18, one thread); GPUs prefer the plain layout in fp32
    scans = laid_out(inputs) if device.type == "cpu" else inputs.scans
    logits: npt.NDArray[np.float32] = model(scans, *inputs.beside).float().cpu().numpy()
    return logits


def _filled_up(stored: Prepared, batch_size: int, device: torch.device) -> Prepared:
    """Repeat the last sample up to a full batch on a GPU, which picks its kernels by the batch's size."""
    missing = batch_size - len(stored)
    if device.type == "cpu" or missing <= 0:
        return stored
    return [*stored, *[stored[-1]] * missing]


def _ranges(num_samples: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, num_samples, batch_size):
        yield slice(start, min(start + batch_size, num_samples))


def _num_classes(model: nn.Module) -> int:
    head = model.head
    if not isinstance(head, nn.Linear):
        raise TypeError(f"the model's head is a {type(head).__name__}, not a Linear layer")
    return head.out_features
