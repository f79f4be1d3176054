"""The geometry of a 3D ResNet: strides, dilations and shortcuts, which no tensor of published weights shows.

Two networks of one depth may have the same tensors and compute other features. ``standard`` is the geometry of the 2D
ResNet of the same name, one axis more: stages at strides 4, 8, 16, 32, so that a 2D net can be inflated into it.
``medicalnet`` is that of MedicalNet (Chen et al. 2019, arXiv:1904.00625; github.com/Tencent/MedicalNet,
``models/resnet.py``): layer3 and layer4 keep the stride of layer2 and are dilated by 2 and 4 instead, total stride 8;
depths 18 and 34 have no weights in their shortcuts (type A).

**Thick slices**: a stem of stride ``(1, 2, 2)`` leaves the slices alone. Its first convolution and its pooling do not
stride along D, and the pooling does not look along D. With slices four times as thick as a pixel the voxels behind the
stem are cubes, and what pretrained kernels do to cubes is what they learnt.

A network of any other geometry than ``standard`` with a stem of stride 2 keeps its geometry among its tensors (`KEY`):
loaded into another one, it is refused, although all other tensors may fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (its name everywhere)

from medres.errors import ModelError, WeightsError

GeometryName = Literal["standard", "medicalnet"]

#: Name of the tensor that tells the geometry: stride of the stem along D, H, W, then dilation of layer3 and layer4.
KEY = "maxpool.geometry"

#: Residual block and blocks of each stage (He et al. 2015, arXiv:1512.03385; depth 10: Chen et al. 2019,
#: arXiv:1904.00625; depth 200: He et al. 2016, arXiv:1603.05027).
LAYERS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
    "resnet200": ("bottleneck", (3, 24, 36, 3)),
}

_DILATIONS: dict[GeometryName, tuple[int, int]] = {"standard": (1, 1), "medicalnet": (2, 4)}

#: README of MedicalNet, ``--resnet_shortcut``. The standard geometry has weights in all of its shortcuts (type B).
_WITHOUT_SHORTCUT_WEIGHTS = ("resnet18", "resnet34")

_DEFAULT_STRIDE = (2, 2, 2)


@dataclass(frozen=True)
class Geometry:
    """Strides, dilations and shortcuts of a 3D ResNet.

    Args:
        name: ``standard`` or ``medicalnet``.
        stem_stride: Stride along D, H, W of the first convolution and again of the pooling after it, each 1 or 2.

    Raises:
        ModelError: There is no such geometry.

    Example:
        >>> Geometry().total_strides, Geometry("medicalnet").total_strides
        ((32, 32, 32), (8, 8, 8))
        >>> Geometry(stem_stride=(1, 2, 2)).total_strides
        (8, 32, 32)
    """

    name: GeometryName = "standard"
    stem_stride: tuple[int, int, int] = _DEFAULT_STRIDE

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.name not in get_args(GeometryName):
            raise ModelError(f"Geometry {self.name!r} is not known.", fix=f"Choose {' or '.join(_DILATIONS)}.")
        if len(self.stem_stride) != 3 or not set(self.stem_stride) <= {1, 2}:
            raise ModelError(
                f"stem_stride is {tuple(self.stem_stride)}; it has three numbers, each 1 or 2.",
                fix="Use (1, 2, 2) for thick slices along D, (2, 2, 2) otherwise.",
            )
        if self.name == "medicalnet" and self.stem_stride != _DEFAULT_STRIDE:
            raise ModelError(
                f"stem_stride is {self.stem_stride}, but MedicalNet's stem has a stride of 2 along each axis.",
                fix="Leave stem_stride out: the total stride of MedicalNet is 8, that of a thick-slice stem along D.",
            )

    @property
    def dilations(self) -> tuple[int, int]:
        """Dilation of layer3 and layer4."""
        return _DILATIONS[self.name]

    @property
    def total_strides(self) -> tuple[int, ...]:
        """Input voxels a voxel of the last feature map, along D, H, W."""
        behind_stem = 8 if self.dilations == (1, 1) else 2
        return tuple(stride**2 * behind_stem for stride in self.stem_stride)

    def shortcut_type(self, arch: str) -> Literal["A", "B"]:
        """Return A where shortcuts have no weights, else B."""
        return "A" if self.name == "medicalnet" and arch in _WITHOUT_SHORTCUT_WEIGHTS else "B"

    def as_tensor(self) -> torch.Tensor:
        """Return what `geometry_in` reads."""
        return torch.tensor([*self.stem_stride, *self.dilations])


#: That of an inflated 2D ResNet.
DEFAULT = Geometry()


def choose_geometry(
    name: GeometryName | None,
    stem_stride: Sequence[int] | None,
    *,
    spatial_dims: int,
    stated: Geometry | None = None,
    source: str = "",
) -> Geometry:
    """Return the geometry of a network, by what is asked for and what its weights state.

    Args:
        name: Asked for; None: as the weights state, else ``standard``.
        stem_stride: The same.
        spatial_dims: 2 or 3; a 2D net has the geometry that timm gives it.
        stated: By the weights, None where they do not.
        source: Name of the weights.

    Raises:
        ModelError: It cannot be.
        WeightsError: The weights were trained in another.

    Example:
        >>> choose_geometry(None, (1, 2, 2), spatial_dims=3)
        Geometry(name='standard', stem_stride=(1, 2, 2))
    """
    if spatial_dims == 2:
        _refuse_in_2d(name, stem_stride)
        return DEFAULT
    if name is not None and stated is not None and name != stated.name:
        raise WeightsError(
            f"{source} was trained in the geometry {stated.name}; the network is asked for in {name}: it would "
            "compute other features.",
            fix=f"Use geometry {stated.name}, or other weights.",
        )
    base = stated or DEFAULT
    stride = base.stem_stride if stem_stride is None else tuple(stem_stride)
    return Geometry(name or base.name, cast(tuple[int, int, int], stride))


def geometry_in(tensors: Mapping[str, torch.Tensor]) -> Geometry | None:
    """Return the geometry that tensors state under a name ending in `KEY`, None where they do not.

    A network that medres saved in the default geometry has no such tensor, but an ``offset_kernel``, as all of its own
    have that were not built for RGB.

    Raises:
        ModelError: It cannot be built.

    Example:
        >>> geometry_in({"backbone.net.maxpool.geometry": Geometry("medicalnet").as_tensor()}).name
        'medicalnet'
        >>> geometry_in({"conv1.weight": torch.zeros(64, 1, 7, 7, 7)}) is None
        True
    """
    for name, tensor in tensors.items():
        if f".{name}".endswith(f".{KEY}"):
            return _from_numbers([int(value) for value in tensor.flatten().tolist()])
    deep = any(tensor.ndim == 5 for tensor in tensors.values())
    ours = any(name.endswith(".offset_kernel") for name in tensors)
    return DEFAULT if deep and ours else None


def geometry_of_trained(tensors: Mapping[str, torch.Tensor]) -> Geometry | None:
    """Return the geometry of a network that medres trained: the default where it keeps none; None for a 2D network."""
    deep = any(tensor.ndim == 5 for tensor in tensors.values())
    return geometry_in(tensors) or (DEFAULT if deep else None)


def options_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return what `create_model` is to be given so that a network of medres fits its saved tensors; {} in 2D.

    Example:
        >>> options_of({"backbone.net.maxpool.geometry": Geometry("medicalnet").as_tensor()})
        {'geometry': 'medicalnet', 'stem_stride': (2, 2, 2)}
    """
    geometry = geometry_in(tensors)
    return {} if geometry is None else {"geometry": geometry.name, "stem_stride": geometry.stem_stride}


