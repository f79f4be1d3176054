"""The optimiser of a stage: AdamW (Loshchilov & Hutter, ICLR 2019), or SGD with momentum at comparable rates."""

from __future__ import annotations

from typing import Any

import torch

from medres.finetuning.optimisation import Optimisation

#: A recipe's rates are those of AdamW, whose steps have about the length of the rate whatever the gradient. SGD's are
#: this many times as large: 3e-4 becomes 9e-3, 1e-3 becomes 3e-2, the range in which ResNets are trained by SGD.
SGD_RATE_FACTOR = 30.0


def make_optimizer(groups: list[dict[str, Any]], optimisation: Optimisation) -> torch.optim.Optimizer:
    """Return the optimiser of a stage.

    The learning rates of its groups are the recipe's (times `SGD_RATE_FACTOR` with ``sgd``), ``lr_factor`` not yet in
    them. With ``sgd`` the weight decay, which the gradient carries and the momentum adds up, is translated so that it
    shrinks the weights as much a step as AdamW's does.

    Args:
        groups: Of `medres.finetuning.parameter_groups.parameter_groups`; not changed.
        optimisation: Which optimiser.

    Example:
        >>> groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 3e-4, "weight_decay": 0.05}]
        >>> [group] = make_optimizer(groups, Optimisation(optimiser="sgd")).param_groups
        >>> round(group["lr"], 4), round(group["weight_decay"], 6)
        (0.009, 0.000167)
    """
    if optimisation.optimiser == "adamw":
        return torch.optim.AdamW(groups)
    translated = [_for_sgd(group, optimisation.momentum) for group in groups]
    momentum = optimisation.momentum
    return torch.optim.SGD(translated, momentum=momentum, nesterov=optimisation.nesterov and momentum > 0)


def _for_sgd(group: dict[str, Any], momentum: float) -> dict[str, Any]:
    decay = group["weight_decay"] * (1.0 - momentum) / SGD_RATE_FACTOR
    return {**group, "lr": group["lr"] * SGD_RATE_FACTOR, "weight_decay": decay}
