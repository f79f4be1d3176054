"""`Optimisation`: how stages are trained, whatever their recipe. No torch is needed to describe it."""

from __future__ import annotations

from typing import Literal

import pydantic

from medres.runs.documents import Document


class Optimisation(Document):
    """Choices of the training loop that are the same in all stages.

    Args:
        class_weights: ``balanced`` weights the loss of class c by n / (K n_c), and the reported logits have
            log(weight) taken out again; ``none`` does neither.
        lr_factor: Multiplies every learning rate of the recipe.
        ema: Average the weights over the last steps and use the average.
        gradient_clip: Largest norm of the gradient of all trained parameters together; 0 = no limit.
        accumulate: Parts that a batch is computed in, one after the other, to save memory; the step stays that of the
            whole batch. Where memory ends all the same, parts are halved.
        compile: Compile the trained part with ``torch.compile``; it has to prove itself on your machine.
        label_smoothing: Of the cross-entropy.
        augment: Whether training scans are augmented as the plan says.
        head_views: Views of each training scan that the solved head sees: the scan itself, and augmented ones.
        views: How many augmented views of a scan go through a frozen part once and are kept; None = as the recipe says,
            0 = none: the frozen part runs in every epoch.
        sync_batchnorm: Where several GPUs train together, normalise by the statistics of the whole batch, not of each
            GPU's share.
        activation_storage: ``half`` keeps feature maps of a frozen part in half precision, ``single`` in fp32.
    """

    class_weights: Literal["balanced", "none"] = "balanced"
    lr_factor: float = pydantic.Field(default=1.0, gt=0)
    ema: bool = True
    gradient_clip: float = pydantic.Field(default=1.0, ge=0)
    accumulate: int = pydantic.Field(default=1, ge=1, le=1024)
    compile: bool = False
    label_smoothing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    augment: bool = True
    head_views: int = pydantic.Field(default=1, ge=1, le=64)
    views: int | None = pydantic.Field(default=None, ge=0, le=64)
    sync_batchnorm: bool = False
    activation_storage: Literal["half", "single"] = "half"
