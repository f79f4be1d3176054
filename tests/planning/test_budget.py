"""The estimates against what torch counts, on the networks themselves (on the meta device: nothing is computed)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from monai.networks import nets
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from medres.models.factory import backbone_facts, create_model
from medres.planning.budget import estimate_bytes_per_scan, estimate_macs, scans_in_memory, voxel_budget
from medres.planning.facts import BackboneFacts, MachineFacts
from tests.planning.examples import CPU, GPU, backbone

IMAGES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")
VOLUMES = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")


def network(name: str, dims: int) -> torch.nn.Module:
    with torch.device("meta"):
        if dims == 2:
            return timm.create_model(name, num_classes=0, in_chans=1)
        made: torch.nn.Module = getattr(nets, name)(
            spatial_dims=3, n_input_channels=1, feed_forward=False, conv1_t_stride=2
        )
        return made


def facts_of(model: torch.nn.Module, name: str, dims: int) -> BackboneFacts:
    features = 512 if name in ("resnet10", "resnet18", "resnet34") else 2048
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return BackboneFacts(
        arch=name, spatial_dims=dims, total_stride=32, num_features=features, num_parameters=parameters
    )


def bytes_kept(model: torch.nn.Module, batch: torch.Tensor) -> int:
    """Return the bytes that the backward pass keeps, without the parameters."""
    sizes = {parameter.untyped_storage()._cdata: 0 for parameter in model.parameters()}
    alive: list[Any] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        alive.append(tensor)  # a freed storage's address could be given out again
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch)
    return sum(sizes.values())


@pytest.mark.parametrize(("name", "dims"), [*((name, 2) for name in IMAGES), *((name, 3) for name in VOLUMES)])
def test_the_estimates_are_within_a_factor_of_two(name: str, dims: int) -> None:
    shape = (224, 224) if dims == 2 else (64, 64, 64)
    model = network(name, dims)
    facts = facts_of(model, name, dims)
    batch = torch.empty(1, 1, *shape, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(batch)
    assert 0.5 < estimate_macs(facts, shape) / (counter.get_total_flops() / 2) < 2
    assert 0.5 < estimate_bytes_per_scan(facts, shape) / bytes_kept(model, batch) < 2


@pytest.mark.parametrize("stem_stride", [(1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("name", VOLUMES)
def test_the_estimates_know_the_stride_of_each_axis(name: str, stem_stride: tuple[int, ...]) -> None:
    shape = (32, 128, 128)
    facts = backbone_facts(name, spatial_dims=3, stem_stride=stem_stride)
    with torch.device("meta"):
        model = create_model(name, spatial_dims=3, num_classes=2, stem_stride=stem_stride).backbone
    batch = torch.empty(1, 1, *shape, device="meta")
    with FlopCounterMode(display=False) as counter:
        last = model.feature_map(batch)
    assert tuple(last.shape[2:]) == tuple(
        math.ceil(side / stride) for side, stride in zip(shape, facts.total_strides, strict=True)
    )
    assert 0.5 < estimate_macs(facts, shape) / (counter.get_total_flops() / 2) < 2
    assert 0.5 < estimate_bytes_per_scan(facts, shape) / bytes_kept(model, batch) < 2


def test_a_dilated_network_costs_more() -> None:
    # MedicalNet: layer3 and layer4 keep stride 8, 64 times the positions of stride 32 in layer4
    dilated, plain = backbone(3, total_stride=8), backbone(3)
    assert 4 < estimate_macs(dilated, (64,) * 3) / estimate_macs(plain, (64,) * 3) < 8


@pytest.mark.parametrize("dims", [2, 3])
def test_more_machine_is_never_less_input(dims: int) -> None:
    facts = backbone(dims, num_parameters=46_000_000)
    by_cores = [voxel_budget(facts, CPU.model_copy(update={"num_cores": cores})).value for cores in (1, 2, 8, 16, 64)]
    memories = [2**30 * gib for gib in (1, 4, 8, 16, 40, 80)]
    by_memory = [voxel_budget(facts, GPU.model_copy(update={"memory_bytes": memory})).value for memory in memories]
    assert by_cores == sorted(by_cores)
    assert by_memory == sorted(by_memory)
    assert by_memory[-1] > by_memory[0]


def test_weights_of_small_pictures_see_small_inputs() -> None:
    small, large = (backbone(2, pretrained=True, input_size=size) for size in (64, 224))
    assert voxel_budget(small, GPU).value == 128**2
    assert "64 pixels" in voxel_budget(small, GPU).reason
    assert voxel_budget(large, GPU).value == 320**2


def test_no_memory_holds_no_scan() -> None:
    machine = MachineFacts(memory_bytes=0)
    assert scans_in_memory(backbone(3), machine, (64, 64, 64)) == 0
    assert voxel_budget(backbone(3), machine).value == 0
