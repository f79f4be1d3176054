"""2D: timm's ``ResNet`` and ``ResNetV2`` nets, cut into the parts of `Backbone`."""

from __future__ import annotations

from typing import Any

import timm
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from torch import nn

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.stem import RGB, first_conv, folded_conv


def build_timm_backbone(arch: str, *, in_channels: int) -> Backbone:
    """Return a randomly initialised net of timm without its classifier.

    Args:
        arch: A name of ``list_archs(spatial_dims=2)``.
        in_channels: Channels of the input. 3 keeps timm's stem as it is; any other number gets a `FoldedConv`.

    Raises:
        ModelError: The net that timm makes under this name is not a ``ResNet`` or ``ResNetV2``.
    """
    # zero_init_last would start each residual branch at exactly zero: no gradient reaches its convolutions then
    net = timm.create_model(arch, pretrained=False, num_classes=0, in_chans=in_channels, zero_init_last=False)
    if not isinstance(net, (ResNet, ResNetV2)):
        raise ModelError(f"timm makes a {type(net).__name__} of {arch!r}, whose stages cannot be cut.")
    children = _children(net)
    stem_conv = first_conv(children)
    backbone = Backbone(
        children,
        parts=_PRE_ACTIVATION_PARTS if isinstance(net, ResNetV2) else _POST_ACTIVATION_PARTS,
        arch=arch,
        spatial_dims=2,
        in_channels=in_channels,
        num_features=net.head_hidden_size,
        stem_conv=stem_conv,
    )
    if in_channels != RGB:
        backbone.net.set_submodule(stem_conv, folded_conv(net.get_submodule(stem_conv)))
    return backbone


_POST_ACTIVATION_PARTS = {
    "stem": ("conv1", "bn1", "act1", "maxpool"),
    **{f"layer{number}": (f"layer{number}",) for number in range(1, 5)},
    "pool": ("pool",),
}

_PRE_ACTIVATION_PARTS = {
    "stem": ("stem",),
    **{f"layer{number}": (f"stages.{number - 1}",) for number in range(1, 4)},
    # the last normalisation of a pre-activation net closes the last residual stream
    "layer4": ("stages.3", "norm"),
    "pool": ("pool",),
}


def _children(net: Any) -> dict[str, nn.Module]:
    pool = net.head.global_pool if isinstance(net, ResNetV2) else net.global_pool
    kept = {name: child for name, child in net.named_children() if name not in ("global_pool", "fc", "head")}
    return {**kept, "pool": nn.Sequential(pool, nn.Flatten(1))}
