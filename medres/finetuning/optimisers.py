"""Optimisers of a stage: AdamW, or SGD with momentum, and what they remember from one stage to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from medres.finetuning.optimisation import Optimisation
from medres.finetuning.parameter_groups import parameter_groups
from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel

#: What the optimiser remembers (moments, steps), as ``<parameter>/<what>``.
Memory = dict[str, torch.Tensor]

#: A recipe's rates are those of AdamW, whose steps have about the length of the rate whatever the gradient. SGD's are
#: this many times as large: 3e-4 becomes 9e-3, 1e-3 becomes 3e-2, the range in which ResNets are trained by SGD.
SGD_RATE_FACTOR = 30.0


def make_optimiser(
    model: ClassificationModel, stage: Stage, optimisation: Optimisation, *, memory: Mapping[str, torch.Tensor],
    fused: bool = True,
) -> torch.optim.Optimizer:  # fmt: skip
    """Return the optimiser of a stage, which goes on with what it remembers of parameters that were trained before.

    A new optimiser would treat them like strangers: Adam divides by a second moment that begins at zero, so that the
    first steps after each thawing would be as large as the very first.

    Args:
        model: Frozen as the stage asks.
        stage: Rates and decay.
        optimisation: Which optimiser.
        memory: Of earlier stages, see `memory_of`; may be empty.
        fused: One kernel for all parameters; fp16 cannot have it, since its gradients are scaled and clipped before.
    """
    optimiser = optimiser_of(parameter_groups(model, stage), optimisation, fused=fused)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (known := _known(memory, name, parameter)):
            optimiser.state[parameter] = known
    return optimiser


class _AdamW(torch.optim.AdamW):
    """AdamW whose fused kernel is shown each tensor in the order in which it lies.

    Channels-last ones it would copy into the order of their axes and back: 33 ms a step over 25 million parameters,
    here 11, the plain loop 73 (one core of an AMD EPYC, 2026-11-29). It goes element by element: no order matters.
    """

    def _init_group(self, group: dict[str, Any], *lists: Any) -> bool:
        has_complex: bool = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        parameters, *beside = lists[:4]  # gradients and both moments; the others hold no tensor of this shape
        orders = [_order(parameter) for parameter in parameters]
        for tensors in (parameters, *beside):
            tensors[:] = [tensor.permute(order) for tensor, order in zip(tensors, orders, strict=True)]
        return has_complex


def _order(tensor: torch.Tensor) -> list[int]:
    """Return the axes of a tensor, the one whose steps in memory are the longest first."""
    return sorted(range(tensor.ndim), key=lambda axis: -tensor.stride()[axis])


def optimiser_of(
    groups: list[dict[str, Any]], optimisation: Optimisation, *, fused: bool = True
) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, ICLR 2019) or SGD for groups of parameters.

    The learning rates of its groups are the recipe's (times `SGD_RATE_FACTOR` with ``sgd``), ``lr_factor`` not yet in
    them. With ``sgd`` the weight decay, which the gradient carries and the momentum adds up, is translated so that it
    shrinks the weights as much a step as AdamW's does.

    Args:
        groups: Of `medres.finetuning.parameter_groups.parameter_groups`; not changed.
        optimisation: Which optimiser.
        fused: See `make_optimiser`.

    Example:
        >>> groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 3e-4, "weight_decay": 0.05}]
        >>> [group] = optimiser_of(groups, Optimisation(optimiser="sgd")).param_groups
        >>> round(group["lr"], 4), round(group["weight_decay"], 6)
        (0.009, 0.000167)
    """
    if optimisation.optimiser == "adamw":
        return _AdamW(groups, fused=fused)
    translated = [_for_sgd(group, optimisation.momentum) for group in groups]
    momentum = optimisation.momentum
    return torch.optim.SGD(translated, momentum=momentum, nesterov=optimisation.nesterov and momentum > 0, fused=fused)


def memory_of(optimiser: torch.optim.Optimizer, model: nn.Module) -> Memory:
    """Return what the optimiser remembers of each parameter."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    memory: Memory = {}
    for parameter, state in optimiser.state.items():
        for what, value in state.items():
            if isinstance(value, torch.Tensor):
                memory[f"{names[parameter]}/{what}"] = value.detach()
    return memory


def _for_sgd(group: dict[str, Any], momentum: float) -> dict[str, Any]:
    decay = group["weight_decay"] * (1.0 - momentum) / SGD_RATE_FACTOR
    return {**group, "lr": group["lr"] * SGD_RATE_FACTOR, "weight_decay": decay}


def _known(memory: Mapping[str, torch.Tensor], name: str, parameter: nn.Parameter) -> dict[str, Any]:
    known = {key.rpartition("/")[2]: value for key, value in memory.items() if key.rpartition("/")[0] == name}
    # a count of steps stays where it is (the CPU, for AdamW); moments lie as their parameter does
    return {what: value.clone() if value.ndim == 0 else _like(parameter, value) for what, value in known.items()}


def _like(parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
    copy = torch.empty_like(parameter, dtype=value.dtype)
    return copy.copy_(value)
