"""Stochastic depth: while training, the residual branch of a block is left out at random, scan by scan.

Huang et al., "Deep Networks with Stochastic Depth" (ECCV 2016): of L blocks, block l is left out with probability
``rate * l / L``. As in timm, a branch that stays is divided by the probability that it stays: its mean is that of the
whole branch, and nothing changes in use. No tensor is added: the keys of the ``state_dict`` stay what they are.
"""

from __future__ import annotations

from timm.layers import DropPath
from timm.models.senet import SEModule
from torch import Tensor, nn

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.seeding import DrawingLayer, kept_at_random


def set_stochastic_depth(backbone: Backbone, rate: float) -> None:
    """Let the residual branches of a backbone be left out in training mode.

    Args:
        backbone: Changed in place; as it is where ``rate`` is 0.
        rate: How often the last block's branch is left out, from 0 to below 1; earlier ones less often.

    Raises:
        ModelError: The rate cannot be, or the network has no residual branches that can be left out.

    Example:
        >>> from medres.models.timm_networks import build_timm_backbone
        >>> backbone = build_timm_backbone("resnet18", in_channels=1)
        >>> set_stochastic_depth(backbone, 0.2)
        >>> [round(module.drop_prob, 3) for module in backbone.modules() if isinstance(module, DropPath)]
        [0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2]
    """
    if not 0 <= rate < 1:
        raise ModelError(f"drop_path is {rate}.", fix="It must be at least 0 and below 1.")
    if not rate:
        return
    blocks = _residual_blocks(backbone)
    if not blocks:
        raise ModelError(
            f"{backbone.arch} has no residual branches that could be left out, but drop_path is {rate:g}.",
            fix="Set optimisation.drop_path=0, or use a ResNet.",
        )
    for number, block in enumerate(blocks, start=1):
        block.drop_path = StochasticDepth(rate * number / len(blocks))


class StochasticDepth(DrawingLayer, DropPath):  # type: ignore[misc]  # timm has no types
    """timm's `DropPath` with a generator; equal bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, in training mode left out at random, scan by scan."""
        if not self.training or not self.drop_prob or self.generator is None:
            whole: Tensor = super().forward(x)
            return whole
        shape = (x.shape[0], *[1] * (x.ndim - 1))
        dropped: Tensor = x * kept_at_random(x.new_empty(shape), 1 - self.drop_prob, self.generator)
        return dropped


class _DroppedSE(SEModule):  # type: ignore[misc]  # timm has no types
    """timm's legacy squeeze-and-excitation: the last thing on the branch of its blocks, which know no drop path."""

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.drop_path(super().forward(x))
        return dropped


def _residual_blocks(backbone: Backbone) -> list[nn.Module]:
    """Return what leaves the branch of each block out, in working order."""
    if backbone.spatial_dims == 3:
        # imported here: `import monai` takes seconds that a 2D run need not spend
        from medres.models.monai_networks import let_branches_be_dropped

        let_branches_be_dropped(backbone.net)
    blocks = []
    for path in (path for paths in backbone.parts.values() for path in paths):
        for module in backbone.net.get_submodule(path).modules():
            if type(module) is SEModule:
                module.__class__ = _DroppedSE  # the same parameters and names
                module.drop_path = nn.Identity()
            if hasattr(module, "drop_path"):
                blocks.append(module)
    return blocks
