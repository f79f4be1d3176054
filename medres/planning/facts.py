"""What the planner needs to know about a backbone and a machine, as values: it imports neither."""

from __future__ import annotations

from typing import Literal, Self

import pydantic

from medres.runs.documents import Document


class BackboneFacts(Document):
    """What a backbone asks of its input.

    Args:
        arch: Architecture name, such as ``resnet50``.
        spatial_dims: 2 or 3.
        total_stride: Input voxels per voxel of the last feature map along an axis, such as 32; the largest of all axes.
        stem_stride: Stride of the first convolution along D, H, W and again of the pooling after it; None for 2D
            networks and for those whose stem is not known (plug-ins): total and stage strides are alike on all axes.
        stem: Whose choice that stride is: ``free`` where any is as good (random or inflated 2D weights), ``stated``
            where 3D weights were trained with it, ``fixed`` where the network's geometry has no other (MedicalNet).
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
    stem_stride: tuple[int, int, int] | None = None
    stem: Literal["free", "stated", "fixed"] = "free"
    num_features: int
    num_parameters: int
    input_size: int | None = None
    input_mean: tuple[float, ...] = (0.5,)
    input_std: tuple[float, ...] = (0.5,)
    pretrained: bool = False
    weights_source: str = "none"

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.stem_stride is not None and self.spatial_dims != 3:
            raise ValueError("stem_stride is of 3D networks")
        return self

    @property
    def total_strides(self) -> tuple[int, ...]:
        """Input voxels per voxel of the last feature map, along each axis.

        Example:
            >>> facts = BackboneFacts(arch="resnet18", spatial_dims=3, total_stride=32, stem_stride=(1, 2, 2),
            ...                       num_features=512, num_parameters=33_000_000)
            >>> facts.total_strides
            (8, 32, 32)
        """
        behind = self.behind_stem
        return tuple(self.total_stride * stride // max(behind) for stride in behind)

    @property
    def behind_stem(self) -> tuple[int, ...]:
        """Input voxels per voxel behind the stem, along each axis: two strides of 2, or none."""
        return tuple(stride**2 for stride in self.stem_stride or (2,) * self.spatial_dims)

    def with_stem(self, stem_stride: tuple[int, ...] | None) -> Self:
        """Return the facts of the same network with another stem; None leaves it as it is.

        Example:
            >>> facts = BackboneFacts(arch="resnet18", spatial_dims=3, total_stride=32, stem_stride=(2, 2, 2),
            ...                       num_features=512, num_parameters=33_000_000)
            >>> facts.with_stem((1, 2, 2)).total_strides, facts.with_stem((1, 1, 1)).total_stride
            ((8, 32, 32), 8)
        """
        if stem_stride is None or self.stem_stride is None:
            return self
        total = self.total_stride * max(stem_stride) ** 2 // max(self.behind_stem)
        return self.model_copy(update={"stem_stride": tuple(stem_stride), "total_stride": total})


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
