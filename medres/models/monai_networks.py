"""3D: MONAI's ResNet, cut into the parts of `Backbone` and brought to the geometry that is asked for.

MONAI's default stem has stride 1; that of a 2D ResNet has stride 2. With a stride-2 stem, projection shortcuts (type B)
and no bias in them, MONAI's parameter names and arithmetic are those of timm's ResNet of the same depth, one axis more.
MONAI knows no dilation, and its shortcuts without weights (type A) stop the gradient: both are mended here, with
`medres.models.geometry`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from medres.models.backbone import Backbone
from medres.models.geometry import DEFAULT, LAYERS, Geometry, StemPool, ZeroPaddedShortcut, dilate
from medres.models.stem import RGB, first_conv, folded_conv
from medres.runs.environment import unless_set
from medres.runs.host import importing_libraries

# `import monai` pulls in mlflow, which would report to its makers; medres reports to nobody
with importing_libraries(), unless_set({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}):
    from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck

_PARTS = {
    "stem": ("conv1", "bn1", "act", "maxpool"),
    **{f"layer{number}": (f"layer{number}",) for number in range(1, 5)},
    "pool": ("pool",),
}


def build_monai_backbone(arch: str, *, in_channels: int, geometry: Geometry = DEFAULT) -> Backbone:
    """Return a randomly initialised 3D net of MONAI without its classifier.

    Args:
        arch: A name of ``list_archs(spatial_dims=3)``.
        in_channels: Channels of the input. Any number but 3 gets a `FoldedConv` as its stem.
        geometry: Strides, dilations and shortcuts.
    """
    block, layers = LAYERS[arch]
    net = ResNet(
        block, list(layers), [64, 128, 256, 512], spatial_dims=3, n_input_channels=in_channels,
        conv1_t_size=7, conv1_t_stride=geometry.stem_stride, shortcut_type=geometry.shortcut_type(arch),
        bias_downsample=False, feed_forward=False,
    )  # fmt: skip
    _shape(net, geometry)
    children = {name: child for name, child in net.named_children() if name != "avgpool"}
    children["pool"] = nn.Sequential(net.avgpool, nn.Flatten(1))
    stem_conv = first_conv(children)
    if in_channels != RGB:
        children[stem_conv] = folded_conv(net.get_submodule(stem_conv))
    return Backbone(
        children, parts=_PARTS, arch=arch, spatial_dims=3, in_channels=in_channels,
        num_features=512 * (4 if block == "bottleneck" else 1), stem_conv=stem_conv,
    )  # fmt: skip


def _shape(net: ResNet, geometry: Geometry) -> None:
    _mend_shortcuts(net)
    if geometry == DEFAULT:
        return
    net.maxpool = StemPool(geometry)
    for layer, dilation in zip((net.layer3, net.layer4), geometry.dilations, strict=True):
        if dilation > 1:
            dilate(layer, dilation)


def _mend_shortcuts(net: ResNet) -> None:
    for module in net.modules():
        shortcut = getattr(module, "downsample", None)
        if isinstance(shortcut, partial):  # MONAI's type A: a function, no module
            planes, stride = (shortcut.keywords[key] for key in ("planes", "stride"))
            module.downsample = ZeroPaddedShortcut(planes, stride=stride)


class _DroppableBlock(ResNetBlock):  # type: ignore[misc]  # MONAI is not typed here
    """MONAI's block with a module ``drop_path`` at the end of its branch; the same parameters and names."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return _joined(self, x, out)


class _DroppableBottleneck(ResNetBottleneck):  # type: ignore[misc]
    """The same of MONAI's bottleneck."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return _joined(self, x, out)


def _joined(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    shortcut = x if block.downsample is None else block.downsample(x)
    joined: Tensor = block.act(block.drop_path(branch) + shortcut)
    return joined


_DROPPABLE: dict[type[nn.Module], type[nn.Module]] = {
    ResNetBlock: _DroppableBlock,
    ResNetBottleneck: _DroppableBottleneck,
}


def let_branches_be_dropped(net: nn.Module) -> None:
    """Give MONAI's residual blocks a module ``drop_path``, for now the identity (`medres.models.stochastic_depth`)."""
    for module in net.modules():
        if type(module) in _DROPPABLE:
            module.__class__ = _DROPPABLE[type(module)]
            module.drop_path = nn.Identity()
