"""Which architecture names are ours, and why another one is refused.

2D: every net of those families of timm whose stages can be cut, decided by the module that registers it. 3D: MONAI's
ResNet in the depths that the literature uses. Names of installed plug-ins (`medres.models.plugins`) follow.
"""

from __future__ import annotations

import difflib
from functools import cache

import timm.models

from medres.errors import ModelError
from medres.models import plugins

#: timm modules all of whose nets are a stem and four stages, built from the classes ``ResNet`` (the first four),
#: ``ResNetV2``, ``SENet``, ``RegNet``, ``ConvNeXt`` and ``DenseNet``.
TIMM_MODULES = ("resnet", "resnest", "res2net", "sknet", "resnetv2", "senet", "regnet", "convnext", "densenet")

#: Depths of MONAI's ResNet.
MONAI_DEPTHS = (10, 18, 34, 50, 101, 152, 200)


def list_archs(*, spatial_dims: int) -> list[str]:
    """Return the names that `medres.models.factory.create_model` takes.

    Args:
        spatial_dims: 2 for images, 3 for volumes.

    Raises:
        ModelError: Another number of dimensions.

    Example:
        >>> list_archs(spatial_dims=3)
        ['resnet10', 'resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'resnet200']
        >>> "resnetv2_50x1_bit" in list_archs(spatial_dims=2)
        True
    """
    own = builtin_archs(spatial_dims=spatial_dims)
    return [*own, *(arch for arch in plugins.plugin_archs(spatial_dims=spatial_dims) if not is_builtin(arch))]


def builtin_archs(*, spatial_dims: int) -> list[str]:
    """Return the names that medres itself knows: `list_archs` without the plug-ins.

    Raises:
        ModelError: Another number of dimensions.
    """
    check_spatial_dims(spatial_dims)
    return list(_names(spatial_dims))


def is_builtin(arch: str) -> bool:
    """Return whether medres itself has a network of this name, in 2D or 3D."""
    return arch in _names(2) or arch in _names(3)


def is_arch(arch: str, *, spatial_dims: int) -> bool:
    """Return whether `list_archs` has this name; no plug-in of another name is imported to tell.

    Raises:
        ModelError: An installed plug-in of this name cannot be loaded.

    Example:
        >>> is_arch("resnet50d", spatial_dims=2), is_arch("resnet50d", spatial_dims=3)
        (True, False)
    """
    return arch in _names(spatial_dims) or plugins.has(arch, spatial_dims=spatial_dims)


def check_spatial_dims(spatial_dims: int) -> None:
    """Refuse anything but 2 and 3.

    Raises:
        ModelError: Naming what was given.
    """
    if spatial_dims not in (2, 3):
        raise ModelError(f"spatial_dims is {spatial_dims!r}.", fix="It must be 2 (images) or 3 (volumes).")


def check_arch(arch: str, *, spatial_dims: int) -> None:
    """Refuse a name that is not ours.

    Raises:
        ModelError: With the reason, near names, and how to list all of them.

    Example:
        >>> check_arch("resnet50", spatial_dims=3)
        >>> check_arch("resnet50d", spatial_dims=3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        medres.errors.ModelError: Architecture 'resnet50d' exists in 2D only. In 3D there are resnet10, ...
    """
    check_spatial_dims(spatial_dims)
    _check_no_clash(arch)
    if not is_arch(arch, spatial_dims=spatial_dims):
        reason, fix = _why_not(arch, spatial_dims)
        raise ModelError(f"Architecture {arch!r} {reason}.", fix=fix)


def require_arch(arch: str) -> None:
    """Refuse a name that is ours in neither 2D nor 3D, before it is known which of them the scans ask for.

    Raises:
        ModelError: With the reason, near names, and how to list all of them.
    """
    _check_no_clash(arch)
    if not is_arch(arch, spatial_dims=3):
        check_arch(arch, spatial_dims=2)


def donor_arch(arch: str, *, spatial_dims: int) -> str | None:
    """Return the timm net whose weights fit: ``arch`` itself in 2D, its inflatable 2D namesake in 3D (or None).

    A plug-in has none.

    Example:
        >>> donor_arch("resnet50", spatial_dims=3), donor_arch("resnet10", spatial_dims=3)
        ('resnet50', None)
    """
    del spatial_dims  # the names of medres in 3D are those of ResNets, whose kernels can be inflated
    return arch if arch in _names(2) else None


@cache
def _names(spatial_dims: int) -> tuple[str, ...]:
    if spatial_dims == 3:
        return tuple(f"resnet{depth}" for depth in MONAI_DEPTHS)
    return tuple(timm.models.list_models(module=list(TIMM_MODULES)))


def _check_no_clash(arch: str) -> None:
    if (packages := plugins.packages_of(arch)) and is_builtin(arch):
        raise ModelError(
            f"Architecture {arch!r} belongs to medres, but the plug-in {packages[0]} registers the same name.",
            fix=f"Uninstall {packages[0]}, or have its makers choose another name.",
        )


def _why_not(arch: str, spatial_dims: int) -> tuple[str, str]:
    base = arch.split(".", 1)[0]
    if base != arch and base in _names(spatial_dims):
        return "names weights, too", f"Type arch {base} and weights {arch}."
    if spatial_dims == 3:
        reason = "exists in 2D only" if is_arch(arch, spatial_dims=2) else "is not known in 3D"
        return reason, f"In 3D there are {', '.join(_names(3))}."
    if is_arch(arch, spatial_dims=3):
        return "exists in 3D only", f"For volumes use --dims 3. {_suggestion(arch)}"
    if (current := timm.models.get_deprecated_models().get(arch)) is not None:
        return "is a name that timm gave up", _renamed(current)
    if timm.models.is_model(arch):
        return _timm_reason(arch), _suggestion(arch)
    return "is not known", _suggestion(arch)


def _renamed(current: str) -> str:
    base = current.split(".", 1)[0]
    if base not in _names(2):
        return _suggestion(base)
    return f"Type {base}" + (f" with weights {current}." if base != current else ".")


#: Why nets of other modules of timm cannot be cut: by the beginning of the module's name.
_REASONS = {
    "vision_transformer": "reads patches in one row of equal blocks, with a position embedding of one image size",
    "swin": "computes in windows whose size is tied to that of the image",
    "byobnet": "is assembled from parts that differ from net to net, some with five stages",
    "efficientnet": "has seven groups of blocks, not four stages",
    "mobilenetv3": "has six or seven groups of blocks, not four stages",
    "hrnet": "computes four resolutions side by side, not one after the other",
    "dla": "is a tree of blocks with six levels",
    "inception": "has no four stages",
    "xception": "has no four stages",
    "vgg": "has no stem, but five groups of convolutions",
}


def _timm_reason(arch: str) -> str:
    module = timm.models.model_entrypoint(arch).__module__.rsplit(".", 1)[-1]
    known = next((reason for start, reason in _REASONS.items() if module.startswith(start)), "")
    why = known or "is not a chain of a stem and four stages that medres knows how to cut"
    return f"is a net of timm's family {module!r}, which {why}"


def _suggestion(arch: str) -> str:
    known = list(dict.fromkeys([*_names(2), *_names(3)]))  # some exist in 3D only
    begun = [name for name in known if arch and name.startswith(arch.lower())]  # resnext50: resnext50_32x4d
    close = difflib.get_close_matches(arch.lower(), known, n=4, cutoff=0.6)
    near = list(dict.fromkeys([*begun, *close]))[:4]
    did_you_mean = f"Did you mean {', '.join(near)}? " if near else ""
    return f"{did_you_mean}All names: medres archs, and medres archs --dims 3 for volumes."
