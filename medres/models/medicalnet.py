"""MedicalNet's release: names of its files, where they are had, how its tensors are told, what they expect.

Chen, Ma, Zheng 2019, "Med3D: Transfer Learning for 3D Medical Image Analysis" (arXiv:1904.00625), MIT licence. The
networks were pretrained on segmentation of 8 or of 23 data sets; the segmentation head is not part of the release.

**Input.** MedicalNet standardised each volume by itself, over its non-zero voxels, and filled the others with noise of
mean 0 and deviation 1 (``datasets/brains18.py``). The scheme ``robust_zscore`` of a plan gives the same: a z-score over
the foreground is what the network reads, whatever the mean and deviation of the weights. The other schemes first map
values to [0, 1]; there the mean is taken to be 0.5 and the deviation 0.25, so that the range becomes -2 to 2. Noise is
not imitated: a prediction would depend on its draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from medres.errors import WeightsError
from medres.models.geometry import LAYERS, Geometry, arch_of
from medres.models.input_statistics import InputStatistics

#: See above.
STATISTICS = InputStatistics(mean=(0.5,), std=(0.25,))

#: What its users should know.
NOTE = (
    "MedicalNet read each volume standardised by itself over its non-zero voxels (planning.scheme=robust_zscore does "
    "that); other schemes are mapped to -2 to 2"
)

#: First part of the names of its head, a decoder for segmentation.
HEAD = "conv_seg"

#: Depths that there are weights of 23 data sets for; all depths were pretrained on 8.
_OF_23_DATASETS = (10, 18, 34, 50)

_FILE = re.compile(r"resnet_\d+(_23dataset)?\.[a-z]+")


def require_released(arch: str, *, spatial_dims: int) -> None:
    """Refuse a network that MedicalNet published no weights of.

    Raises:
        WeightsError: It is in 2D, or of another depth or kind.

    Example:
        >>> require_released("resnet50", spatial_dims=3)
    """
    if spatial_dims != 3:
        raise WeightsError("MedicalNet's weights are those of 3D networks.", fix="Use --dims 3, or other weights.")
    if arch not in LAYERS:
        raise WeightsError(f"MedicalNet published no weights of {arch}.", fix=f"It has those of {', '.join(LAYERS)}.")


def release_files(arch: str) -> tuple[str, ...]:
    """Return the names of the files that MedicalNet published for an architecture, the larger pretraining first.

    Example:
        >>> release_files("resnet50"), release_files("resnet101")
        (('resnet_50_23dataset.pth', 'resnet_50.pth'), ('resnet_101.pth',))
    """
    depth = _depth(arch)
    larger = (f"resnet_{depth}_23dataset.pth",) if depth in _OF_23_DATASETS else ()
    return (*larger, f"resnet_{depth}.pth")


def repository(arch: str) -> str:
    """Return the repository on the Hugging Face hub with the weights of an architecture.

    Example:
        >>> repository("resnet50")
        'TencentMedicalNet/MedicalNet-Resnet50'
    """
    return f"TencentMedicalNet/MedicalNet-Resnet{_depth(arch)}"


def files_in(repo_id: str) -> tuple[str, ...]:
    """Return the weights files of one of MedicalNet's repositories on the hub, none for any other.

    Example:
        >>> files_in("TencentMedicalNet/MedicalNet-Resnet101"), files_in("timm/resnet50.a1_in1k")
        (('resnet_101.pth',), ())
    """
    return next((release_files(arch) for arch in LAYERS if repository(arch) == repo_id), ())


def download_bytes(arch: str) -> int:
    """Return about how large a file is: the float32 tensors of the network, without its head."""
    # imported here: `import monai` takes seconds
    from medres.models.monai_networks import build_monai_backbone

    with torch.device("meta"):
        net = build_monai_backbone(arch, in_channels=1, geometry=Geometry("medicalnet")).net
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())


def is_medicalnet(file_name: str, names: Iterable[str], tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether tensors are MedicalNet's.

    They are 3D kernels of a ResNet of basic or bottleneck blocks with a grey 7x7x7 stem, without classifier, and their
    names begin with ``module.`` in the file; or they have its segmentation head; or the file has a published name.

    Args:
        file_name: Name of the file.
        names: Of the tensors as they stand in the file.
        tensors: By their names without wrappers.
    """
    stem = tensors.get("conv1.weight")
    if stem is None or tuple(stem.shape) != (64, 1, 7, 7, 7) or arch_of(tensors) is None:
        return False
    if any(name.partition(".")[0] == HEAD for name in tensors) or _FILE.fullmatch(file_name):
        return True
    has_classifier = any(name.partition(".")[0] not in _TRUNK for name in tensors)
    has_biased_shortcuts = any(name.endswith("downsample.0.bias") for name in tensors)
    return all(name.startswith("module.") for name in names) and not has_classifier and not has_biased_shortcuts


_TRUNK = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def _depth(arch: str) -> int:
    return int(arch.removeprefix("resnet"))
