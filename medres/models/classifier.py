"""A backbone and a linear head, cut by stages."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.loading import LoadingReport
from medres.models.seeding import Dropout


class ClassificationModel(nn.Module):
    """Scans to logits.

    Args:
        backbone: Scans to pooled features.
        num_classes: Logits a scan.
        drop_rate: Dropout before the head, 0 for none.
        loading_report: Where the backbone's tensors came from.
        input_mean: What the input is normalised to, one value or one a channel; on pixels scaled to [0, 1].
        input_std: The same for the standard deviation.

    Example:
        >>> from medres.models.timm_networks import build_timm_backbone
        >>> model = ClassificationModel(build_timm_backbone("resnet18", in_channels=1), num_classes=3).eval()
        >>> model(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 3])
        >>> model.stage_of("head.bias")
        'head'
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        drop_rate: float = 0.0,
        loading_report: LoadingReport | None = None,
        input_mean: tuple[float, ...] = (0.5,),
        input_std: tuple[float, ...] = (0.5,),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = Dropout(drop_rate)
        self.head = nn.Linear(backbone.num_features, num_classes)
        # small and without bias: training begins at even probabilities whatever the scale of the features
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.loading_report = loading_report or LoadingReport()
        self.input_mean = input_mean
        self.input_std = input_std

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, from input to output."""
        return self.backbone.stages

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, num_classes)`` of ``(B, C, H, W)`` or ``(B, C, D, H, W)``.

        Raises:
            ModelError: The input has another number of axes or channels.
        """
        logits: torch.Tensor = self.head(self.dropout(self.backbone(x)))
        return logits

    def pooled_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the head reads, ``(B, num_features)``."""
        features: torch.Tensor = self.backbone(x)
        return features

    def pool(self, frozen: torch.Tensor) -> torch.Tensor:
        """Return what the head reads, ``(B, num_features)``, of what the part before it gives (`split_at` the head)."""
        return frozen

    def stage_of(self, parameter_name: str) -> str:
        """Return the one stage of a parameter or buffer.

        Raises:
            ModelError: The name belongs to no part of the model.
        """
        part, _, name = parameter_name.partition(".")
        if part == "backbone":
            return self.backbone.stage_of(name)
        if part == "head":
            return "head"
        raise ModelError(f"{parameter_name!r} is no parameter of {self.backbone.arch}.")

    def split_at(self, stage: str) -> tuple[nn.Module, nn.Module]:
        """Cut in two before ``stage``; both halves share the model's modules.

        Returns:
            ``(prefix, suffix)``: ``suffix(prefix(x))`` is ``forward(x)``, bit for bit. At ``stem`` the prefix is
            the identity; at ``head`` it includes pooling and gives ``(B, num_features)``.

        Raises:
            ModelError: ``stage`` is not one of `stages`.
        """
        prefix, rest = self.backbone.split_at(stage)
        head = [("dropout", self.dropout)] if self.dropout.p else []
        suffix: list[tuple[str, nn.Module]] = [] if stage == "head" else [("backbone", rest)]
        return prefix, nn.Sequential(OrderedDict([*suffix, *head, ("head", self.head)]))
