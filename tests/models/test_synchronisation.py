"""Batch normalisation over several processes: the network says the same, by the same names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medres.models.factory import create_model
from medres.models.synchronisation import synchronised


@pytest.mark.parametrize(
    ("arch", "dims"), [("test_resnet", 2), ("resnetv2_50", 2), ("regnety_002", 2), ("resnet10", 3)]
)
def test_the_converted_network_says_the_same_by_the_same_names(arch: str, dims: int) -> None:
    model = create_model(arch, spatial_dims=dims, num_classes=2, in_channels=1, weights="none").eval()
    scans = torch.randn(2, 1, *[64] * dims, generator=torch.Generator().manual_seed(0))
    names, layers = list(model.state_dict()), _normalising(model)
    with torch.inference_mode():
        before = model(scans)
        after = synchronised(model)(scans)
    torch.testing.assert_close(after, before)
    assert list(model.state_dict()) == names
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in model.modules()) == layers


def _normalising(model: nn.Module) -> int:
    return sum(isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)) for module in model.modules())
