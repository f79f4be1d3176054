"""Published weights by the tags of timm's registry, such as ``resnet50.a1_in1k``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import timm
import torch
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg

from medres.models.input_statistics import InputStatistics
from medres.models.names import builtin_archs


@dataclass(frozen=True)
class TimmTag:
    """Weights that timm publishes.

    Args:
        name: Architecture and tag.
        arch: Architecture.
        repo_id: On the Hugging Face hub.
        release_file: File name of the original release, empty where there was none.
        statistics: What they expect of their input.
        num_classes: Of their classifier.
        licence: As timm states it, empty where it does not.
    """

    name: str
    arch: str
    repo_id: str
    release_file: str
    statistics: InputStatistics
    num_classes: int
    licence: str


def default_tag(arch: str) -> TimmTag | None:
    """Return the weights that timm takes for an architecture, None where it has none.

    Example:
        >>> default_tag("resnet50").name
        'resnet50.a1_in1k'
        >>> default_tag("resnet50t") is None
        True
    """
    config = get_pretrained_cfg(arch)
    return _tag(config) if config is not None and config.hf_hub_id else None


def tags_of(arch: str) -> dict[str, TimmTag]:
    """Return all weights that timm publishes for an architecture, by their names."""
    configs = get_arch_pretrained_cfgs(arch).values()
    return {tag.name: tag for tag in (_tag(config) for config in configs if config.hf_hub_id)}


def tag_of_file(file_name: str) -> TimmTag | None:
    """Return the weights that a file holds by its name: a tag or the name of timm's original release.

    Example:
        >>> tag_of_file("resnetv2_50x1_bit.goog_in21k.safetensors").statistics.mean
        (0.5, 0.5, 0.5)
        >>> tag_of_file("resnet50_a1_0-14fe96d1.pth").name
        'resnet50.a1_in1k'
        >>> tag_of_file("ours.pth") is None
        True
    """
    by_file = _by_file()
    return by_file.get(file_name) or by_file.get(PurePosixPath(file_name).stem)


def tag_of_repository(repo_id: str) -> TimmTag | None:
    """Return the weights that a repository of the hub holds, where it is one of timm's.

    Example:
        >>> tag_of_repository("timm/resnet50.a1_in1k").arch, tag_of_repository("hospital/resnet50.a1_in1k")
        ('resnet50', None)
    """
    tag = tag_of_file(PurePosixPath(repo_id).name)
    return tag if tag is not None and tag.repo_id == repo_id else None


def download_bytes(tag: TimmTag) -> int:
    """Return about how large the file is: its float32 tensors."""
    with torch.device("meta"):
        net = timm.create_model(tag.arch, pretrained=False, num_classes=tag.num_classes)
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())


@cache
def _by_file() -> dict[str, TimmTag]:
    tags = [tag for arch in builtin_archs(spatial_dims=2) for tag in tags_of(arch).values()]
    return {tag.release_file: tag for tag in tags if tag.release_file} | {tag.name: tag for tag in tags}


def _tag(config: Any) -> TimmTag:
    url = config.url if isinstance(config.url, str) else ""
    return TimmTag(
        name=f"{config.architecture}.{config.tag}" if config.tag else config.architecture,
        arch=config.architecture,
        repo_id=config.hf_hub_id,
        release_file=PurePosixPath(url).name,
        statistics=InputStatistics(tuple(config.mean), tuple(config.std), config.input_size[-1]),
        num_classes=config.num_classes,
        licence=config.license or "",
    )
