"""What a set of tensors is: read from their names and shapes, for error messages that help."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import torch

from medres.models.checkpoints import CLASSIFIER_PARTS, TRAINING_PARTS, is_part_of
from medres.models.names import builtin_archs
from medres.models.stem import RGB
from medres.models.timm_networks import build_timm_backbone
from medres.runs.plain_data import shortened

_SHOWN = 3
_STEM = re.compile(r"conv1\.(0\.)?weight|stem\.conv1?\.weight")
_BLOCK = re.compile(r"(?:layer|stages\.)(\d+)\.(?:blocks\.)?(\d+)\.conv(\d)\.weight")


def describe(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return in words what network the tensors come from, as far as their names and shapes tell.

    Example:
        >>> block = {f"layer1.0.conv{number}.weight": torch.zeros(8, 8, 3, 3) for number in (1, 2)}
        >>> describe({"conv1.weight": torch.zeros(8, 1, 3, 3), **block})
        'a ResNet-4 with 8 channels (1 basic blocks, 3x3 stem of 1 channels)'
    """
    depths, channels, convs = _layout(tensors)
    if not depths:
        return f"a network whose names medres does not know ({shown_names(list(tensors))})"
    kind = "bottleneck" if convs == 3 else "basic"
    widths, blocks = ("/".join(map(str, values)) for values in (channels, depths))
    return f"a ResNet-{_depth(depths, convs)} with {widths} channels ({blocks} {kind} blocks{_stem(tensors)})"


def shown_names(names: Sequence[str]) -> str:
    """Return the first names of tensors for a message, and what all of them begin with.

    Example:
        >>> shown_names(["net_a.stem.weight", "net_a.stem.bias"])
        'net_a.stem.weight, net_a.stem.bias; all names begin with net_a.stem.'
        >>> shown_names(["conv.weight", "block.1.weight", "block.2.weight", "out.bias"])
        'conv.weight, block.1.weight, block.2.weight, and 1 more'
    """
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    first, last = (name.split(".")[:-1] for name in (min(names, default=""), max(names, default="")))
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    prefix = "".join(f"{part}." for part, _ in shared)
    said = f"; all names begin with {shortened(prefix)}" if prefix and len(names) > 1 else ""
    return ", ".join(map(shortened, names[:_SHOWN])) + more + said


def fitting_archs(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the 2D names whose network has exactly these tensors.

    Classifier, input channels and counters of batch norm do not count: a network among these names may still not take
    the tensors.
    """
    depths, _, convs = _layout(tensors)
    if not depths:
        return []
    depth, shapes = _depth(depths, convs), _shapes(tensors)
    pre_activation = any(name.startswith("stages.") for name in tensors)
    # a name carries its depth, give or take two (resnetrs270 has 272); other nets need not be built
    candidates = [
        name
        for name in builtin_archs(spatial_dims=2)
        if "res" in name  # resnet, resnest, res2net, ...: other families have other blocks
        and any(abs(int(number) - depth) <= 2 for number in re.findall(r"\d+", name))
        and name.startswith("resnetv2") == pre_activation
    ]
    return [name for name in candidates if _is_made_of(name, shapes)]


def _is_made_of(arch: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    with torch.device("meta"):
        backbone = build_timm_backbone(arch, in_channels=RGB)
    own = _shapes(backbone.net.state_dict())
    stem = f"{backbone.stem_conv}.weight"
    if len(shapes.get(stem, ())) == len(own[stem]):
        own[stem] = (own[stem][0], shapes[stem][1], *own[stem][2:])
    return own == shapes


def _layout(tensors: Mapping[str, torch.Tensor]) -> tuple[list[int], list[int], int]:
    """Blocks of each stage, output channels of each stage, convolutions in a block."""
    blocks: dict[int, dict[int, int]] = {}
    channels: dict[int, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        if found := _BLOCK.fullmatch(name):
            stage, block, conv = map(int, found.groups())
            blocks.setdefault(stage, {})[block] = max(conv, blocks.get(stage, {}).get(block, 0))
            channels[stage] = max(channels.get(stage, (0, 0)), (conv, tensor.shape[0]))
    stages = sorted(blocks)
    convs = max((count for stage in blocks.values() for count in stage.values()), default=0)
    return [len(blocks[stage]) for stage in stages], [channels[stage][1] for stage in stages], convs


def _depth(blocks: list[int], convs: int) -> int:
    # counted as in He et al. 2015: the convolutions of the blocks, the stem, the classifier
    return sum(blocks) * max(convs, 2) + 2


def _stem(tensors: Mapping[str, torch.Tensor]) -> str:
    stem = next((tensor for name, tensor in tensors.items() if tensor.ndim >= 4 and _STEM.match(name)), None)
    return f", {'x'.join(map(str, stem.shape[2:]))} stem of {stem.shape[1]} channels" if stem is not None else ""


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    left_out = (*CLASSIFIER_PARTS, *TRAINING_PARTS)
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if not is_part_of(name, left_out) and not name.endswith(("num_batches_tracked", "offset_kernel"))
    }
