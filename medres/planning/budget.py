"""What the machine and the backbone can bear: arithmetic and memory, estimated from a few facts.

A ResNet of total stride S has four stages, at strides 4, 8, 16, 32 (never above S), or 1, 2, 4, 8 along an axis that
its stem leaves alone. Each stage is twice as wide as
the one before and holds about four times its parameters. From this follow both estimates below, without building
the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from medres.planning.choice import Choice, times
from medres.planning.facts import BackboneFacts, MachineFacts

_GIB = 2**30

#: Stride of each stage beyond that of the stem, before the cap of the total stride.
_STAGE_GROWTH = (1, 2, 4, 8)

#: What the backward pass keeps, in bytes an element of a stage's output. Measured with torch's saved_tensors_hooks in
#: fp32: 57 (resnet50) to 118 (resnet152) for timm's 2D nets, 62 (resnet50) to 125 (resnet200) for MONAI's 3D nets.
_BYTES_AN_ELEMENT = 96

#: Weights, gradients, two moments of AdamW and the average of the weights, fp32.
_BYTES_A_PARAMETER = 20

#: Share of the free memory that is planned for: the rest is for the allocator's gaps, the workspaces of
#: convolutions, and the error of the estimate.
_MEMORY_SHARE = 0.5

#: Smallest batch that is planned for.
MIN_BATCH = 4

#: Multiply-adds of one forward pass that a CPU core gets, by spatial dims. Two cores do 50 to 100 billion a second
#: in training, so that 5 folds of 15 epochs over 100 volumes (or 200 images) stay below half an hour.
_MACS_A_CORE = {2: 1.0e9, 3: 2.0e9}
_MAX_CORES = 16

#: The same for all slices of a volume (2.5D), twice as much as for a volume: with 2 billion a core, 24 slices of
#: resnet18 on two cores would be 64 pixels wide.
_MACS_A_CORE_OF_SLICES = 4.0e9

#: Slices, and side of each, that a device is given (2.5D): on a CPU, and on a GPU by its free memory in GiB.
_CPU_SLICES = (64, 224)
_GPU_SLICES = ((0, 32, 224), (12, 64, 256), (32, 128, 320))

#: Largest side by spatial dims: on a CPU, and on a GPU by its free memory in GiB (from, side).
_CPU_SIDE = {2: 224, 3: 96}
_GPU_SIDES = {2: ((0, 224), (12, 320), (32, 448)), 3: ((0, 96), (12, 128), (32, 160))}

#: Features that were learnt on small pictures do not know larger things: with weights trained at 64 pixels, frozen
#: features of brain MRI gave AUROC .84, .88, .90, .87, .87 at 64, 96, 128, 160, 224 pixels.
_MAX_TIMES_WEIGHTS_SIZE = 2


def estimate_macs(backbone: BackboneFacts, shape: Sequence[int]) -> float:
    """Return the multiply-adds of one forward pass, within a factor of two (14 nets of timm, 7 of MONAI).

    Args:
        backbone: Its number of parameters and strides are used.
        shape: Spatial shape of the input; (D, H, W) for a 2D backbone: D slices.

    Example:
        >>> facts = BackboneFacts(arch="resnet18", spatial_dims=2, total_stride=32, num_features=512,
        ...                       num_parameters=11_200_000)
        >>> round(estimate_macs(facts, (224, 224)) / 1e9, 1)  # counted: 1.7
        1.6
    """
    shares = [0.75 / 4 ** (3 - stage) for stage in range(len(_STAGE_GROWTH))]
    positions = _positions_per_voxel(backbone)
    per_voxel = sum(share * position for share, position in zip(shares, positions, strict=True))
    return float(backbone.num_parameters * per_voxel * math.prod(shape))


def estimate_bytes_per_scan(backbone: BackboneFacts, shape: Sequence[int]) -> float:
    """Return the memory that one scan takes in training, fp32, within a factor of two.

    Args:
        backbone: Its number of features and strides are used.
        shape: Spatial shape of the input; (D, H, W) for a 2D backbone: D slices.

    Example:
        >>> facts = BackboneFacts(arch="resnet50", spatial_dims=2, total_stride=32, num_features=2048,
        ...                       num_parameters=23_500_000)
        >>> round(estimate_bytes_per_scan(facts, (224, 224)) / 2**20)  # measured: 82 MiB
        138
    """
    positions = _positions_per_voxel(backbone)
    elements = sum(2**stage * position for stage, position in enumerate(positions))
    return float(_BYTES_AN_ELEMENT * backbone.num_features / 8 * elements * math.prod(shape))


def scans_in_memory(backbone: BackboneFacts, machine: MachineFacts, shape: Sequence[int]) -> int:
    """Return how many scans of ``shape`` one training step can hold; 0 where not even one is sure to fit."""
    free = _MEMORY_SHARE * machine.memory_bytes - _BYTES_A_PARAMETER * backbone.num_parameters
    return max(0, int(free / estimate_bytes_per_scan(backbone, shape)))


def voxel_budget(backbone: BackboneFacts, machine: MachineFacts) -> Choice[int]:
    """Return how many voxels the network's input may have, and what sets the limit."""
    dims = backbone.spatial_dims
    limits = [_device_limit(machine, dims), _memory_limit(backbone, machine)]
    if machine.device == "cpu":
        limits.append(_arithmetic_limit(backbone, machine))
    if backbone.pretrained and backbone.input_size:
        limits.append(_weights_limit(backbone))
    return min(limits, key=lambda limit: limit.value)


