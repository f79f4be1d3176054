"""The names that other programs give to a network's tensors, brought to those of timm and torchvision.

Taken off: wrappers (``module.`` of DataParallel, MedicalNet's ``module.``, Lightning's ``model.`` or ``net.``, an
``encoder.`` inside of something larger), and whatever else stands before the stem and the layers of a known network.
Chosen: one network where a file holds several (averaged weights, the teacher of DINO, the query encoder of MoCo:
`medres.models.several_networks`), with a note that says what was left. Renamed: networks that were saved as a row of
numbered modules (RadImageNet: ``backbone.4.0.conv1.weight``), torchvision's RegNets, the first DenseNets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from medres.models.several_networks import BRANCHES, best_network, is_averaged, network_roots

#: First part of the names of a classifier: torchvision and timm, medres and timm, others.
CLASSIFIER_PARTS = ("fc", "head", "classifier", "linear", "last_linear")

#: First part of the names of what is needed in training only.
TRAINING_PARTS = ("criterion", "loss", "loss_fn")

_WRAPPERS = ("module", "model", "backbone", "encoder", "network", "net", "_orig_mod", "resnet", "base_model", "trunk")

#: They hold the whole network: what lies beside them may be metrics and losses, but no second network.
_CONTAINERS = ("model", "module", "network", "net")

#: Children of a torchvision or timm ResNet by their number, as ``nn.Sequential(*resnet.children())`` names them.
_NUMBERED_RESNET = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4", 9: "fc"}

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class NamedTensors:
    """Tensors by the names of timm and torchvision.

    Args:
        tensors: By name.
        notes: What was left out or renamed, for the user.
    """

    tensors: dict[str, torch.Tensor]
    notes: tuple[str, ...] = ()


def plainly_named(tensors: Mapping[str, torch.Tensor]) -> NamedTensors:
    """Return one network's tensors by the names of timm and torchvision.

    Example:
        >>> kernel, bias = torch.zeros(4, 3, 3, 3), torch.zeros(2)
        >>> moco = {"module.encoder_q.conv1.weight": kernel, "module.encoder_k.conv1.weight": kernel}
        >>> plainly_named(moco).notes
        ('of several networks encoder_q was taken; left out: 1 tensors (encoder_k.conv1.weight)',)
        >>> list(plainly_named({"backbone.0.weight": kernel, "backbone.4.0.conv1.weight": kernel}).tensors)
        ['conv1.weight', 'layer1.0.conv1.weight']
    """
    current, notes = unwrapped(tensors), []
    while (branch := _branch(current)) is not None:
        classifier = {name for name in current if is_part_of(name, CLASSIFIER_PARTS)}
        left = {name: tensor for name, tensor in current.items() if name not in branch.names | classifier}
        if left:
            notes.append(_left_out(branch, left))
        kept = [name for name in current if name in classifier - branch.names]
        inner = {name.removeprefix(branch.root): current[name] for name in current if name in branch.names}
        current = unwrapped({**{name: current[name] for name in kept}, **inner})
    return NamedTensors({_renamed(current)(name): tensor for name, tensor in current.items()}, tuple(notes))


def unwrapped(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take wrappers off the names, such as ``module.`` of DataParallel or ``backbone.net.`` of medres.

    Example:
        >>> list(unwrapped({"module.encoder.conv1.weight": torch.zeros(1), "module.fc.bias": torch.zeros(1)}))
        ['conv1.weight', 'fc.bias']
    """
    names = {name: name for name in tensors}
    while (wrapper := _common_wrapper(names.values())) is not None:
        names = {given: name.removeprefix(wrapper) for given, name in names.items()}
    return {name: tensors[given] for given, name in names.items()}


def is_part_of(name: str, parts: tuple[str, ...]) -> bool:
    """Return whether the first part of a tensor's name is one of ``parts``."""
    return name.partition(".")[0] in parts


def _common_wrapper(names: Iterable[str]) -> str | None:
    inner = [name for name in names if not is_part_of(name, CLASSIFIER_PARTS + TRAINING_PARTS)]
    for wrapper in (*_WRAPPERS, *BRANCHES):
        if inner and all(name.startswith(f"{wrapper}.") for name in inner):
            return f"{wrapper}."
    return None


