"""Pretrained tensors into a backbone: every one accounted for, or refused.

Nothing is loaded with ``strict=False``. Each tensor of the network is taken from the weights or adapted from them (the
stem to its channels, 2D kernels to 3D); anything missing, unexpected or of another shape is an error that says what the
weights look like instead. The classifier is left out by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pydantic
import torch

from medres.errors import WeightsError
from medres.models.backbone import Backbone
from medres.models.checkpoints import CLASSIFIER_PARTS, TRAINING_PARTS, is_part_of
from medres.models.donors import describe, fitting_archs
from medres.models.inflation import Inflation, inflate_kernel
from medres.models.names import list_archs
from medres.models.stem import FoldedConv, adapt_stem, scalar_statistic
from medres.models.weights import PretrainedWeights
from medres.runs.documents import Document

_SHOWN = 3


class LoadingReport(Document):
    """Where each tensor of a backbone came from.

    Args:
        source: File name or tag; ``none`` for random weights.
        sha256: Of the weights file.
        taken: Names of the tensors that were taken as they are.
        adapted: Name to how it was changed.
        left_out: Name of a tensor of the weights to why it was not used.
        notes: What a user should know of the weights.
    """

    source: str = "none"
    sha256: str = ""
    taken: tuple[str, ...] = ()
    adapted: dict[str, str] = pydantic.Field(default_factory=dict)
    left_out: dict[str, str] = pydantic.Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return one line for the terminal.

        Example:
            >>> LoadingReport(source="a.pth", sha256="12fca82f", left_out={"fc.bias": "classifier"}).summary()
            'a.pth (SHA-256 12fca82f): 0 tensors taken, 0 adapted, 1 left out (classifier)'
            >>> LoadingReport(notes=("resnet10 has no pretrained weights",)).summary()
            'random weights (resnet10 has no pretrained weights)'
        """
        remarks = "; ".join(self.notes)
        if self.source == "none":
            return "random weights" + (f" ({remarks})" if remarks else "")
        reasons = ", ".join(sorted(set(self.left_out.values())))
        counts = f"{len(self.taken)} tensors taken, {len(self.adapted)} adapted, {len(self.left_out)} left out"
        line = f"{self.source} (SHA-256 {self.sha256[:12]}): {counts}" + (f" ({reasons})" if reasons else "")
        return line + (f"; {remarks}" if remarks else "")


def load_pretrained(backbone: Backbone, weights: PretrainedWeights, *, inflation: Inflation = "mean") -> LoadingReport:
    """Load weights into ``backbone``, which is changed only if all of it fits.

    Args:
        backbone: Whose tensors are replaced.
        weights: From `medres.models.weights.resolve_weights`.
        inflation: How 2D kernels become 3D.

    Raises:
        WeightsError: Naming the first tensors that do not fit, and the network that would.
    """
    fit = fit_weights(backbone, weights, inflation=inflation)
    backbone.net.load_state_dict(fit.tensors, strict=True)
    return LoadingReport(
        source=weights.source,
        sha256=weights.sha256,
        taken=tuple(name for name in fit.tensors if name not in fit.adapted and name not in fit.kept),
        adapted=fit.adapted,
        left_out=fit.left_out,
        notes=weights.notes,
    )


def input_statistics(backbone: Backbone, weights: PretrainedWeights) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation that the loaded network expects of its input.

    As they are where the network keeps the channels of the weights, else one scalar: the stem is folded to it.
    """
    if len(weights.mean) in (1, backbone.in_channels):
        return weights.mean, weights.std
    return (scalar_statistic(weights.mean),), (scalar_statistic(weights.std),)


@dataclass
class Fit:
    """Tensors for a whole backbone, while they are being put together.

    Args:
        tensors: By the network's names.
        adapted: Name to how it was changed.
        kept: Names of tensors that the network keeps as they are because weights need not have them.
        left_out: Name in the weights to why it is not used.
        missing: Names that the weights do not have.
        unexpected: Names that the network does not have.
        misshapen: What is wrong with the shapes of tensors.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)


