"""The contract of every backbone: an ordered chain of parts that can be cut at each stage.

A backbone is the chain ``stem, layer1, layer2, layer3, layer4, pool``. The network is the composition of its parts and
nothing else, so that a prefix and its suffix give the whole bit for bit. ``backbone.net`` holds the modules under the
names of the library that they come from (timm, MONAI): the keys of its ``state_dict`` are those of published weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from medres.errors import ModelError
from medres.models.cpu_bf16 import guard_convolutions

#: Stages of every network, from input to output. Pooling runs with what lies before the head; where a net normalises
#: its pooled features (ConvNeXt), the parameters of that belong to layer4.
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")

_PARTS = (*STAGES[:-1], "pool")


class Backbone(nn.Module):
    """Scans to pooled features.

    Args:
        net: Modules by name, in the names of the library that they come from.
        parts: For each of stem, layer1 ... layer4, pool: the paths of its modules in ``net``, in working order.
        arch: Architecture name.
        spatial_dims: 2 or 3.
        in_channels: Channels of the input.
        num_features: Width of the pooled features.
        stem_conv: Path of the first convolution in ``net``.

    Example:
        >>> from medres.models.timm_networks import build_timm_backbone
        >>> backbone = build_timm_backbone("resnet18", in_channels=1).eval()
        >>> backbone(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 512])
        >>> backbone.stage_of("net.layer2.0.conv1.weight")
        'layer2'
    """

    stages = STAGES

    def __init__(
        self,
        net: Mapping[str, nn.Module],
        *,
        parts: Mapping[str, Sequence[str]],
        arch: str,
        spatial_dims: int,
        in_channels: int,
        num_features: int,
        stem_conv: str,
    ) -> None:
        super().__init__()
        self.net = nn.ModuleDict(net)
        guard_convolutions(self.net)
        self.parts = {part: tuple(parts[part]) for part in _PARTS}
        self.arch = arch
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.num_features = num_features
        self.stem_conv = stem_conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return pooled features ``(B, num_features)`` of ``(B, C, H, W)`` or ``(B, C, D, H, W)``.

        Raises:
            ModelError: The input has another number of axes or channels.
        """
        self.check_input(x)
        for path in self._paths(_PARTS):
            x = self.net.get_submodule(path)(x)
        return x

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of layer4 before pooling, ``(B, num_features, *spatial)``."""
        self.check_input(x)
        for path in self._paths(_PARTS[:-1]):
            x = self.net.get_submodule(path)(x)
        return x

    def check_input(self, x: torch.Tensor) -> None:
        """Refuse an input of another shape than the backbone was built for.

        Raises:
            ModelError: The input has another number of axes or channels.
        """
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            axes = "(B, C, D, H, W)" if self.spatial_dims == 3 else "(B, C, H, W)"
            raise ModelError(
                f"{self.arch} in {self.spatial_dims}D takes {axes} with C = {self.in_channels}; "
                f"got shape {tuple(x.shape)}."
            )

    def stage_of(self, parameter_name: str) -> str:
        """Return the one stage of a parameter or buffer.

        Raises:
            ModelError: The name belongs to no part of the backbone.
        """
        for part, paths in self.parts.items():
            if any(parameter_name.startswith(f"net.{path}.") for path in paths):
                return "layer4" if part == "pool" else part
        raise ModelError(f"{parameter_name!r} is no parameter of {self.arch}.")

    def split_at(self, stage: str) -> tuple[nn.Module, nn.Module]:
        """Cut in two before ``stage``; both halves share the backbone's modules.

        Returns:
            ``(prefix, suffix)``: ``suffix(prefix(x))`` is ``forward(x)``, bit for bit. At ``stem`` the prefix is the
            identity; at ``head`` the prefix includes pooling and the suffix is the identity.

        Raises:
            ModelError: ``stage`` is not one of `stages`.
        """
        if stage not in STAGES:
            raise ModelError(f"{stage!r} is not a stage.", fix=f"The stages are {', '.join(STAGES)}.")
        cut = STAGES.index(stage) if stage != "head" else len(_PARTS)
        return self._chain(_PARTS[:cut]), self._chain(_PARTS[cut:])

    def _chain(self, parts: Sequence[str]) -> nn.Module:
        modules = OrderedDict((path.replace(".", "_"), self.net.get_submodule(path)) for path in self._paths(parts))
        return nn.Sequential(modules) if modules else nn.Identity()

    def _paths(self, parts: Iterable[str]) -> list[str]:
        return [path for part in parts for path in self.parts[part]]
