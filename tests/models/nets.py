"""Randomised nets of timm for tests: statistics and weights that differ from their initial values everywhere."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from medres.models.weights import PretrainedWeights

#: Input statistics that differ in each channel, far more than ImageNet's.
MEAN = (0.61, 0.33, 0.47)
STD = (0.11, 0.29, 0.21)


def random_net(arch: str, *, seed: int = 0, **options: Any) -> nn.Module:
    """Return timm's own net in eval mode, normalisation layers included in the randomness."""
    torch.manual_seed(seed)
    net: nn.Module = timm.create_model(arch, pretrained=False, zero_init_last=False, **options)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.8, 1.5)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return net.eval()


def weights_of(net: nn.Module, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> PretrainedWeights:
    """Return the tensors of a net as pretrained weights."""
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return PretrainedWeights(tensors=tensors, source="random-net", sha256="0" * 64, mean=mean, std=std)


def save_net(net: nn.Module, path: Path, **metadata: str) -> Path:
    """Write a safetensors file."""
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path, metadata or None)
    return path


def grey(shape: tuple[int, ...], *, seed: int = 0) -> torch.Tensor:
    """Return grey values in [0, 1], ``(B, 1, *spatial)``."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def as_rgb(values: torch.Tensor, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> torch.Tensor:
    """Return grey values as an RGB net was shown them: in three channels, each normalised by its own statistics."""
    per_channel = (1, 3, *[1] * (values.ndim - 2))
    means, stds = (torch.tensor(numbers, dtype=values.dtype).view(per_channel) for numbers in (mean, std))
    return (values - means) / stds


def as_grey(
    values: torch.Tensor, channels: int, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> torch.Tensor:
    """Return grey values as a folded net expects them: one scalar mean and deviation, repeated over its channels."""
    scaled = (values - sum(mean) / len(mean)) / (sum(std) / len(std))
    return scaled.repeat(1, channels, *[1] * (values.ndim - 2))


def count_connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows by the timeout of each connection that is tried, answered or not."""
    tried: list[Any] = []
    connect = socket.create_connection

    def counted(address: Any, timeout: Any = None, *options: Any, **named: Any) -> socket.socket:
        tried.append(timeout)
        return connect(address, timeout, *options, **named)

    monkeypatch.setattr(socket, "create_connection", counted)
    return tried


def point_hub_to(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client ask another host, and keep what it gets in another folder."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