def fit_weights(backbone: Backbone, weights: PretrainedWeights, *, inflation: Inflation = "mean") -> Fit:
    """Put together the tensors for ``backbone``, which is left as it is (and may be on the meta device).

    Raises:
        WeightsError: Naming the first tensors that do not fit, and the network that would.
    """
    fit = Fit()
    wanted = backbone.net.state_dict()
    for name in weights.tensors:
        _sort_out(name, wanted, fit)
    _fit_stem(backbone, weights, fit, inflation)
    for name, current in wanted.items():
        if name in fit.tensors:
            continue
        if (donor := weights.tensors.get(name)) is not None:
            _fit_tensor(name, current, donor, fit, inflation, given=donor)
        elif name.endswith("num_batches_tracked"):
            # older torch versions did not save this counter, and a batch norm with a momentum does not read it
            fit.tensors[name] = current
            fit.kept.add(name)
        else:
            fit.missing.append(name)
    if fit.missing or fit.unexpected or fit.misshapen:
        raise _does_not_fit(backbone, weights, fit)
    return fit


def _sort_out(name: str, wanted: Mapping[str, torch.Tensor], fit: Fit) -> None:
    if is_part_of(name, CLASSIFIER_PARTS):
        fit.left_out[name] = "classifier"
    elif is_part_of(name, TRAINING_PARTS):
        fit.left_out[name] = "training only"
    elif name not in wanted and not name.endswith("offset_kernel"):
        fit.unexpected.append(name)


def _fit_stem(backbone: Backbone, weights: PretrainedWeights, fit: Fit, inflation: Inflation) -> None:
    name, offset_name = f"{backbone.stem_conv}.weight", f"{backbone.stem_conv}.offset_kernel"
    conv = backbone.net.get_submodule(backbone.stem_conv)
    kernel, offset = weights.tensors.get(name), weights.tensors.get(offset_name)
    if isinstance(conv, FoldedConv):
        fit.tensors[offset_name] = torch.zeros_like(conv.offset_kernel, device="cpu")
        fit.kept.add(offset_name)
    if kernel is None or kernel.ndim not in (4, conv.weight.ndim):
        return
    stem = adapt_stem(kernel, offset, conv=conv, mean=weights.mean, std=weights.std)
    if (
        _fit_tensor(name, conv.weight, stem.weight, fit, inflation, given=kernel, how=stem.how)
        and stem.offset is not None
    ):
        _fit_tensor(offset_name, conv.offset_kernel, stem.offset, fit, inflation, given=stem.offset, how=stem.how)
        fit.kept.discard(offset_name)


def _fit_tensor(
    name: str,
    current: torch.Tensor,
    donor: torch.Tensor,
    fit: Fit,
    inflation: Inflation,
    *,
    given: torch.Tensor,
    how: str = "",
) -> bool:
    if donor.ndim == 4 and current.ndim == 5:
        donor = inflate_kernel(donor, current.shape[2], method=inflation)
        how = ", ".join(filter(None, (how, f"inflated ({inflation})")))
    if donor.shape != current.shape:
        fit.misshapen.append(f"{name}: weights {_shape(given)}, network {_shape(current)}")
    if how:
        fit.adapted[name] = how
    fit.tensors[name] = donor
    return donor.shape == current.shape


def _does_not_fit(backbone: Backbone, weights: PretrainedWeights, fit: Fit) -> WeightsError:
    faults = {"missing": fit.missing, "not in the network": fit.unexpected, "of another shape": fit.misshapen}
    listed = "; ".join(f"{len(names)} {what} ({_first(names)})" for what, names in faults.items() if names)
    return WeightsError(
        f"{weights.source} does not fit {backbone.arch} in {backbone.spatial_dims}D. Tensors: {listed}. "
        f"The weights are those of {describe(weights.tensors)}.",
        fix=_way_out(backbone, weights),
    )


def _way_out(backbone: Backbone, weights: PretrainedWeights) -> str:
    if backbone.spatial_dims == 2 and any(tensor.ndim == 5 for tensor in weights.tensors.values()):
        return "These are weights of a 3D network: use them in 3D, or choose others."
    fitting = [arch for arch in fitting_archs(weights.tensors) if arch != backbone.arch]
    here = [arch for arch in fitting if arch in list_archs(spatial_dims=backbone.spatial_dims)]
    if fitting:
        return f"They fit --arch {' or '.join(here or fitting)}" + ("." if here else " (2D only).")
    return f"Choose weights of {backbone.arch}, or --weights none."


def _first(names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
