"""What the planner needs to know about a backbone and a machine, as values: it imports neither."""

from __future__ import annotations

from medres.runs.documents import Document


class BackboneFacts(Document):
    """What a backbone asks of its input.

    Args:
        arch: Architecture name, such as ``resnet50``.
        spatial_dims: 2 or 3.
        total_stride: Input voxels per voxel of the last feature map along an axis, such as 32.
        num_features: Width of the pooled features.
        num_parameters: Number of parameters without the head.
        input_size: Side of the input that the weights were trained at, or None.
        input_mean: Per-channel mean that the weights were trained with, on pixels scaled to [0, 1].
        input_std: The same for the standard deviation.
        pretrained: Whether there are weights at all.
        weights_source: What the user sees: ``none``, a file's name, a timm tag.
    """

    arch: str
    spatial_dims: int
    total_stride: int
    num_features: int
    num_parameters: int
    input_size: int | None = None
    input_mean: tuple[float, ...] = (0.5,)
    input_std: tuple[float, ...] = (0.5,)
    pretrained: bool = False
    weights_source: str = "none"


class MachineFacts(Document):
    """What the machine can bear.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        memory_bytes: Free memory of that device.
        num_cores: CPU cores that may be used.
        disk_bytes: Free disk where prepared scans are kept.
        bf16: Whether bfloat16 arithmetic is fast there (AMX or AVX512-BF16 CPUs, Ampere and later GPUs).
    """

    device: str = "cpu"
    memory_bytes: int = 8 * 2**30
    num_cores: int = 2
    disk_bytes: int = 32 * 2**30
    bf16: bool = False
