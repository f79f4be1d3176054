"""3D: the geometry of the inflated 2D net, with MONAI's modules."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from medres.models.factory import create_model, list_archs
from medres.models.monai_networks import build_monai_backbone

WITH_NAMESAKE = [arch for arch in list_archs(spatial_dims=3) if arch != "resnet10"]


@pytest.mark.parametrize("arch", WITH_NAMESAKE)
def test_names_and_shapes_are_timms_with_one_axis_more(arch: str) -> None:
    with torch.device("meta"):
        ours = build_monai_backbone(arch, in_channels=3).net.state_dict()
        theirs = timm.create_model(arch, pretrained=False, num_classes=0).state_dict()
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        depth = (tensor.shape[2],) if tensor.ndim == 4 else ()
        assert tuple(ours[name].shape) == (*tensor.shape[:2], *depth, *tensor.shape[2:]), name
    assert len(WITH_NAMESAKE) == 6


@pytest.mark.parametrize("arch", WITH_NAMESAKE)
def test_strides_are_timms_too(arch: str) -> None:
    with torch.device("meta"):
        ours = build_monai_backbone(arch, in_channels=3).net
        theirs = timm.create_model(arch, pretrained=False, num_classes=0)
    convs = {name: module for name, module in theirs.named_modules() if isinstance(module, nn.Conv2d)}
    for name, conv in convs.items():
        other = ours.get_submodule(name)
        for setting in ("kernel_size", "stride", "padding", "dilation"):
            (value,) = set(getattr(conv, setting))
            assert getattr(other, setting) == (value,) * 3, (name, setting)
    norms = {name: module for name, module in theirs.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in norms.items():
        assert (ours.get_submodule(name).eps, ours.get_submodule(name).momentum) == (norm.eps, norm.momentum)
    assert ours.get_submodule("maxpool").stride == theirs.maxpool.stride == 2


def test_every_shortcut_passes_gradient() -> None:
    model = create_model("resnet18", spatial_dims=3, num_classes=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):  # the residual branches are silent: only shortcuts are left
            nn.init.zeros_(module.weight)
    for name, module in model.backbone.net.named_modules():
        if "downsample.1" in name or name == "bn1":
            nn.init.ones_(module.weight)
    model(torch.randn(2, 1, 32, 32, 32)).sum().backward()
    gradient = model.backbone.net.get_submodule("conv1").weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_telemetry_is_off_before_monai_imports_mlflow() -> None:
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "PYTEST_CURRENT_TEST")
    }
    code = (
        "import os, sys, medres.models.factory as f; assert 'monai' not in sys.modules; before = dict(os.environ); "
        "f.create_model('resnet10', spatial_dims=3, num_classes=2); "
        "from mlflow.telemetry.client import get_telemetry_client; "
        "print(get_telemetry_client(), dict(os.environ) == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "True"]
