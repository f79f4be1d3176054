"""Freezing that holds: parameters, normalisation statistics, dropout, whoever calls ``train()``."""

from __future__ import annotations

from types import MethodType
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from medres.models.classifier import ClassificationModel


def freeze_to(
    model: ClassificationModel, stage: str, *, norm_statistics: Literal["frozen", "update"] = "frozen"
) -> ClassificationModel:
    """Freeze all that lies before ``stage`` and make the rest trainable.

    Frozen means frozen: parameters get no gradient, and the modules stay in eval mode (running statistics,
    dropout, stochastic depth), also when ``train()`` is called on the model or on any part of it later.

    Args:
        model: Changed in place, and returned.
        stage: First trainable stage, one of ``model.stages``; ``stem`` thaws everything.
        norm_statistics: ``frozen`` keeps the running statistics of the trainable stages as they are, too.

    Raises:
        ModelError: ``stage`` is not a stage of the model.

    Example:
        >>> from medres.models.factory import create_model
        >>> model = freeze_to(create_model("resnet10", spatial_dims=3, num_classes=2), "layer4")
        >>> sorted({model.stage_of(n) for n, p in model.named_parameters() if p.requires_grad})
        ['head', 'layer4']
    """
    prefix, _ = model.split_at(stage)
    thaw(model)
    for module in prefix.modules():
        _hold_in_eval(module)
    for parameter in prefix.parameters():
        parameter.requires_grad_(False)
    if norm_statistics == "frozen":
        for module in model.modules():
            if isinstance(module, _NormBase):
                _hold_in_eval(module)
    return model


def thaw(model: nn.Module) -> None:
    """Undo `freeze_to`: everything is trainable and follows ``train()`` again."""
    for module in model.modules():
        vars(module).pop("train", None)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _hold_in_eval(module: nn.Module) -> None:
    nn.Module.train(module, False)
    # an attribute of the instance is found before the method of its class, also by the recursion of a parent's train()
    vars(module)["train"] = MethodType(_stay_in_eval, module)


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    del mode
    return module
