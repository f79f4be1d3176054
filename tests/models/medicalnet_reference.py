"""MedicalNet's network, built from what was published: Chen et al. 2019 and ``models/resnet.py`` of Tencent/MedicalNet.

Neither MONAI nor medres is used, so that the two ways to the same features are independent. Only the shortcut without
weights differs from the original: there the gradient is cut off, which changes no output.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- the field's own name

#: Depth: convolutions of a block, blocks of each stage, shortcut type (``--resnet_shortcut`` in the README).
DEPTHS: dict[int, tuple[int, tuple[int, ...], str]] = {
    10: (2, (1, 1, 1, 1), "B"),
    18: (2, (2, 2, 2, 2), "A"),
    34: (2, (3, 4, 6, 3), "A"),
    50: (3, (3, 4, 6, 3), "B"),
    101: (3, (3, 4, 23, 3), "B"),
    152: (3, (3, 8, 36, 3), "B"),
    200: (3, (3, 24, 36, 3), "B"),
}

#: Million parameters by the README's table, running statistics included.
MILLION_PARAMETERS = {10: 14.36, 18: 32.99, 34: 63.31, 50: 46.21, 101: 85.31, 152: 117.51, 200: 126.74}


class Block(nn.Module):
    """A residual block of two or three convolutions; the first 3x3x3 one of them may stride."""

    def __init__(self, before: int, width: int, convs: int, stride: int, dilation: int, kind: str) -> None:
        super().__init__()
        after = width if convs == 2 else 4 * width
        sizes = [(3, before, width), (3, width, width)] if convs == 2 else []
        sizes = sizes or [(1, before, width), (3, width, width), (1, width, after)]
        self.convs = convs
        strides = (stride, 1) if convs == 2 else (1, stride, 1)
        for number, ((size, source, target), step) in enumerate(zip(sizes, strides, strict=True), start=1):
            spread = dilation if size == 3 else 1
            conv = nn.Conv3d(source, target, size, step, spread * (size // 2), spread, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm3d(target))
        self.changes, self.stride, self.after, self.kind = stride != 1 or before != after, stride, after, kind
        if self.changes and kind == "B":
            projection = nn.Conv3d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm3d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.convs + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            y = F.relu(y) if number < self.convs else y
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if not self.changes:
            return x
        if self.kind == "B":
            return self.downsample(x)  # type: ignore[no-any-return]
        x = F.avg_pool3d(x, kernel_size=1, stride=self.stride)
        return torch.cat([x, x.new_zeros(x.shape[0], self.after - x.shape[1], *x.shape[2:])], dim=1)


class MedicalNet(nn.Module):
    """Volumes ``(B, 1, D, H, W)`` to the output of layer4, a grid of an eighth of the size along each axis."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        convs, blocks, kind = DEPTHS[depth]
        self.conv1 = nn.Conv3d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        before = 64
        for stage, (width, stride, dilation) in enumerate([(64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4)]):
            layer = []
            for number in range(blocks[stage]):
                layer.append(Block(before, width, convs, stride if number == 0 else 1, dilation, kind))
                before = layer[-1].after
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


def random_medicalnet(depth: int, *, seed: int = 0) -> MedicalNet:
    """Return the network in eval mode with random weights, statistics of its normalisation included."""
    torch.manual_seed(seed)
    net = MedicalNet(depth)
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.8, 1.5)  # type: ignore[arg-type]
    return net.eval()


def published(net: MedicalNet, *, with_head: bool = False) -> dict[str, dict[str, torch.Tensor]]:
    """Return what a file of the release holds: names of DataParallel below ``state_dict``."""
    tensors = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    if with_head:
        tensors["module.conv_seg.0.weight"] = torch.ones(8, 4, 2, 2, 2)
        tensors["module.conv_seg.0.bias"] = torch.ones(4)
    return {"state_dict": tensors}
