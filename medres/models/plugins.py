"""Backbones of other packages, found through the entry-point group ``medres.backbones``.

A package adds the network ``tiny_net`` with these lines in its ``pyproject.toml``::

    [project.entry-points."medres.backbones"]
    tiny_net = "their_package:build_tiny_net"

``build_tiny_net`` takes the keyword ``in_channels`` and returns a `medres.models.backbone.Backbone`. Its attribute
``spatial_dims`` (2 or 3) says what the network takes::

    def build_tiny_net(*, in_channels: int) -> Backbone: ...

    build_tiny_net.spatial_dims = 2

What it returns is tried on a small input before it is used: a network that breaks the contract is refused. A plug-in
runs code of its package on this machine, as any installed package does; one that is not asked for by name is imported
only when all names are listed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch
from torch import nn

from medres.errors import ModelError
from medres.models.backbone import STAGES, Backbone

#: Entry-point group.
GROUP = "medres.backbones"

#: Whatever a stranger's code raises. Also SystemExit: a script that ends in ``sys.exit`` may be registered as a module,
#: and would end a run without a word. Not KeyboardInterrupt, which is the user's.
_STRANGERS = (Exception, SystemExit)

#: Side of the input that a network is tried on, by spatial dims.
_PROBE_SIDE = {2: 64, 3: 32}


def plugin_archs(*, spatial_dims: int) -> list[str]:
    """Return the names of all installed plug-ins for images (2) or volumes (3), without those that cannot be loaded.

    Example:
        >>> plugin_archs(spatial_dims=2)
        []
    """
    names = []
    for name in _registered():
        try:
            if dims_of(name) == spatial_dims:
                names.append(name)
        except ModelError:
            continue  # `medres archs` says why, and so does asking for it by name
    return sorted(names)


def plugin_names() -> list[str]:
    """Return the names that installed plug-ins register, usable or not, without importing any."""
    return sorted(_registered())


def has(arch: str, *, spatial_dims: int) -> bool:
    """Return whether an installed plug-in adds this name for so many dimensions.

    Raises:
        ModelError: It does, but cannot be loaded.
    """
    return arch in _registered() and dims_of(arch) == spatial_dims


def packages_of(arch: str) -> list[str]:
    """Return the installed packages that register this name."""
    return sorted({_package(point) for point in _registered().get(arch, ())})


def dims_of(arch: str) -> int:
    """Return what a plug-in's network takes: 2 or 3.

    Raises:
        ModelError: The plug-in cannot be loaded, does not say so, or shares its name with another.
    """
    dims = getattr(_factory(arch), "spatial_dims", None)
    if dims not in (2, 3):
        raise _broken(arch, f"its factory's attribute spatial_dims is {dims!r}, not 2 or 3")
    return int(dims)


def build_plugin_backbone(arch: str, *, in_channels: int) -> Backbone:
    """Return a plug-in's network, after it was found to keep the contract of `Backbone`.

    On the meta device shapes are checked only.

    Args:
        arch: A name of `plugin_archs`.
        in_channels: Channels of the input.

    Raises:
        ModelError: The plug-in cannot be loaded, its factory fails, or its network breaks the contract.
    """
    dims = dims_of(arch)
    try:
        backbone: Backbone = _factory(arch)(in_channels=in_channels)
    except _STRANGERS as error:
        raise _broken(arch, f"its factory raises {type(error).__name__}: {error}") from error
    fault = _fault_of_parts(backbone, arch, dims, in_channels) or _fault_of_features(backbone)
    if fault:
        raise _broken(arch, fault)
    return backbone


def _registered() -> dict[str, tuple[EntryPoint, ...]]:
    return _on_path(tuple(sys.path))


@lru_cache(maxsize=4)
def _on_path(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    del path  # what is installed is what lies on the path
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        if point not in found.get(point.name, ()):
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def _factory(arch: str) -> Callable[..., Any]:
    points = _registered()[arch]
    if len(points) > 1:
        raise ModelError(
            f"Architecture {arch!r} is registered by {' and by '.join(packages_of(arch))}.",
            fix="Uninstall one of them.",
        )
    try:
        factory = points[0].load()
    except _STRANGERS as error:
        raise _broken(arch, f"{points[0].value} cannot be imported ({type(error).__name__}: {error})") from error
    if not callable(factory):
        raise _broken(arch, f"{points[0].value} is a {type(factory).__name__}, not a function")
    return factory  # type: ignore[no-any-return]


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _broken(arch: str, fault: str) -> ModelError:
    return ModelError(
        f"The plug-in backbone {arch!r} of {' and '.join(packages_of(arch))} cannot be used: {fault}.",
        fix="Tell its makers; what a backbone must keep is written in medres/models/plugins.py and backbone.py.",
    )


def _fault_of_parts(backbone: Any, arch: str, dims: int, in_channels: int) -> str:
    if not isinstance(backbone, Backbone):
        return f"its factory returns a {type(backbone).__name__}, not a medres.models.backbone.Backbone"
    said, asked = (backbone.arch, backbone.spatial_dims, backbone.in_channels), (arch, dims, in_channels)
    if said != asked:
        return f"its network says (arch, spatial_dims, in_channels) = {said}, asked for {asked}"
    return _fault_of_paths(backbone) or _fault_of_stages(backbone) or _fault_of_stem(backbone, in_channels)


def _fault_of_paths(backbone: Backbone) -> str:
    paths = [path for part in backbone.parts.values() for path in part]
    for path in paths:
        try:
            backbone.net.get_submodule(path)
        except AttributeError:
            return f"its part {path!r} does not exist in the network"
    return f"its parts name a module twice ({', '.join(paths)})" if len(set(paths)) < len(paths) else ""


def _fault_of_stages(backbone: Backbone) -> str:
    found = set()
    for name in backbone.state_dict():
        try:
            found.add(backbone.stage_of(name))
        except ModelError:
            return f"its tensor {name!r} belongs to no stage"
    missing = [stage for stage in STAGES[:-1] if stage not in found]
    return f"its stages {', '.join(missing)} have no parameters" if missing else ""


def _fault_of_stem(backbone: Backbone, in_channels: int) -> str:
    try:
        conv = backbone.net.get_submodule(backbone.stem_conv)
    except AttributeError:
        return f"its stem_conv {backbone.stem_conv!r} does not exist in the network"
    kind = nn.Conv2d if backbone.spatial_dims == 2 else nn.Conv3d
    if not isinstance(conv, kind) or conv.in_channels != in_channels:
        return f"its stem_conv {backbone.stem_conv!r} is no {kind.__name__} of {in_channels} channels"
    return ""


def _fault_of_features(backbone: Backbone) -> str:
    side, dims = _PROBE_SIDE[backbone.spatial_dims], backbone.spatial_dims
    device = next(backbone.parameters()).device
    x = torch.linspace(-1, 1, 2 * backbone.in_channels * side**dims, device=device)
    was_training = backbone.training
    try:
        with torch.no_grad():
            return _fault_of_outputs(backbone.eval(), x.view(2, backbone.in_channels, *[side] * dims))
    except _STRANGERS as error:
        return f"its network raises {type(error).__name__} on an input of {side} voxels a side: {error}"
    finally:
        backbone.train(was_training)


def _fault_of_outputs(backbone: Backbone, x: torch.Tensor) -> str:
    features, feature_map = backbone(x), backbone.feature_map(x)
    if features.shape != (len(x), backbone.num_features):
        return f"its features have shape {tuple(features.shape)}, not {(len(x), backbone.num_features)}"
    if feature_map.ndim != x.ndim or feature_map.shape[1] != backbone.num_features:
        return f"its feature map has shape {tuple(feature_map.shape)}, of {backbone.num_features} features"
    if features.is_meta:
        return ""
    if not bool(torch.isfinite(features).all()):
        return "its features are not finite"
    for stage in STAGES:
        prefix, suffix = backbone.split_at(stage)
        if not torch.equal(suffix(prefix(x)), features):
            return f"cut at {stage}, its two halves do not give the features of the whole"
    return ""
