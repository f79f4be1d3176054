"""Pretrained tensors into a backbone: every one accounted for, or refused.

Nothing is loaded with ``strict=False``. Each tensor of the network is taken from the weights or adapted from them (the
stem to its channels, 2D kernels to 3D); anything missing, unexpected or of another shape is an error that says what the
weights look like instead. The classifier is left out by its name. What the tensors do not show is compared, too:
weights that state their architecture (`medres.models.stated_arch`) or their geometry (`medres.models.geometry`) are
loaded into no other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic
import torch

from medres.errors import WeightsError
from medres.models.backbone import Backbone
from medres.models.checkpoints import CLASSIFIER_PARTS, TRAINING_PARTS, is_part_of
from medres.models.donors import describe, fitting_archs
from medres.models.geometry import KEY, Geometry, arch_of, choose_geometry, geometry_in, geometry_of
from medres.models.inflation import Inflation, inflate_kernel
from medres.models.medicalnet import HEAD
from medres.models.names import is_arch
from medres.models.stated_arch import require_stated_arch, twins_of
from medres.models.stem import FoldedConv, adapt_stem, scalar_statistic
from medres.models.weights import PretrainedWeights
from medres.runs.documents import Document

_SHOWN = 3


class LoadingReport(Document):
    """Where each tensor of a backbone came from.

    Args:
        format: Version of this document.
        source: File name or tag; ``none`` for random weights.
        sha256: Of the weights file.
        taken: Names of the tensors that were taken as they are.
        adapted: Name to how it was changed.
        left_out: Name of a tensor of the weights to why it was not used.
        notes: What a user should know of the weights.
    """

    format: Literal[1] = 1
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
        line = f"{self.source} (SHA-256 {self.sha256}): {counts}" + (f" ({reasons})" if reasons else "")
        return line + (f"; {remarks}" if remarks else "")

    def counts(self) -> dict[str, Any]:
        """Return the report with numbers of tensors in the place of their names: for the event log.

        Example:
            >>> LoadingReport(source="a.pth", taken=("conv1.weight",), left_out={"fc.bias": "classifier"}).counts()
            {'source': 'a.pth', 'sha256': '', 'taken': 1, 'adapted': {}, 'left_out': {'classifier': 1}, 'notes': []}
        """
        return {
            "source": self.source, "sha256": self.sha256, "taken": len(self.taken),
            "adapted": dict(Counter(self.adapted.values())), "left_out": dict(Counter(self.left_out.values())),
            "notes": list(self.notes),
        }  # fmt: skip


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
    return report_of(fit, backbone, weights)


def report_of(fit: Fit, backbone: Backbone, weights: PretrainedWeights) -> LoadingReport:
    """Return where each tensor of a backbone comes from."""
    return LoadingReport(
        source=weights.source,
        sha256=weights.sha256,
        taken=tuple(name for name in fit.tensors if name not in fit.adapted and name not in fit.kept),
        adapted=fit.adapted,
        left_out=fit.left_out,
        notes=(*weights.notes, *_arch_notes(weights, backbone), *_geometry_notes(weights, geometry_of(backbone.net))),
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
        misshapen: Name to its two shapes.
        mistyped: Name to its two types: integers cannot stand for floating point numbers.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, str] = field(default_factory=dict)
    mistyped: dict[str, str] = field(default_factory=dict)


def fit_weights(backbone: Backbone, weights: PretrainedWeights, *, inflation: Inflation = "mean") -> Fit:
    """Put together the tensors for ``backbone``, which is left as it is (and may be on the meta device).

    Raises:
        WeightsError: Naming the first tensors that do not fit, and the network that would.
    """
    dims = backbone.spatial_dims
    require_stated_arch(weights.arch, arch=backbone.arch, spatial_dims=dims, source=weights.source)
    if dims == 3:
        own = geometry_of(backbone.net)
        choose_geometry(own.name, None, spatial_dims=3, stated=stated_geometry(weights), source=weights.source)
    fit = _Fitting(backbone, weights, inflation).run()
    if fit.missing or fit.unexpected or fit.misshapen or fit.mistyped:
        raise _does_not_fit(backbone, weights, fit)
    return fit


def stated_geometry(weights: PretrainedWeights) -> Geometry | None:
    """Return the geometry that weights were trained in, None where nothing states it."""
    return weights.geometry or geometry_in(weights.tensors)


class _Fitting:
    def __init__(self, backbone: Backbone, weights: PretrainedWeights, inflation: Inflation) -> None:
        self.weights = weights
        self.inflation = inflation
        self.stem_conv = backbone.stem_conv
        self.stem = backbone.net.get_submodule(backbone.stem_conv)
        self.wanted = backbone.net.state_dict()
        self.fit = Fit()

    def run(self) -> Fit:
        for name, tensor in self.weights.tensors.items():
            if name not in self.wanted:
                self._set_aside(name, tensor)
        self._fit_stem()
        for name, current in self.wanted.items():
            if name in self.fit.tensors:
                continue
            if name == KEY:
                self._keep(name, current)  # the network's own: it was compared with that of the weights
            elif (donor := self.weights.tensors.get(name)) is not None:
                self._put(name, donor, given=donor)
            elif name.endswith("num_batches_tracked"):
                # older torch versions did not save this counter, and a batch norm with a momentum does not read it
                self._keep(name, current)
            else:
                self.fit.missing.append(name)
        return self.fit

    def _set_aside(self, name: str, tensor: torch.Tensor) -> None:
        if is_part_of(name, CLASSIFIER_PARTS):
            self.fit.left_out[name] = "classifier"
        elif is_part_of(name, (HEAD,)):
            self.fit.left_out[name] = "segmentation head"
        elif name == KEY:
            self.fit.left_out[name] = "geometry"
        elif is_part_of(name, TRAINING_PARTS):
            self.fit.left_out[name] = "training only"
        elif name.endswith(".offset_kernel") and not tensor.any():
            self.fit.left_out[name] = "zero"
        else:
            self.fit.unexpected.append(name)

    def _fit_stem(self) -> None:
        name, offset_name = f"{self.stem_conv}.weight", f"{self.stem_conv}.offset_kernel"
        if isinstance(self.stem, FoldedConv):
            self._keep(offset_name, torch.zeros(self.stem.offset_kernel.shape))
        kernel, offset = (self.weights.tensors.get(part) for part in (name, offset_name))
        if kernel is None or kernel.ndim not in (4, self.wanted[name].ndim):
            return  # missing, or no kernel at all: found so by the comparison with what is wanted
        stem = adapt_stem(kernel, offset, conv=self.stem, mean=self.weights.mean, std=self.weights.std)
        self._put(name, stem.weight, given=kernel, how=stem.how)
        if stem.offset is not None and name not in self.fit.misshapen:
            self._put(offset_name, stem.offset, given=stem.offset, how=stem.how)

    def _put(self, name: str, donor: torch.Tensor, *, given: torch.Tensor, how: str = "") -> None:
        wanted = self.wanted[name]
        if donor.ndim == 4 and wanted.ndim == 5:
            donor = inflate_kernel(donor, wanted.shape[2], method=self.inflation)
            how = ", ".join(filter(None, (how, f"inflated ({self.inflation})")))
        if wanted.is_floating_point() and not given.is_floating_point():
            # quantised: copied as they are, integers would be other numbers than were trained
            self.fit.mistyped[name] = f"weights {_type(given)}, network {_type(wanted)}"
        if donor.shape != wanted.shape:
            self.fit.misshapen[name] = f"weights {_shape(given)}, network {_shape(wanted)}"
        if how:
            self.fit.adapted[name] = how
        self.fit.tensors[name] = donor
        self.fit.kept.discard(name)

    def _keep(self, name: str, current: torch.Tensor) -> None:
        self.fit.tensors[name] = current
        self.fit.kept.add(name)


def _arch_notes(weights: PretrainedWeights, backbone: Backbone) -> tuple[str, ...]:
    twins = [] if weights.arch or _is_deep(weights) else twins_of(backbone.arch)
    verb = "has" if len(twins) == 1 else "have"
    return (f"their architecture is not stated: {' and '.join(twins)} {verb} the same tensors",) if twins else ()


def _is_deep(weights: PretrainedWeights) -> bool:
    return any(tensor.ndim == 5 for tensor in weights.tensors.values())


def _geometry_notes(weights: PretrainedWeights, own: Geometry) -> tuple[str, ...]:
    deep = _is_deep(weights)
    stated = stated_geometry(weights)
    if stated is not None and stated.stem_stride != own.stem_stride:
        strides = ("x".join(map(str, geometry.stem_stride)) for geometry in (stated, own))
        return ("trained with a stem stride of {}, used with {}".format(*strides),)
    if own.name == "standard" and deep and stated is None:
        # tensors do not show the strides and dilations that they were trained with
        taken = "3D weights, taken to be of a net with a stride-2 stem and without dilation"
        return (f"{taken}; state another by the key geometry of a safetensors header (geometry: medicalnet)",)
    if own.name != "standard" and not deep:
        return (f"2D weights in the geometry {own.name}, which is not theirs",)
    return ()


def _does_not_fit(backbone: Backbone, weights: PretrainedWeights, fit: Fit) -> WeightsError:
    shapes = [f"{name}: {both}" for name, both in fit.misshapen.items()]
    types = [f"{name}: {both}" for name, both in fit.mistyped.items()]
    faults = {
        "missing": fit.missing, "not in the network": fit.unexpected, "of another shape": shapes,
        "of another type": types,
    }  # fmt: skip
    listed = "; ".join(f"{len(names)} {what} ({_first(names)})" for what, names in faults.items() if names)
    return WeightsError(
        f"{weights.source} does not fit {backbone.arch} in {backbone.spatial_dims}D. Tensors: {listed}. "
        f"The weights are those of {describe(weights.tensors)}.{_about_hash(weights)}",
        fix="Give the floating point weights that they were made from."
        if fit.mistyped
        else _way_out(backbone, weights),
    )


def _about_hash(weights: PretrainedWeights) -> str:
    # a file that is not what its name says is the first thing to know of one that does not fit
    return "".join(f" {note[0].upper()}{note[1:]}." for note in weights.notes if "SHA-256" in note)


def _way_out(backbone: Backbone, weights: PretrainedWeights) -> str:
    if backbone.spatial_dims == 2 and _is_deep(weights):
        return "These are weights of a 3D network: use them in 3D, or choose others."
    deep_arch = arch_of(weights.tensors)
    if deep_arch not in (None, backbone.arch):
        return f"They may fit --arch {deep_arch}."
    candidates = [] if deep_arch else fitting_archs(weights.tensors)
    if not candidates or backbone.arch in candidates:
        # of this architecture but for the tensors named: no other name would take them
        return f"Choose {'other ' if candidates else ''}weights of {backbone.arch}, or --weights none."
    return f"{_same_tensors(candidates, backbone, weights)}: use the --arch that they were trained as."


def _same_tensors(candidates: list[str], backbone: Backbone, weights: PretrainedWeights) -> str:
    if weights.arch in candidates:
        candidates = [weights.arch]
    here = [arch for arch in candidates if is_arch(arch, spatial_dims=backbone.spatial_dims)]
    return f"They have the same tensors as {' or '.join(here or candidates)}{'' if here else ' (2D only)'}"


def _first(names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
