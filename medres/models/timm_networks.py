"""2D: nets of timm that are a stem and four stages, cut into the parts of `Backbone`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import timm
from timm.models.convnext import ConvNeXt
from timm.models.densenet import DenseNet
from timm.models.regnet import RegNet
from timm.models.resnet import ResNet
from timm.models.resnetv2 import ResNetV2
from timm.models.senet import SENet
from torch import nn

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.stem import RGB, first_conv, folded_conv

Parts = Mapping[str, tuple[str, ...]]


def build_timm_backbone(arch: str, *, in_channels: int) -> Backbone:
    """Return a randomly initialised net of timm without its classifier.

    Args:
        arch: A name of ``builtin_archs(spatial_dims=2)``.
        in_channels: Channels of the input. 3 keeps timm's stem as it is; any other number gets a `FoldedConv`.

    Raises:
        ModelError: The net that timm makes under this name is of a class whose stages cannot be cut.
    """
    net = timm.create_model(arch, pretrained=False, num_classes=0, in_chans=in_channels, **_options(arch))
    parts = _parts(net)
    children = _children(net)
    stem_conv = first_conv(children)
    backbone = Backbone(
        children, parts=parts, arch=arch, spatial_dims=2, in_channels=in_channels,
        num_features=net.head_hidden_size, stem_conv=stem_conv,
    )  # fmt: skip
    if in_channels != RGB:
        backbone.net.set_submodule(stem_conv, folded_conv(net.get_submodule(stem_conv)))
    return backbone


_POST_ACTIVATION_PARTS: Parts = {
    "stem": ("conv1", "bn1", "act1", "maxpool"),
    **{f"layer{number}": (f"layer{number}",) for number in range(1, 5)},
    "pool": ("pool",),
}

_PRE_ACTIVATION_PARTS: Parts = {
    "stem": ("stem",),
    **{f"layer{number}": (f"stages.{number - 1}",) for number in range(1, 4)},
    # the last normalisation of a pre-activation net closes the last residual stream
    "layer4": ("stages.3", "norm"),
    "pool": ("pool",),
}

_SENET_PARTS: Parts = {**_POST_ACTIVATION_PARTS, "stem": ("layer0", "pool0")}

_REGNET_PARTS: Parts = {
    "stem": ("stem",),
    **{f"layer{number}": (f"s{number}",) for number in range(1, 4)},
    "layer4": ("s4", "final_conv"),
    "pool": ("pool",),
}

_CONVNEXT_PARTS: Parts = {
    "stem": ("stem",),
    **{f"layer{number}": (f"stages.{number - 1}",) for number in range(1, 4)},
    "layer4": ("stages.3", "norm_pre"),
    # the last normalisation works on pooled features: its parameters belong to layer4 (`Backbone.stage_of`)
    "pool": ("head",),
}

_PARTS: Mapping[type, Parts] = {
    ResNet: _POST_ACTIVATION_PARTS,
    ResNetV2: _PRE_ACTIVATION_PARTS,
    SENet: _SENET_PARTS,
    RegNet: _REGNET_PARTS,
    ConvNeXt: _CONVNEXT_PARTS,
}


def _options(arch: str) -> dict[str, Any]:
    module = timm.models.model_entrypoint(arch).__module__.rsplit(".", 1)[-1]
    # zero_init_last would start each residual branch at exactly zero: no gradient reaches its convolutions then
    # (the functions of the regnetz say so themselves)
    is_without = module in ("senet", "convnext", "densenet") or arch.startswith("regnetz")
    return {} if is_without else {"zero_init_last": False}


def _parts(net: nn.Module) -> Parts:
    if isinstance(net, DenseNet):
        return _densenet_parts(list(net.features._modules))
    found = next((parts for kind, parts in _PARTS.items() if isinstance(net, kind)), None)
    if found is None:
        raise ModelError(f"timm makes a {type(net).__name__} of this name, whose stages cannot be cut.")
    return found


def _densenet_parts(names: list[str]) -> Parts:
    """A transition halves the channels and the resolution: it begins the stage of the block that follows it."""
    begins = [0, *(names.index(name) for name in ("denseblock1", "transition1", "transition2", "transition3"))]
    ends = [*begins[1:], len(names)]
    stages = ("stem", "layer1", "layer2", "layer3", "layer4")
    cuts = {
        stage: tuple(f"features.{name}" for name in names[begin:end])
        for stage, begin, end in zip(stages, begins, ends, strict=True)
    }
    return {**cuts, "pool": ("pool",)}


_HEADS = ("global_pool", "fc", "head", "head_drop", "classifier", "last_linear")


def _children(net: Any) -> dict[str, nn.Module]:
    kept = {name: child for name, child in net.named_children() if name not in _HEADS}
    if isinstance(net, ConvNeXt):
        between = ("global_pool", "norm", "flatten", "pre_logits")
        head = OrderedDict((name, child) for name, child in net.head.named_children() if name in between)
        return {**kept, "head": nn.Sequential(head)}
    pool = net.head.global_pool if isinstance(net, (ResNetV2, RegNet)) else net.global_pool
    return {**kept, "pool": nn.Sequential(pool, nn.Flatten(1))}
