"""Parameter groups: one learning rate a stage of the network, no weight decay on normalisation and bias."""

from __future__ import annotations

from typing import Any

from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel


def parameter_groups(model: ClassificationModel, stage: Stage) -> list[dict[str, Any]]:
    """Return optimiser groups of the trainable parameters.

    A stage of the network that lies k stages before the head learns at ``lr * layer_decay ** k``. Vectors
    (normalisation weights and all biases) are not decayed.

    Args:
        model: Already frozen as the stage asks.
        stage: Rates and decay.

    Returns:
        Groups with ``params``, ``lr``, ``weight_decay`` and ``name`` such as ``layer4/decayed``.
    """
    depth = {name: index for index, name in enumerate(reversed(model.stages))}
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, decayed = model.stage_of(name), parameter.ndim > 1
        if (part, decayed) not in groups:
            groups[part, decayed] = {
                "params": [],
                "lr": stage.lr * stage.layer_decay ** depth[part],
                "weight_decay": stage.weight_decay if decayed else 0.0,
                "name": f"{part}/{'decayed' if decayed else 'plain'}",
            }
        groups[part, decayed]["params"].append(parameter)
    return list(groups.values())
