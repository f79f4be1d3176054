"""`Optimisation`: how stages are trained, whatever their recipe. No torch is needed to describe it."""

from __future__ import annotations

from typing import Any, Literal, Self

import pydantic

from medres.finetuning.stages import MAX_EPOCHS
from medres.runs.documents import Document, Number, WholeNumber


class Optimisation(Document):
    """Choices of the training loop that are the same in all stages.

    What each one is, and what it does to the probabilities, stands in ``docs/concepts/training-craft.md``.

    Args:
        class_weights: ``balanced`` weights the loss of class c by n / (K n_c), and the reported logits have
            log(weight) taken out again; ``none`` does neither. Left out, it is ``none`` where ``sampling`` is
            ``balanced`` or ``loss`` is ``focal``.
        sampling: ``shuffled`` shows every training scan once an epoch; ``balanced`` shows every class equally often
            (`medres.finetuning.sampling`), and what that adds to the logits is taken out again.
        loss: ``cross_entropy`` or ``focal`` (Lin et al., ICCV 2017).
        focal_gamma: How much less the focal loss counts what is right already; 0 is the cross-entropy.
        label_smoothing: Of the cross-entropy.
        mixup: Alpha of mixup (Zhang et al., ICLR 2018): scans are mixed in pairs, shares from Beta(alpha, alpha);
            0 = off.
        cutmix: Alpha of CutMix (Yun et al., ICCV 2019): a box of one scan is pasted into another; 0 = off. With
            both, each batch draws one of the two.
        dropout: Share of the features dropped before the head.
        drop_path: Stochastic depth (Huang et al., ECCV 2016): how often the last residual branch is left out; earlier
            ones less often, linearly.
        optimiser: ``adamw`` or ``sgd`` with momentum; the rates of a recipe are translated (`make_optimizer`).
        momentum: Of ``sgd``.
        nesterov: Whether the momentum of ``sgd`` is Nesterov's.
        lr_factor: Multiplies every learning rate of the recipe.
        ema: Average the weights over the last steps and use the average.
        gradient_clip: Largest norm of the gradient of all trained parameters together; 0 = no limit.
        accumulate: Parts that a batch is computed in, one after the other, to save memory; the step stays that of the
            whole batch. Where memory ends all the same, parts are halved.
        compile: Compile the trained part with ``torch.compile``; it has to prove itself on your machine.
        views: How many augmented views of a scan go through a frozen part once and are kept; None = as the recipe says,
            0 = none: the frozen part runs in every epoch.
        sync_batchnorm: Where several GPUs train together, normalise by the statistics of the whole batch, not of each
            GPU's share.
        activation_storage: ``half`` keeps feature maps of a frozen part in half precision, ``single`` in fp32.
        augment: Whether training scans are augmented as the plan says.
        head_views: Views of each training scan that the solved head sees: the scan itself, and augmented ones.
        tta: Views beside the scan itself that a prediction is averaged over (test-time augmentation); 0 = off. Part
            of the bundle: every later prediction does the same.
        early_stopping_patience: Epochs without a better log-loss on an inner validation after which a stage ends;
            0 = the fixed schedule, no inner validation.

    Example:
        >>> Optimisation(sampling="balanced").class_weights
        'none'
    """

    class_weights: Literal["balanced", "none"] = "balanced"
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: Number = pydantic.Field(default=2.0, ge=0, le=10)
    label_smoothing: Number = pydantic.Field(default=0.0, ge=0, lt=1)
    mixup: Number = pydantic.Field(default=0.0, ge=0, le=100)
    cutmix: Number = pydantic.Field(default=0.0, ge=0, le=100)
    dropout: Number = pydantic.Field(default=0.0, ge=0, lt=1)
    drop_path: Number = pydantic.Field(default=0.0, ge=0, lt=1)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    momentum: Number = pydantic.Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    lr_factor: Number = pydantic.Field(default=1.0, gt=0, le=1000)
    ema: bool = True
    gradient_clip: Number = pydantic.Field(default=1.0, ge=0, le=1e6)
    accumulate: WholeNumber = pydantic.Field(default=1, ge=1, le=1024)
    compile: bool = False
    views: WholeNumber | None = pydantic.Field(default=None, ge=0, le=64)
    sync_batchnorm: bool = False
    activation_storage: Literal["half", "single"] = "half"
    augment: bool = True
    head_views: WholeNumber = pydantic.Field(default=1, ge=1, le=64)
    tta: WholeNumber = pydantic.Field(default=0, ge=0, le=64)
    early_stopping_patience: WholeNumber = pydantic.Field(default=0, ge=0, le=MAX_EPOCHS)

    @property
    def mixes(self) -> bool:
        """Whether training scans are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    @pydantic.model_validator(mode="before")
    @classmethod
    def _weigh_once(cls, values: Any) -> Any:
        """Leave the class weights out where something else takes their place, unless they were asked for."""
        if not isinstance(values, dict) or "class_weights" in values:
            return values
        replaced = values.get("sampling") == "balanced" or values.get("loss") == "focal"
        return {**values, "class_weights": "none"} if replaced else values

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.class_weights == "balanced" and self.sampling == "balanced":
            raise ValueError(
                "sampling: balanced and class_weights: balanced would count rare classes twice; set class_weights: "
                "none, or sampling: shuffled"
            )
        if self.loss == "focal":
            self._check_focal()
        return self

    def _check_focal(self) -> None:
        if self.class_weights == "balanced" or self.sampling == "balanced":
            raise ValueError(
                "loss: focal bends the logits, so that what balanced class weights or balanced sampling add to them "
                "cannot be taken out again; set class_weights: none and sampling: shuffled, or loss: cross_entropy"
            )
        soft = [name for name in ("label_smoothing", "mixup", "cutmix") if getattr(self, name)]
        if soft:
            raise ValueError(
                f"loss: focal is defined for one right class a scan, and {' and '.join(soft)} spreads it over several; "
                "set it to 0, or loss: cross_entropy"
            )
