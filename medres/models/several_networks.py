"""A file with more than one network: where each one begins, and the rule by which one of them is taken.

**The rule.** Averaged weights (their names say ``ema``, ``swa``, ``averaged``, ``shadow`` or ``polyak``) before those
of the last step: they are what training programs evaluate. Then the network that a method's authors evaluate: the
teacher of DINO, the encoder of MoCo and BYOL that is trained by gradient before its slow copy. Then the usual keys of
training states, then the order of the file. Averaged weights that lack a part of a layer (an average of parameters
without the statistics of batch norm) are no network and are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch

#: One network of several, the better one first.
BRANCHES = (
    "teacher", "encoder_q", "base_encoder", "online_encoder", "online_network", "student", "backbone", "encoder",
    "trunk",
)  # fmt: skip

#: Keys of training states, the likelier one first. The last ones are those of DINO and of networks saved in pieces.
STATE_DICT_KEYS = (
    "state_dict", "model_state_dict", "model", "module", "network", "net", "weights", "teacher", "student", "backbone",
    "encoder",
)  # fmt: skip

_AVERAGED = re.compile(r"(?<![a-z])(ema|swa|averaged?|avg|polyak|shadow)(?![a-z])")
_SLOW_COPY = re.compile(r"(?<![a-z])(momentum|target|key|k)(?![a-z])")
_SECOND_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")

#: Beginnings of a stem and of the layers after it, as the networks of medres (and torchvision's) name them. Side by
#: side they are a network; inside of a block there is a ``conv1``, but no ``layer1`` beside it.
_STEM_AND_TRUNK = (
    ("conv1", "layer1"), ("layer0", "layer1"), ("stem", "stages"), ("stem", "s1"), ("stem", "trunk_output"),
    ("features.conv0", "features.denseblock1"),
    # nn.Sequential(*network.children())
    ("0.weight", "4.0.conv1"), ("0.0.weight", "4.0.conv1"), ("0.conv0", "0.denseblock1"),
)  # fmt: skip


def is_averaged(path: Sequence[str]) -> bool:
    """Return whether a part of a name says that weights were averaged over training.

    Example:
        >>> [is_averaged([part]) for part in ("state_dict_ema", "modelEMA", "swa_model", "schema", "avgpool")]
        [True, True, True, False, False]
    """
    return any(_AVERAGED.search(_words(part)) for part in path)


def network_roots(names: Iterable[str]) -> list[str]:
    """Return what stands before the names of each network among tensors, in their order; ``""`` is nothing.

    Example:
        >>> network_roots(["cnn.conv1.weight", "cnn.layer1.0.conv1.weight", "fc.weight", "ema.conv1.weight"])
        ['cnn.']
    """
    beginnings = {beginning: None for name in names for beginning in _beginnings(name)}
    roots: dict[str, None] = {}
    for beginning in beginnings:
        for stem, trunk in _STEM_AND_TRUNK:
            root = beginning.removesuffix(stem)
            if beginning.endswith(stem) and root[-1:] in ("", ".") and f"{root}{trunk}" in beginnings:
                roots[root] = None
    # no network inside of another
    return [root for root in roots if not any(root != other and root.startswith(other) for other in roots if other)]


def best_network(candidates: Mapping[tuple[str, ...], Mapping[str, torch.Tensor]]) -> tuple[str, ...]:
    """Return which of several networks is taken, by the rule above.

    Args:
        candidates: By the parts of what stands before their names, tensors by the names that are left.

    Example:
        >>> net = {"conv1.weight": torch.zeros(1)}
        >>> best_network({("state_dict",): net, ("state_dict_ema",): net})
        ('state_dict_ema',)
        >>> best_network({("encoder_k",): net, ("encoder_q",): net})
        ('encoder_q',)
    """
    ranked = sorted(candidates, key=_rank)
    others = [candidates[path] for path in ranked if not is_averaged(path)]
    return next(
        (path for path in ranked if not is_averaged(path) or _has_whole_layers(candidates[path], others)), ranked[0]
    )


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _rank(path: tuple[str, ...]) -> tuple[bool, bool, list[int]]:
    slow = any(_SLOW_COPY.search(_words(part)) for part in path)
    # by the keys of a training state first, by the branches inside of it then
    return (not is_averaged(path), slow, [_place(part) for part in path])


def _place(part: str) -> int:
    known = (*STATE_DICT_KEYS[:7], *BRANCHES)
    return known.index(part) if part in known else len(known)


def _has_whole_layers(averaged: Mapping[str, torch.Tensor], others: Iterable[Mapping[str, torch.Tensor]]) -> bool:
    layers = {name.rpartition(".")[0] for name in averaged}
    kernels = {name for name, tensor in averaged.items() if tensor.ndim > 1}
    return not any(
        name not in averaged and name.rpartition(".")[0] in layers
        for other in others
        if kernels <= other.keys()  # the same network
        for name in other
        if not name.endswith("num_batches_tracked")
    )


def _words(part: str) -> str:
    return _SECOND_CAPITAL.sub("_", part).lower()
