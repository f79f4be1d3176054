"""Two small convolutional networks that keep the contract of medres' backbones."""

from __future__ import annotations

from torch import nn

from medres.models.backbone import Backbone

_WIDTHS = (8, 8, 16, 16, 24)
_PARTS = {
    "stem": ("stem",),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
    "pool": ("pool",),
}


def build_tiny_net(*, in_channels: int) -> Backbone:
    return _build("tiny_net", 2, in_channels)


def build_tiny_net_3d(*, in_channels: int) -> Backbone:
    return _build("tiny_net_3d", 3, in_channels)


build_tiny_net.spatial_dims = 2  # type: ignore[attr-defined]
build_tiny_net_3d.spatial_dims = 3  # type: ignore[attr-defined]


def _build(arch: str, dims: int, in_channels: int) -> Backbone:
    conv, norm, pool = (
        (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d(1))
        if dims == 2
        else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d(1))
    )
    before = (in_channels, *_WIDTHS)
    net = {
        name: nn.Sequential(
            conv(width_in, width, 3, stride=2 if name != "layer1" else 1, padding=1, bias=False),  # type: ignore[operator]
            norm(width),  # type: ignore[operator]
            nn.ReLU(),
        )
        for name, width_in, width in zip(_PARTS, before, _WIDTHS, strict=False)
    }
    return Backbone(
        {**net, "pool": nn.Sequential(pool, nn.Flatten(1))},
        parts=_PARTS,
        arch=arch,
        spatial_dims=dims,
        in_channels=in_channels,
        num_features=_WIDTHS[-1],
        stem_conv="stem.0",
    )
