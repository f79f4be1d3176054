"""An exponential moving average of the weights: what the last steps agree on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class WeightAverage:
    """Average all floating-point parameters and buffers of a module over the last steps.

    The factor grows as (1 + t) / (10 + t) up to a limit that remembers about a tenth of the stage, so that a stage
    of 100 steps is averaged as sensibly as one of 100,000.

    Args:
        module: What is averaged; frozen tensors stay what they are.
        total_steps: Steps of the stage.
    """

    def __init__(self, module: nn.Module, *, total_steps: int) -> None:
        self._limit = 1.0 - 10.0 / max(20, total_steps)
        self._steps = 0
        self._average = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after one step."""
        self._steps += 1
        keep = min(self._limit, (1 + self._steps) / (10 + self._steps))
        for name, tensor in module.state_dict().items():
            average = self._average[name]
            if average.is_floating_point():
                average.lerp_(tensor, 1.0 - keep)
            else:
                average.copy_(tensor)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The average itself, by name, as a checkpoint keeps it."""
        return dict(self._average)

    def restore(self, tensors: Mapping[str, torch.Tensor], *, steps: int) -> None:
        """Go on with an average that was kept after so many steps."""
        self._steps = steps
        for name, average in self._average.items():
            average.copy_(tensors[name])

    def copy_to(self, module: nn.Module) -> None:
        """Put the average in the place of the module's weights."""
        module.load_state_dict(self._average)