def slices_budget(backbone: BackboneFacts, machine: MachineFacts) -> Choice[int]:
    """Return how many pixels all slices of a scan may have together (2.5D), and what sets the limit."""
    limits = [_slices_limit(machine), _memory_limit(backbone, machine)]
    if machine.device == "cpu":
        limits.append(_arithmetic_limit(backbone, machine, macs_a_core=_MACS_A_CORE_OF_SLICES))
    return min(limits, key=lambda limit: limit.value)


def _positions_per_voxel(backbone: BackboneFacts) -> list[float]:
    """Return, for each stage, the positions of its feature maps per voxel of the input."""
    # not the dimensions of the input: each slice of a volume (2.5D) has feature maps of its own
    axes = list(zip(backbone.behind_stem, backbone.total_strides, strict=True))
    return [1 / math.prod(min(first * growth, total) for first, total in axes) for growth in _STAGE_GROWTH]


def _device_limit(machine: MachineFacts, dims: int) -> Choice[int]:
    if machine.device == "cpu":
        side = _CPU_SIDE[dims]
        return Choice(side**dims, f"a CPU is given at most {times((side,) * dims)}")
    free = machine.memory_bytes / _GIB
    least, side = max(step for step in _GPU_SIDES[dims] if free >= step[0])
    return Choice(
        side**dims, f"a {machine.device} device with {least} GiB free or more is given {times((side,) * dims)}"
    )


def _slices_limit(machine: MachineFacts) -> Choice[int]:
    if machine.device == "cpu":
        count, side = _CPU_SLICES
        return Choice(count * side**2, f"a CPU is given at most {times((count, side, side))}")
    free = machine.memory_bytes / _GIB
    least, count, side = max(step for step in _GPU_SLICES if free >= step[0])
    size = times((count, side, side))
    return Choice(count * side**2, f"a {machine.device} device with {least} GiB free or more is given {size}")


def _memory_limit(backbone: BackboneFacts, machine: MachineFacts) -> Choice[int]:
    free = _MEMORY_SHARE * machine.memory_bytes - _BYTES_A_PARAMETER * backbone.num_parameters
    a_voxel = estimate_bytes_per_scan(backbone, (1,) * backbone.spatial_dims)
    voxels = max(0, int(free / (MIN_BATCH * a_voxel)))
    return Choice(
        voxels, f"{MIN_BATCH} scans of {voxels} voxels fit into half of {machine.memory_bytes / _GIB:.1f} GiB"
    )


def _arithmetic_limit(
    backbone: BackboneFacts, machine: MachineFacts, *, macs_a_core: float | None = None
) -> Choice[int]:
    dims = backbone.spatial_dims
    cores = min(machine.num_cores, _MAX_CORES)
    macs = (macs_a_core or _MACS_A_CORE[dims]) * max(1, cores)
    voxels = int(macs / estimate_macs(backbone, (1,) * dims))
    side = round(voxels ** (1 / dims))
    work = f"{macs / 1e9:g} billion multiply-adds a scan"
    given = f"{voxels} pixels" if macs_a_core else times((side,) * dims)
    return Choice(voxels, f"{backbone.arch} on {cores} CPU cores ({work}) is given about {given}")


def _weights_limit(backbone: BackboneFacts) -> Choice[int]:
    size = backbone.input_size or 1
    side = _MAX_TIMES_WEIGHTS_SIZE * size
    return Choice(
        side**backbone.spatial_dims,
        f"the weights were trained at {size} pixels and see at most {_MAX_TIMES_WEIGHTS_SIZE} times as many: "
        f"{times((side,) * backbone.spatial_dims)}",
    )
