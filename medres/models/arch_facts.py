"""What each architecture costs: parameters, features, and the memory of training it.

Building 200 networks takes half a minute even without tensors, so the numbers stand in `medres.models.arch_table`; the
tests measure them again. Networks that are not in the table (plug-ins, a newer timm) are measured when they are asked
for. To write the table anew: ``python -m medres.models.arch_facts``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from medres.models.arch_table import MEASURED
from medres.models.names import builtin_archs

#: Side of the input that networks are measured with; a multiple of every total stride.
_SIDE = {2: 224, 3: 64}

#: Weights, gradients, two moments of AdamW and the average of the weights, fp32 (as `medres.planning.budget` counts).
_BYTES_A_PARAMETER = 20


@dataclass(frozen=True)
class ArchFacts:
    """What an architecture costs, with one input channel and without its head.

    Args:
        parameters: Number of parameters.
        features: Width of the pooled features.
        kept_bytes_a_voxel: What the backward pass keeps in fp32, for each voxel (or pixel) of one input channel.
    """

    parameters: int
    features: int
    kept_bytes_a_voxel: float

    def training_bytes(self, shape: Sequence[int], *, batch_size: int) -> float:
        """Return the memory of training all layers in fp32 with AdamW, about.

        Parameters with their gradients, moments and average, and the activations that the backward pass keeps. The
        workspaces of convolutions and what the allocator wastes come on top.

        Args:
            shape: Spatial shape of the input.
            batch_size: Scans a step.

        Example:
            >>> f"{arch_facts('resnet50', spatial_dims=2).training_bytes((224, 224), batch_size=16) / 2**30:.1f} GiB"
            '1.7 GiB'
        """
        activations = self.kept_bytes_a_voxel * math.prod(shape) * batch_size
        return self.parameters * _BYTES_A_PARAMETER + activations


def arch_facts(arch: str, *, spatial_dims: int) -> ArchFacts:
    """Return the costs of an architecture, from the table where it is there.

    Raises:
        ModelError: The architecture is not known.

    Example:
        >>> arch_facts("resnet18", spatial_dims=3).features
        512
    """
    known = MEASURED[spatial_dims].get(arch)
    return ArchFacts(*known) if known else measure(arch, spatial_dims=spatial_dims)


def measure(arch: str, *, spatial_dims: int) -> ArchFacts:
    """Count what an architecture costs, on the meta device: no tensor is computed.

    Raises:
        ModelError: The architecture is not known.
    """
    # imported here: reading the table needs no network
    from medres.models.factory import create_model

    with torch.device("meta"):
        backbone = create_model(arch, spatial_dims=spatial_dims, num_classes=2).backbone.train()
        x = torch.zeros(2, 1, *[_SIDE[spatial_dims]] * spatial_dims)
    kept = kept_bytes(backbone, x) / x.numel()
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    return ArchFacts(parameters, backbone.num_features, round(kept, 1))


def kept_bytes(network: torch.nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, parameters and buffers not counted."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)  # held, so that no address is given out twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x)
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)


def count_macs(network: torch.nn.Module, shape: Sequence[int]) -> int:
    """Return the multiply-adds of one forward pass: those of convolutions and matrix products, counted, not timed.

    Args:
        network: On any device; it is moved to the meta device, where nothing is computed, and is of no use after.
        shape: Of one input without the batch: ``(C, *spatial)``, or ``(D, C, H, W)`` for slices.

    Example:
        >>> count_macs(torch.nn.Conv2d(1, 8, 3, padding=1, bias=False), (1, 10, 10))
        7200
    """
    network = network.to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device="meta"))
    return int(counter.get_total_flops()) // 2  # a multiply-add is two operations


def _write_table() -> None:
    lines = ['"""Costs of the architectures, written by ``python -m medres.models.arch_facts``."""', ""]
    lines += ["#: Spatial dims, then name: parameters, features, bytes kept a voxel (`medres.models.arch_facts`)."]
    lines += ["MEASURED: dict[int, dict[str, tuple[int, int, float]]] = {"]
    for dims in (2, 3):
        lines += [f"    {dims}: {{"]
        for arch in builtin_archs(spatial_dims=dims):
            facts = measure(arch, spatial_dims=dims)
            lines += [f'        "{arch}": ({facts.parameters}, {facts.features}, {facts.kept_bytes_a_voxel}),']
        lines += ["    },"]
    Path(__file__).with_name("arch_table.py").write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


if __name__ == "__main__":
    _write_table()
