"""2.5D: a 2D network on each slice of a volume, and gated attention that says how much each slice counts.

Ilse, Tomczak and Welling 2018, "Attention-based Deep Multiple Instance Learning" (arXiv:1802.04712): of the features
``h_i`` of the slices, ``a_i = softmax(w . (tanh(V h_i) * sigmoid(U h_i)))`` and the features of the scan are
``sum of a_i h_i``. `GatedAttention` starts with ``w = 0``: every slice counts the same, the scan's features are their
mean, and a head that was solved on means is right from the first step.

**Padding is never computed.** Scans of one batch have different numbers of slices. Only slices that are there go
through the network: padding costs nothing, enters no batch statistics and, with a weight of exactly 0, no answer.
"""

from __future__ import annotations

import torch
from torch import nn

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.classifier import ClassificationModel
from medres.models.loading import LoadingReport

#: Slices that go through a network together where no gradient is kept: what bounds the memory, however many slices a
#: scan has. ResNet-50 holds about 1 GiB for 32 slices of 512 x 512; fewer are slower on a GPU.
SLICES_AT_A_TIME = 32

#: Width of the attention's hidden layer, that of the paper.
HIDDEN = 128


class GatedAttention(nn.Module):
    """Pool the features of slices by weights that depend on the features.

    Args:
        num_features: Width F of the features.
        hidden: Width of V h and U h.

    Example:
        >>> attention = GatedAttention(3)
        >>> features = torch.tensor([[[1.0, 0.0, 2.0], [3.0, 2.0, 4.0], [9.0, 9.0, 9.0]]])
        >>> mask = torch.tensor([[True, True, False]])
        >>> attention(features, mask).tolist(), attention.weights(features, mask).tolist()
        ([[2.0, 1.0, 3.0]], [[0.5, 0.5, 0.0]])
    """

    def __init__(self, num_features: int, *, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.content = nn.Linear(num_features, hidden, bias=False)  # V
        self.gate = nn.Linear(num_features, hidden, bias=False)  # U
        self.score = nn.Linear(hidden, 1, bias=False)  # w
        nn.init.zeros_(self.score.weight)

    def weights(self, features: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return how much each slice counts, ``(B, D)``: they sum to 1, padding has exactly 0.

        Args:
            features: ``(B, D, F)``.
            slice_mask: ``(B, D)``, True where there is a slice; None: everywhere.
        """
        gated = torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features))
        scores: torch.Tensor = self.score(gated).squeeze(-1)
        if slice_mask is not None:
            scores = scores.masked_fill(~slice_mask, -torch.inf)
        return torch.softmax(scores.float(), dim=1)

    def forward(self, features: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the pooled features ``(B, F)``; arguments as in `weights`."""
        if slice_mask is not None:
            features = features.masked_fill(~slice_mask[:, :, None], 0.0)  # 0 times something that is not finite
        return (self.weights(features, slice_mask)[:, :, None] * features).sum(dim=1)


class EachSlice(nn.Module):
    """Apply a part of a 2D network to each slice that is there.

    Args:
        part: Maps ``(N, ...)`` to ``(N, ...)``, slice by slice.
        slices_at_a_time: Where no gradient is kept and nothing is in train mode, as many slices are computed together.
    """

    def __init__(self, part: nn.Module, *, slices_at_a_time: int = SLICES_AT_A_TIME) -> None:
        super().__init__()
        self.part = part
        self.slices_at_a_time = slices_at_a_time

    def forward(self, x: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``(B, D, ...)`` of ``(B, D, ...)``; where the mask ``(B, D)`` is False, zeros."""
        if isinstance(self.part, nn.Identity):
            return x
        slices = x.flatten(0, 1)
        there = None if slice_mask is None or bool(slice_mask.all()) else slice_mask.flatten().nonzero()[:, 0]
        if torch.is_grad_enabled() or any(module.training for module in self.part.modules()):
            # all together: batch normalisation in training needs the statistics of the whole batch
            computed = self.part(slices if there is None else _taken(slices, there))
        else:
            places = torch.arange(len(slices), device=x.device) if there is None else there
            parts = [self.part(_taken(slices, some)) for some in torch.split(places, self.slices_at_a_time)]
            computed = torch.cat(parts)
        return torch.unflatten(_placed(computed, there, len(slices)), 0, x.shape[:2])


class SliceSuffix(nn.Module):
    """What follows a cut: the rest of the backbone on each slice, attention, and the linear head.

    Args:
        rest: Rest of the backbone; may be the identity.
        attention: Pools slices.
        dropout: Before the head.
        head: Features to logits.
    """

    def __init__(self, rest: EachSlice, attention: GatedAttention, dropout: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.rest = rest
        self.attention = attention
        self.dropout = dropout
        self.head = head

    def forward(self, x: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits ``(B, num_classes)``."""
        logits: torch.Tensor = self.head(self.dropout(self.attention(self.rest(x, slice_mask), slice_mask)))
        return logits


class SliceModel(ClassificationModel):
    """Volumes, slice by slice, to logits.

    Stages are those of the backbone; the attention belongs to ``head``. Every method that takes a volume takes
    ``(B, D, C, H, W)`` and ``slice_mask (B, D)``, True where there is a slice; without a mask all are there.

    Args:
        backbone: A 2D network: slices to pooled features.
        num_classes: Logits a scan.
        drop_rate: Dropout before the head, 0 for none.
        loading_report: As of `ClassificationModel`.
        input_mean: As of `ClassificationModel`.
        input_std: As of `ClassificationModel`.

    Example:
        >>> from medres.models.timm_networks import build_timm_backbone
        >>> model = SliceModel(build_timm_backbone("test_resnet", in_channels=1), num_classes=3).eval()
        >>> mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        >>> model(torch.zeros(2, 5, 1, 64, 64), mask).shape
        torch.Size([2, 3])
        >>> model.slice_weights(torch.zeros(2, 5, 1, 64, 64), mask)[1, 3:].tolist()
        [0.0, 0.0]
        >>> model.stage_of("attention.gate.weight")
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
        super().__init__(
            backbone, num_classes=num_classes, drop_rate=drop_rate, loading_report=loading_report,
            input_mean=input_mean, input_std=input_std,
        )  # fmt: skip
        self.attention = GatedAttention(backbone.num_features)

    def forward(self, x: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits ``(B, num_classes)``.

        Raises:
            ModelError: The input or the mask has another shape, or a scan has no slice.
        """
        suffix = self._suffix(EachSlice(nn.Identity()))
        logits: torch.Tensor = suffix(self.slice_features(x, slice_mask), slice_mask)
        return logits

    def slice_features(self, x: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the pooled features of each slice, ``(B, D, num_features)``; of padding, zeros."""
        self._check_slices(x, slice_mask)
        features: torch.Tensor = EachSlice(self.backbone)(x, slice_mask)
        return features

    def pooled_features(self, x: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the head reads, ``(B, num_features)``: while the attention is uniform, the mean over slices."""
        return self.pool(self.slice_features(x, slice_mask), slice_mask)

    def pool(self, frozen: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the head reads, ``(B, num_features)``, of the features of slices ``(B, D, num_features)``."""
        pooled: torch.Tensor = self.attention(frozen, slice_mask)
        return pooled

    def slice_weights(self, x: torch.Tensor, slice_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return how much each slice counts, ``(B, D)``: they sum to 1, padding has exactly 0."""
        weights: torch.Tensor = self.attention.weights(self.slice_features(x, slice_mask), slice_mask)
        return weights

    def stage_of(self, parameter_name: str) -> str:
        """Return the one stage of a parameter or buffer.

        Raises:
            ModelError: The name belongs to no part of the model.
        """
        return "head" if parameter_name.startswith("attention.") else super().stage_of(parameter_name)

    def split_at(self, stage: str) -> tuple[nn.Module, nn.Module]:
        """Cut in two before ``stage``; both halves share the model's modules and take the mask.

        Returns:
            ``(prefix, suffix)``: ``suffix(prefix(x, mask), mask)`` is ``forward(x, mask)``, bit for bit. At ``stem``
            the prefix is the identity; at ``head`` it gives ``(B, D, num_features)``.

        Raises:
            ModelError: ``stage`` is not one of `stages`.
        """
        prefix, rest = self.backbone.split_at(stage)
        return EachSlice(prefix), self._suffix(EachSlice(rest))

    def _suffix(self, rest: EachSlice) -> SliceSuffix:
        return SliceSuffix(rest, self.attention, self.dropout, self.head)

    def _check_slices(self, x: torch.Tensor, slice_mask: torch.Tensor | None) -> None:
        if x.ndim != 5 or x.shape[2] != self.backbone.in_channels or not x.shape[1]:
            raise ModelError(
                f"{self.backbone.arch} in 2.5D takes (B, D, C, H, W) with C = {self.backbone.in_channels}; "
                f"got shape {tuple(x.shape)}."
            )
        if slice_mask is None:
            return
        if slice_mask.shape != x.shape[:2] or slice_mask.dtype != torch.bool:
            raise ModelError(
                f"slice_mask is {slice_mask.dtype} of shape {tuple(slice_mask.shape)}; it must be bool of shape "
                f"{tuple(x.shape[:2])}."
            )
        if not bool(slice_mask.any(dim=1).all()):
            raise ModelError("A scan of the batch has no slice.", fix="Mark at least one slice of each scan.")


def _taken(slices: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return ``slices[places]`` in the same memory layout: another one makes convolutions round differently."""
    return _laid_out(slices.index_select(0, places), like=slices)


def _placed(computed: torch.Tensor, places: torch.Tensor | None, count: int) -> torch.Tensor:
    """Return ``count`` slices with ``computed`` at their places and zeros elsewhere."""
    if places is None:
        return computed
    empty = computed.new_zeros((count, *computed.shape[1:]))
    return _laid_out(empty.index_copy(0, places, computed), like=computed)


def _laid_out(x: torch.Tensor, *, like: torch.Tensor) -> torch.Tensor:
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous():
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous()