def arch_of(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return which 3D ResNet the tensors are of, by its blocks; None for another network.

    Example:
        >>> names = [f"layer{stage}.0.conv{conv}.weight" for stage in (1, 2, 3, 4) for conv in (1, 2)]
        >>> arch_of({name: torch.zeros(8, 8, 3, 3, 3) for name in names})
        'resnet10'
    """
    if not any(tensor.ndim == 5 for tensor in tensors.values()):
        return None
    convs = [name.split(".") for name, tensor in tensors.items() if name.startswith("layer") and tensor.ndim == 5]
    blocks = tuple(len({name[1] for name in convs if name[0] == f"layer{stage}"}) for stage in range(1, 5))
    kind = "bottleneck" if any(name[2:3] == ["conv3"] for name in convs) else "basic"
    return next((arch for arch, layers in LAYERS.items() if layers == (kind, blocks)), None)


class StemPool(nn.MaxPool3d):
    """Max-pooling of a stem that keeps the network's geometry among its tensors."""

    geometry: torch.Tensor

    def __init__(self, geometry: Geometry) -> None:
        window = [3 if stride == 2 else 1 for stride in geometry.stem_stride]
        super().__init__(tuple(window), stride=geometry.stem_stride, padding=tuple(size // 2 for size in window))
        self.stated = geometry
        self.register_buffer("geometry", geometry.as_tensor())

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}geometry")
        own = [*self.stated.stem_stride, *self.stated.dilations]  # the buffer itself may be on the meta device
        if given is None or given.tolist() == own:
            super()._load_from_state_dict(state_dict, prefix, *args)
        else:
            args[-1].append(f"the tensors are of a network with {_from_numbers(given.tolist())}, not {self.stated}.")


def geometry_of(net: nn.Module) -> Geometry:
    """Return the geometry that a 3D network was built with; the default for any other network."""
    pools = [module for module in net.modules() if isinstance(module, StemPool)]
    return pools[0].stated if pools else DEFAULT


class ZeroPaddedShortcut(nn.Module):
    """A shortcut without weights (type A of He et al. 2015): every ``stride``-th voxel, zeros in the new channels.

    MedicalNet and MONAI cut it out of the graph (``out.data``), so that no gradient came down the shortcut. Here it
    does; the output is the same.

    Args:
        out_channels: Channels of the block's output.
        stride: Stride of the block.

    Example:
        >>> ZeroPaddedShortcut(3, stride=2)(torch.ones(1, 1, 4, 4, 4)).sum((0, 2, 3, 4))
        tensor([8., 0., 0.])
    """

    def __init__(self, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, out_channels, d, h, w)`` of ``(B, C, D, H, W)``."""
        step = self.stride
        kept = x[:, :, ::step, ::step, ::step]
        return F.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.out_channels - x.shape[1]))


def dilate(layer: nn.Module, dilation: int) -> None:
    """Take the stride out of a stage and spread its 3x3x3 kernels instead, in place."""
    for module in layer.modules():
        if isinstance(module, nn.Conv3d):
            module.stride = (1, 1, 1)
            if module.kernel_size == (3, 3, 3):
                module.dilation = module.padding = (dilation,) * 3
        elif isinstance(module, ZeroPaddedShortcut):
            module.stride = 1


def _refuse_in_2d(name: GeometryName | None, stem_stride: Sequence[int] | None) -> None:
    if name not in (None, "standard") or stem_stride is not None:
        given = f"geometry {name!r}" if stem_stride is None else f"stem_stride {tuple(stem_stride)}"
        raise ModelError(f"{given} is a choice of 3D networks.", fix="Leave it out, or use spatial_dims=3.")


def _from_numbers(numbers: list[int]) -> Geometry:
    names = [name for name, dilations in _DILATIONS.items() if list(dilations) == numbers[3:]]
    if len(numbers) != 5 or not names:
        raise ModelError(f"The geometry {numbers} of a saved network is not known.", fix="Update medres.")
    return Geometry(names[0], cast(tuple[int, int, int], tuple(numbers[:3])))