@dataclass(frozen=True)
class _Branch:
    """One network among tensors: what stands before its names (a dot at its end), and all of these names."""

    root: str
    names: frozenset[str]


def _branch(tensors: Mapping[str, torch.Tensor]) -> _Branch | None:
    """Return the network that is taken, None where there is nothing beside it and nothing before its names."""
    kernels = [name for name, tensor in tensors.items() if tensor.ndim >= 4]
    if roots := network_roots(kernels):
        return None if roots == [""] else _best_of(roots, tensors)
    for branch in (*BRANCHES, *_CONTAINERS):
        inside = [name for name in kernels if name.startswith(f"{branch}.")]
        if inside and (branch in BRANCHES or len(inside) == len(kernels)):
            return _Branch(f"{branch}.", _below(f"{branch}.", tensors, ()))
    return None


def _best_of(roots: Iterable[str], tensors: Mapping[str, torch.Tensor]) -> _Branch:
    branches = {tuple(root.split(".")[:-1]): _Branch(root, _below(root, tensors, roots)) for root in roots}
    relative = {
        path: {name.removeprefix(branch.root): tensors[name] for name in branch.names}
        for path, branch in branches.items()
    }
    return branches[best_network(relative)]


def _below(root: str, names: Iterable[str], roots: Iterable[str]) -> frozenset[str]:
    inside = tuple(other for other in roots if other != root and other.startswith(root))
    return frozenset(name for name in names if name.startswith(root) and not name.startswith(inside))


def _left_out(branch: _Branch, left: Mapping[str, torch.Tensor]) -> str:
    taken = branch.root.rstrip(".") or "the outer one"
    averaged = " (averaged weights)" if is_averaged(taken.split(".")) else ""
    several = "of several networks " if any(tensor.ndim >= 4 for tensor in left.values()) else ""
    return f"{several}{taken}{averaged} was taken; left out: {len(left)} tensors ({_first(list(left))})"


def _renamed(tensors: Mapping[str, torch.Tensor]) -> Callable[[str], str]:
    if "0.conv0.weight" in tensors:
        return lambda name: _old_densenet(re.sub(r"^0\.", "features.", name))
    if "4.0.conv1.weight" in tensors:
        return _of_numbered_resnet
    if "layer0.0.weight" in tensors:
        # nn.Sequential(conv1, bn1, ...) as layer0 of networks for segmentation
        return lambda name: re.sub(r"^layer0\.([01])\.", lambda found: f"{_NUMBERED_RESNET[int(found[1])]}.", name)
    if "stem.0.weight" in tensors and any(name.startswith("trunk_output.") for name in tensors):
        return _of_torchvision_regnet
    return _old_densenet


def _of_numbered_resnet(name: str) -> str:
    number, _, rest = name.partition(".")
    known = _NUMBERED_RESNET.get(int(number)) if number.isdigit() else None
    return f"{known}.{rest}" if known else name


def _old_densenet(name: str) -> str:
    # before torchvision 0.4 the modules of a dense layer were called norm.1, conv.1, ...
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


#: As timm names the parts of torchvision's RegNet blocks (timm/models/regnet.py, ``_filter_fn``), in working order.
_REGNET_BLOCK = (
    ("f.a.0", "conv1.conv"), ("f.a.1", "conv1.bn"), ("f.b.0", "conv2.conv"), ("f.b.1", "conv2.bn"),
    ("f.se.fc", "se.fc"), ("f.c.0", "conv3.conv"), ("f.c.1", "conv3.bn"), ("proj.0", "downsample.conv"),
    ("proj.1", "downsample.bn"),
)  # fmt: skip


def _of_torchvision_regnet(name: str) -> str:
    name = name.replace("stem.0.", "stem.conv.").replace("stem.1.", "stem.bn.")
    name = re.sub(
        r"^trunk_output\.block(\d)\.block\d+-(\d+)\.", lambda found: f"s{found[1]}.b{int(found[2]) + 1}.", name
    )
    for theirs, ours in _REGNET_BLOCK:
        name = name.replace(f".{theirs}", f".{ours}")
    return name


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
