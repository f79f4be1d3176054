"""Names: derived from timm's registry, checked against the classes; every refusal says why and what to type."""

from __future__ import annotations

import pytest
import timm

from medres.errors import ModelError
from medres.models.names import MONAI_DEPTHS, check_arch, donor_arch, list_archs
from medres.models.timm_networks import build_timm_backbone


def test_no_net_of_the_two_modules_is_forgotten() -> None:
    """That each name gives a net of the two classes is in tests/contracts/test_backbones.py."""
    registered = set(timm.list_models(module=["resnet", "resnetv2", "regnet", "convnext", "densenet"]))
    assert registered <= set(list_archs(spatial_dims=2))
    assert len(list_archs(spatial_dims=2)) == len(set(list_archs(spatial_dims=2))) >= 200


def test_a_net_of_another_class_is_not_cut() -> None:
    with pytest.raises(ModelError, match="ByobNet"):
        build_timm_backbone("resnet51q", in_channels=1)


def test_3d_names() -> None:
    assert list_archs(spatial_dims=3) == [f"resnet{depth}" for depth in MONAI_DEPTHS]
    for arch in list_archs(spatial_dims=3):
        check_arch(arch, spatial_dims=3)


@pytest.mark.parametrize(
    ("arch", "spatial_dims", "words"),
    [
        ("resent50", 2, ["not known", "Did you mean resnet50", "medres archs"]),
        ("ResNet50", 2, ["Did you mean resnet50"]),
        ("resnext50", 2, ["Did you mean resnext50_32x4d"]),
        ("resnet50d", 3, ["exists in 2D only", "resnet10, resnet18, resnet34, resnet50, resnet101, resnet152"]),
        ("resnet10", 2, ["exists in 3D only", "For volumes use --dims 3", "resnet10t"]),
        ("nonsense", 3, ["not known in 3D", "resnet200"]),
        ("vit_base_patch16_224", 2, ["'vision_transformer'", "one row of equal blocks"]),
        ("efficientnet_b0", 2, ["'efficientnet'", "seven groups of blocks"]),
        ("hrnet_w18", 2, ["'hrnet'", "side by side"]),
        ("edgenext_base", 2, ["'edgenext'", "not a chain of a stem and four stages"]),
        ("resnet51q", 2, ["'byobnet'", "differ from net to net"]),
        ("densenet121", 3, ["exists in 2D only"]),
        ("tv_resnet50", 2, ["gave up", "Type resnet50 with weights resnet50.tv_in1k"]),
        ("resnet50.a1_in1k", 2, ["Type arch resnet50 and weights resnet50.a1_in1k"]),
        ("resnet50.a1_in1k", 3, ["Type arch resnet50 and weights resnet50.a1_in1k"]),
        ("", 2, ["not known", "medres archs"]),
    ],
)
def test_refusals(arch: str, spatial_dims: int, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        check_arch(arch, spatial_dims=spatial_dims)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_dimensions_are_two_or_three() -> None:
    with pytest.raises(ModelError, match="spatial_dims is 4"):
        list_archs(spatial_dims=4)


def test_donors() -> None:
    donors = {arch: donor_arch(arch, spatial_dims=3) for arch in list_archs(spatial_dims=3)}
    assert [arch for arch, donor in donors.items() if donor is None] == ["resnet10"]
    assert all(donor in (None, arch) for arch, donor in donors.items())
    assert donor_arch("resnet50d", spatial_dims=2) == "resnet50d"
