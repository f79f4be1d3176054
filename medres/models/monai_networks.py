"""3D: MONAI's ResNet in the geometry of an inflated 2D net, cut into the parts of `Backbone`.

MONAI's default stem has stride 1; that of a 2D ResNet has stride 2. The geometry belongs to the weights: with a
stride-2 stem, projection shortcuts (type B) and no bias in them, MONAI's parameter names and arithmetic are those
of timm's ResNet of the same depth, one axis more. Type A shortcuts are not used: MONAI detaches them from the graph.
"""

from __future__ import annotations

import os

# `import monai` pulls in mlflow, which would report to its makers; medres reports to nobody
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

from monai.networks.nets.resnet import ResNet
from torch import nn

from medres.models.backbone import Backbone
from medres.models.stem import RGB, first_conv, folded_conv

#: Residual block and blocks of each stage (He et al. 2015, arXiv:1512.03385; depth 10: Chen et al. 2019,
#: arXiv:1904.00625; depth 200: He et al. 2016, arXiv:1603.05027).
_LAYERS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
    "resnet200": ("bottleneck", (3, 24, 36, 3)),
}

_PARTS = {
    "stem": ("conv1", "bn1", "act", "maxpool"),
    **{f"layer{number}": (f"layer{number}",) for number in range(1, 5)},
    "pool": ("pool",),
}


def build_monai_backbone(arch: str, *, in_channels: int) -> Backbone:
    """Return a randomly initialised 3D net of MONAI without its classifier.

    Args:
        arch: A name of ``list_archs(spatial_dims=3)``.
        in_channels: Channels of the input. Any number but 3 gets a `FoldedConv` as its stem.
    """
    block, layers = _LAYERS[arch]
    net = ResNet(
        block, list(layers), [64, 128, 256, 512], spatial_dims=3, n_input_channels=in_channels,
        conv1_t_size=7, conv1_t_stride=2, shortcut_type="B", bias_downsample=False, feed_forward=False,
    )  # fmt: skip
    children = {name: child for name, child in net.named_children() if name != "avgpool"}
    children["pool"] = nn.Sequential(net.avgpool, nn.Flatten(1))
    stem_conv = first_conv(children)
    if in_channels != RGB:
        children[stem_conv] = folded_conv(net.get_submodule(stem_conv))
    return Backbone(
        children, parts=_PARTS, arch=arch, spatial_dims=3, in_channels=in_channels,
        num_features=512 * (4 if block == "bottleneck" else 1), stem_conv=stem_conv,
    )  # fmt: skip
