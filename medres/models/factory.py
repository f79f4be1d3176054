"""``create_model``: any architecture, in 2D or 3D, with any number of channels, from pretrained or random weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from medres.errors import ModelError
from medres.models.backbone import Backbone
from medres.models.classifier import ClassificationModel
from medres.models.geometry import DEFAULT, Geometry, GeometryName, choose_geometry
from medres.models.inflation import Inflation, check_inflation
from medres.models.loading import (
    LoadingReport,
    fit_weights,
    input_statistics,
    load_pretrained,
    report_of,
    stated_geometry,
)
from medres.models.names import check_arch, check_spatial_dims, is_arch, is_builtin, list_archs, require_arch
from medres.models.plugins import build_plugin_backbone
from medres.models.slices import SliceModel
from medres.models.stochastic_depth import set_stochastic_depth
from medres.models.timm_networks import build_timm_backbone
from medres.models.weights import PretrainedWeights, no_weights_reason, resolve_weights
from medres.planning.facts import BackboneFacts
from medres.runs.host import independent_of_host

__all__ = ["backbone_facts", "create_model", "dims_of", "list_archs"]

#: Side of the input that the stride is probed with; more than the stride of any ResNet.
_PROBE_SIZE = 128


def create_model(
    arch: str,
    *,
    spatial_dims: int = 2,
    slicewise: bool = False,
    num_classes: int,
    in_channels: int = 1,
    weights: str | PretrainedWeights | None = "none",
    weights_dir: Path | None = None,
    inflation: Inflation = "mean",
    geometry: GeometryName | None = None,
    stem_stride: Sequence[int] | None = None,
    drop_rate: float = 0.0,
    drop_path: float = 0.0,
) -> ClassificationModel:
    """Build a classifier.

    A network built with the same arguments but ``weights="none"`` loads its ``state_dict`` strictly. Where `geometry`
    or `stem_stride` were left to the weights, the tensors tell what to give:
    ``**medres.models.geometry.options_of(tensors)``.

    Args:
        arch: A name of `list_archs`.
        spatial_dims: 2: input ``(B, C, H, W)``, a net of timm; 3: ``(B, C, D, H, W)``, MONAI's ResNet.
        slicewise: 2.5D (`medres.models.slices`): a net of timm reads ``(B, D, C, H, W)`` slice by slice, whatever
            `spatial_dims`.
        num_classes: Logits a scan.
        in_channels: Channels of the input; pretrained weights are kept for any number (`medres.models.stem`).
        weights: See `medres.models.weights`; random where it is ``none``.
        weights_dir: Looked into before the hub is asked; None: ``$MEDRES_WEIGHTS_DIR``.
        inflation: How 2D kernels become 3D: ``mean`` or ``center``.
        geometry: Of a 3D network, ``standard`` or ``medicalnet``; None: that of the weights, else ``standard``.
        stem_stride: Of a 3D network, stride along D, H, W of its first convolution and of the pooling after it:
            ``(1, 2, 2)`` for thick slices; None: that of the weights, else ``(2, 2, 2)``.
        drop_rate: Dropout before the head.
        drop_path: Stochastic depth of the last residual block (`medres.models.stochastic_depth`).

    Returns:
        The model in training mode. Random weights are drawn from torch's generator.

    Raises:
        ModelError: The architecture is not known, or a number cannot be.
        WeightsError: The weights are not to be had, or do not fit.

    Example:
        >>> model = create_model("resnet18", spatial_dims=3, num_classes=2).eval()
        >>> model(torch.zeros(1, 1, 32, 32, 32)).shape
        torch.Size([1, 2])
    """
    check_spatial_dims(spatial_dims)
    dims = 2 if slicewise else spatial_dims
    check_arch(arch, spatial_dims=dims)
    check_inflation(inflation)
    _check_numbers(num_classes, in_channels, drop_rate)
    pretrained = _resolved(weights, arch, dims, weights_dir)
    shape = _geometry(arch, geometry, stem_stride, dims, pretrained)
    backbone = _build(arch, dims, in_channels, shape)
    set_stochastic_depth(backbone, drop_path)
    model_class = SliceModel if slicewise else ClassificationModel
    if pretrained is None:
        return model_class(
            backbone, num_classes=num_classes, drop_rate=drop_rate, loading_report=_random(weights, backbone)
        )
    report = load_pretrained(backbone, pretrained, inflation=inflation)
    mean, std = input_statistics(backbone, pretrained)
    return model_class(
        backbone, num_classes=num_classes, drop_rate=drop_rate, loading_report=report, input_mean=mean, input_std=std
    )


def backbone_facts(
    arch: str,
    *,
    spatial_dims: int,
    weights: str | PretrainedWeights | None = "none",
    weights_dir: Path | None = None,
    in_channels: int = 1,
    geometry: GeometryName | None = None,
    stem_stride: Sequence[int] | None = None,
) -> BackboneFacts:
    """Return what the planner needs to know, without building the network in memory.

    Args:
        arch: A name of `list_archs`.
        spatial_dims: 2 or 3.
        weights: As in `create_model`; refused here already where they do not fit.
        weights_dir: As in `create_model`.
        in_channels: Channels of the input; a few of the parameters depend on it.
        geometry: As in `create_model`.
        stem_stride: As in `create_model`; ``total_stride`` is that of the axis with the largest.

    Raises:
        ModelError: The architecture is not known.
        WeightsError: The weights are not to be had, or do not fit.

    Example:
        >>> facts = backbone_facts("resnet50", spatial_dims=2)
        >>> facts.total_stride, facts.num_features
        (32, 2048)
    """
    check_arch(arch, spatial_dims=spatial_dims)
    _check_numbers(1, in_channels, 0.0)
    pretrained = _resolved(weights, arch, spatial_dims, weights_dir)
    shape = _geometry(arch, geometry, stem_stride, spatial_dims, pretrained)
    skeleton = _skeleton(arch, spatial_dims, in_channels, shape)
    facts = BackboneFacts(
        arch=arch,
        spatial_dims=spatial_dims,
        total_stride=_total_stride(skeleton),
        stem_stride=shape.stem_stride if spatial_dims == 3 and is_builtin(arch) else None,
        stem=_whose_stem(shape, pretrained),
        num_features=skeleton.num_features,
        num_parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
    )
    if pretrained is None:
        return facts
    fit_weights(skeleton, pretrained)
    return facts.model_copy(
        update={
            "input_size": pretrained.input_size,
            "input_mean": pretrained.mean,
            "input_std": pretrained.std,
            "pretrained": True,
            "weights_source": pretrained.source,
        }
    )


def loading_report(
    arch: str, *, spatial_dims: int, weights: PretrainedWeights, in_channels: int = 1,
    stem_stride: Sequence[int] | None = None,
) -> LoadingReport:  # fmt: skip
    """Return what `create_model` would report, without building the network in memory.

    Args:
        arch: A name of `list_archs`.
        spatial_dims: 2 or 3.
        weights: From `medres.models.weights.resolve_weights`.
        in_channels: Channels of the input.
        stem_stride: As in `create_model`.

    Raises:
        ModelError: The architecture is not known, or cannot have that stem.
        WeightsError: The weights do not fit.
    """
    shape = _geometry(arch, None, stem_stride, spatial_dims, weights)
    skeleton = _skeleton(arch, spatial_dims, in_channels, shape)
    return report_of(fit_weights(skeleton, weights), skeleton, weights)


def dims_of(arch: str, *, weights: str = "none") -> tuple[int, ...]:
    """Return the dimensions that an architecture exists in; with weights of 3D networks only 3.

    Raises:
        ModelError: It exists in neither 2D nor 3D.

    Example:
        >>> dims_of("resnet50"), dims_of("resnet50d"), dims_of("resnet10"), dims_of("resnet50", weights="medicalnet")
        ((2, 3), (2,), (3,), (3,))
    """
    require_arch(arch)
    found = tuple(dims for dims in (2, 3) if is_arch(arch, spatial_dims=dims))
    return (3,) if weights == "medicalnet" and 3 in found else found


def _geometry(
    arch: str,
    name: GeometryName | None,
    stem_stride: Sequence[int] | None,
    spatial_dims: int,
    weights: PretrainedWeights | None,
) -> Geometry:
    # the default may be said: it is what `geometry_of` finds in a network of any other kind
    is_default = name in (None, DEFAULT.name) and tuple(stem_stride or DEFAULT.stem_stride) == DEFAULT.stem_stride
    if not is_builtin(arch) and not is_default:
        raise ModelError(
            f"{arch} is the network of a plug-in, whose geometry is its own.", fix="Leave geometry and stem_stride out."
        )
    stated = stated_geometry(weights) if weights else None
    source = weights.source if weights else ""
    return choose_geometry(name, stem_stride, spatial_dims=spatial_dims, stated=stated, source=source)


def _whose_stem(geometry: Geometry, weights: PretrainedWeights | None) -> Literal["free", "stated", "fixed"]:
    if geometry.name != DEFAULT.name:
        return "fixed"
    # 2D kernels are at home in any stem; 3D ones in that which they were trained in
    return "stated" if weights is not None and any(t.ndim == 5 for t in weights.tensors.values()) else "free"


def _build(arch: str, spatial_dims: int, in_channels: int, geometry: Geometry) -> Backbone:
    if not is_builtin(arch):
        return build_plugin_backbone(arch, in_channels=in_channels)
    if spatial_dims == 2:
        return build_timm_backbone(arch, in_channels=in_channels)
    # imported here: `import monai` takes seconds (3.4 s on the 2-core machine) that a 2D run need not spend
    from medres.models.monai_networks import build_monai_backbone

    return build_monai_backbone(arch, in_channels=in_channels, geometry=geometry)


def _resolved(
    weights: str | PretrainedWeights | None, arch: str, spatial_dims: int, weights_dir: Path | None
) -> PretrainedWeights | None:
    if not isinstance(weights, str):
        return weights
    return resolve_weights(weights, arch=arch, spatial_dims=spatial_dims, weights_dir=weights_dir)


def _random(weights: str | PretrainedWeights | None, backbone: Backbone) -> LoadingReport:
    if weights != "auto":
        return LoadingReport()
    return LoadingReport(notes=(no_weights_reason(backbone.arch, spatial_dims=backbone.spatial_dims),))


@lru_cache(maxsize=8)
def _skeleton(arch: str, spatial_dims: int, in_channels: int, geometry: Geometry) -> Backbone:
    # kept for later calls, which may come from a host in another state
    with independent_of_host(), torch.device("meta"):
        return _build(arch, spatial_dims, in_channels, geometry).eval()


def _total_stride(skeleton: Backbone) -> int:
    shape = (1, skeleton.in_channels, *[_PROBE_SIZE] * skeleton.spatial_dims)
    return _PROBE_SIZE // min(skeleton.feature_map(torch.zeros(shape, device="meta")).shape[2:])


def _check_numbers(num_classes: int, in_channels: int, drop_rate: float) -> None:
    if num_classes < 1 or in_channels < 1:
        raise ModelError(f"num_classes is {num_classes}, in_channels is {in_channels}.", fix="Both are 1 or more.")
    if not 0 <= drop_rate < 1:
        raise ModelError(f"drop_rate is {drop_rate}.", fix="It must be at least 0 and below 1.")
