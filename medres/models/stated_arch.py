"""Which architecture weights say that they are of. Tensors alone may fit several.

Pooling that blurs before it strides (Zhang 2019, arXiv:1904.11486) has no tensors: ``resnet18`` and ``resnetblur18``
have the same ones and compute other features. What a file states is therefore compared with the network asked for: the
key ``arch`` of a safetensors header or ``architecture`` of a hub repository's ``config.json``, where that is a name of
medres, else the tag of timm that the file or repository is named after.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medres.errors import WeightsError
from medres.models.names import builtin_archs, is_builtin
from medres.models.timm_tags import TimmTag

#: What tells names with the same tensors apart: anti-aliasing, and a ConvNeXt with another head.
_WITHOUT_TENSORS = re.compile(r"blur|aa|_mlp$")


def stated_arch(header: Mapping[str, str], config: Mapping[str, Any], tag: TimmTag | None) -> str:
    """Return the architecture that weights state; empty where they state none that medres knows.

    Args:
        header: Of the file.
        config: Of its repository.
        tag: That the file or its repository is named after.

    Example:
        >>> stated_arch({"arch": "resnet18"}, {}, None), stated_arch({"arch": "our_net"}, {}, None)
        ('resnet18', '')
    """
    named = (header.get("arch"), config.get("architecture"), tag.arch if tag else None)
    return next((arch for arch in named if isinstance(arch, str) and is_builtin(arch)), "")


def require_stated_arch(stated: str, *, arch: str, spatial_dims: int, source: str) -> None:
    """Refuse weights that state another architecture than the one asked for.

    A plug-in's network may be built upon any other: it is not compared.

    Args:
        stated: By the weights, empty where they do not.
        arch: Asked for. In 3D a net and the 2D donor that is inflated into it bear the same name.
        spatial_dims: 2 or 3.
        source: Name of the weights.

    Raises:
        WeightsError: They differ.
    """
    if not stated or stated == arch or not is_builtin(arch):
        return
    only = "" if stated in builtin_archs(spatial_dims=spatial_dims) else f" ({5 - spatial_dims}D only)"
    mend = "Where the statement is wrong, mend the header or the name."
    raise WeightsError(
        f"{source} states by its header or name that it is of {stated}, not of {arch}.",
        fix=f"Use --arch {stated}{only}, or weights of {arch}. {mend}",
    )


def twins_of(arch: str) -> list[str]:
    """Return the other 2D names with exactly the tensors of ``arch``, by the names alone.

    Example:
        >>> twins_of("resnet50"), twins_of("resnet34")
        (['resnetaa50', 'resnetblur50'], [])
    """
    plain = _WITHOUT_TENSORS.sub("", arch)
    names = builtin_archs(spatial_dims=2)
    return [name for name in names if arch in names and name != arch and _WITHOUT_TENSORS.sub("", name) == plain]
