"""`Stage`: one phase of training. No torch is needed to describe one."""

from __future__ import annotations

from typing import Literal, Self

import pydantic

from medres.runs.documents import Document, Number, WholeNumber

#: Of one stage; a thousand are a long training.
MAX_EPOCHS = 100_000


class Stage(Document):
    """Train everything from `train_from` on; what lies before is frozen, normalisation statistics included.

    Args:
        name: Shown in the log, such as ``head`` or ``fine-tune``.
        train_from: First stage of the network that is trained: ``stem``, ``layer1`` ... ``layer4``, ``head``.
        epochs: Passes over the training scans; not used by the ``lbfgs`` solver, which runs to convergence.
        lr: Learning rate of the last stage of the network.
        solver: ``sgd`` (AdamW over mini-batches) or ``lbfgs`` (the linear head, solved on frozen features).
        layer_decay: Each earlier stage of the network learns at this fraction of the next one's rate.
        weight_decay: Decoupled; not applied to normalisation and bias.
        warmup_epochs: Linear warm-up before the cosine.
        norm_statistics: Whether trained stages update their normalisation statistics or keep them.
        views: How many augmented views of each scan go through the frozen part, once, and are kept for all epochs
            (`medres.finetuning.prefix_cache`); 0 runs the frozen part in every epoch, each time on a new
            augmentation.

    Example:
        >>> Stage(name="from layer4", train_from="layer4", epochs=10, lr=3e-4, views=4).views
        4
    """

    name: str
    train_from: Literal["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    epochs: WholeNumber = pydantic.Field(ge=0, le=MAX_EPOCHS)
    lr: Number = pydantic.Field(gt=0, le=100)
    solver: Literal["sgd", "lbfgs"] = "sgd"
    layer_decay: Number = pydantic.Field(default=1.0, gt=0, le=1)
    weight_decay: Number = pydantic.Field(default=0.05, ge=0, le=100)
    warmup_epochs: Number = pydantic.Field(default=0.0, ge=0, le=MAX_EPOCHS)
    norm_statistics: Literal["frozen", "update"] = "frozen"
    views: WholeNumber = pydantic.Field(default=0, ge=0, le=64)

    @property
    def takes_steps(self) -> bool:
        """Whether the stage is trained by gradient descent, for an epoch at least."""
        return self.solver == "sgd" and self.epochs > 0

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.solver == "lbfgs" and self.train_from != "head":
            raise ValueError(f"solver lbfgs solves a linear head: train_from must be head; got {self.train_from!r}")
        if self.solver == "lbfgs" and self.views:
            raise ValueError(f"views is {self.views}, but a solved head takes optimisation.head_views: views must be 0")
        if self.solver == "sgd" and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs:g}, more than the {self.epochs} epochs of the stage"
            )
        if self.views and self.train_from == "stem":
            raise ValueError(f"views is {self.views}, but nothing lies before the stem: views must be 0")
        return self
