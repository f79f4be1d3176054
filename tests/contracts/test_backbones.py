"""Every backbone keeps the contract: features, one stage a tensor, cuts that change no bit, gradient everywhere."""

from __future__ import annotations

import pytest
import torch

from medres.models.backbone import STAGES
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model, list_archs
from medres.models.geometry import DEFAULT, Geometry, geometry_of
from medres.models.timm_networks import build_timm_backbone
from tests.models.conftest import _one_thread  # noqa: F401 -- a fixture: one thread for small nets

#: One or more of each family that is small enough for every run of the tests; the others are marked slow.
FAST_2D = [
    "ecaresnet26t", "ecaresnet50d_pruned", "ecaresnetlight", "ecaresnext26t_32x4d", "res2net50_14w_8s",
    "res2net50_26w_4s", "res2net50d", "res2next50", "resnest14d", "resnest26d", "resnest50d_1s4x24d", "resnet10t",
    "resnet14t", "resnet18", "resnet18d", "resnet26", "resnet26d", "resnet26t", "resnet34", "resnet34d",
    "resnet50", "resnet50_gn", "resnet50c", "resnet50d", "resnet50t", "resnetaa34d", "resnetaa50", "resnetblur18",
    "resnetblur50", "resnetrs50", "resnetv2_18", "resnetv2_18d", "resnetv2_34", "resnetv2_34d", "resnetv2_50",
    "resnetv2_50d", "resnetv2_50d_evos", "resnetv2_50d_frn", "resnetv2_50d_gn", "resnetv2_50t",
    "resnetv2_50x1_bit", "resnext50_32x4d", "seresnet18", "seresnet34", "seresnet50", "seresnext26t_32x4d",
    "skresnet18", "skresnet34", "test_resnet",
    "convnext_atto", "convnext_tiny_hnf", "convnext_zepto_rms", "convnextv2_atto", "densenet121", "legacy_seresnet18",
    "regnetv_040", "regnetx_002", "regnety_002", "regnetz_005",
]  # fmt: skip

#: 128 million parameters and more: their cuts are compared, their gradients and copies would need many gigabytes.
GIANTS = [
    "convnext_large", "convnext_large_mlp", "convnext_xlarge", "convnextv2_huge", "convnextv2_large", "regnety_320",
    "regnety_640", "regnety_1280",
    "resnetrs350", "resnetrs420", "resnetv2_50x3_bit", "resnetv2_101x3_bit", "resnetv2_152x2_bit",
    "resnetv2_152x4_bit", "resnext101_32x16d", "resnext101_32x32d", "seresnextaa201d_32x8d",
]  # fmt: skip

#: Beyond what a machine with two cores has memory for: cut on the meta device only.
COLOSSI = ["convnext_xxlarge", "regnety_2560"]

FAST_3D = ("resnet10", "resnet18", "resnet34", "resnet50")

#: Of 3D networks, beside the default: MedicalNet's at each depth, with both kinds of shortcut, and thick slices.
MEDICALNET, THICK = Geometry("medicalnet"), Geometry(stem_stride=(1, 2, 2))
FAST_SHAPED = (("resnet10", MEDICALNET), ("resnet18", MEDICALNET), ("resnet50", MEDICALNET), ("resnet18", THICK))

CASES = [
    *((2, arch, DEFAULT) for arch in list_archs(spatial_dims=2) if arch not in COLOSSI),
    *((3, arch, geometry) for geometry in (DEFAULT, MEDICALNET, THICK) for arch in list_archs(spatial_dims=3)),
]


def _is_fast(case: tuple[int, str, Geometry]) -> bool:
    dims, arch, geometry = case
    return arch in (FAST_2D if dims == 2 else FAST_3D) if geometry == DEFAULT else (arch, geometry) in FAST_SHAPED


def _marked(case: tuple[int, str, Geometry]) -> object:
    dims, arch, geometry = case
    shape = "" if geometry == DEFAULT else "-thick" if geometry == THICK else f"-{geometry.name}"
    return pytest.param(case, id=f"{dims}D-{arch}{shape}", marks=() if _is_fast(case) else (pytest.mark.slow,))


def _made(dims: int, arch: str, geometry: Geometry) -> ClassificationModel:
    shaped = {} if dims == 2 else {"geometry": geometry.name, "stem_stride": geometry.stem_stride}
    return create_model(arch, spatial_dims=dims, num_classes=3, **shaped).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[_marked(case) for case in CASES])
def model(request: pytest.FixtureRequest) -> ClassificationModel:
    torch.manual_seed(0)
    return _made(*request.param)


def _input(model: ClassificationModel) -> torch.Tensor:
    shape = (2, 1, 64, 64) if model.backbone.spatial_dims == 2 else (2, 1, 32, 32, 32)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_shapes(model: ClassificationModel) -> None:
    x = _input(model)
    with torch.no_grad():
        assert model(x).shape == (2, 3)
        features = model.backbone(x)
        feature_map = model.backbone.feature_map(x)
    assert features.shape == (2, model.backbone.num_features)
    assert feature_map.ndim == x.ndim
    pooled = feature_map.flatten(2).mean(2)
    if any(name.startswith("net.head.") for name in model.backbone.state_dict()):  # ConvNeXt: normalised after pooling
        with torch.no_grad():
            pooled = model.backbone.net["head"](feature_map)
    torch.testing.assert_close(features, pooled, rtol=1e-4, atol=1e-5)


def test_every_tensor_has_exactly_one_stage(model: ClassificationModel) -> None:
    assert model.stages == STAGES
    prefixes = {
        stage: {id(t) for t in model.split_at(stage)[0].state_dict(keep_vars=True).values()} for stage in STAGES
    }
    found = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        stage = model.stage_of(name)
        found.add(stage)
        # what lies before a cut is what belongs to an earlier stage: the two ways of asking agree
        for cut in STAGES:
            assert (id(tensor) in prefixes[cut]) == (STAGES.index(stage) < STAGES.index(cut)), (name, stage, cut)
    assert found == set(STAGES)


def test_prefix_and_suffix_are_the_whole_bit_for_bit(model: ClassificationModel) -> None:
    x = _input(model)
    with torch.no_grad():
        whole = model(x)
        for stage in STAGES:
            prefix, suffix = model.split_at(stage)
            inner = prefix(x)
            assert torch.equal(suffix(inner), whole), stage
            if stage == "stem":
                assert inner is x
            if stage == "head":
                assert torch.equal(inner, model.backbone(x))
        before, after = model.backbone.split_at("layer3")
        assert torch.equal(after(before(x)), model.backbone(x))


def test_halves_share_every_parameter(model: ClassificationModel) -> None:
    own = {id(parameter) for parameter in model.parameters()}
    for stage in STAGES:
        prefix, suffix = model.split_at(stage)
        first, second = ({id(parameter) for parameter in half.parameters()} for half in (prefix, suffix))
        assert first | second == own
        assert not first & second


def test_saved_and_loaded_it_computes_the_same(model: ClassificationModel) -> None:
    if model.backbone.arch in GIANTS:
        return
    x, backbone = _input(model), model.backbone
    again = _made(backbone.spatial_dims, backbone.arch, geometry_of(backbone.net))
    assert not torch.equal(again.head.weight, model.head.weight)
    again.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


def test_gradient_reaches_every_parameter(model: ClassificationModel) -> None:
    if model.backbone.arch in GIANTS:
        return
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model(_input(model)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name
    model.zero_grad(set_to_none=True)
    model.eval().load_state_dict(state)


def test_the_families_are_walked() -> None:
    fast = [case for case in CASES if _is_fast(case)]
    two, three = (sum(dims == which for dims, *_ in fast) for which in (2, 3))
    print(
        f"\nbackbone contract: {two} 2D names and {three} 3D networks in every run, {len(CASES) - len(fast)} more "
        "marked slow"
    )
    assert two == len(FAST_2D) >= 40
    assert three == len(FAST_3D) + len(FAST_SHAPED)
    assert sum(dims == 2 for dims, *_ in CASES) == len(list_archs(spatial_dims=2)) - len(COLOSSI)
    assert sum(dims == 3 for dims, *_ in CASES) == 3 * len(list_archs(spatial_dims=3)) == 21
    assert set(GIANTS) <= set(list_archs(spatial_dims=2)) - set(FAST_2D)


#: Families that are no ResNets: few of each in every run, since building all 82 takes ten seconds.
OTHERS = ("convnext", "regnet", "densenet", "legacy_")


def _cut(arch: str) -> object:
    is_slow = arch.startswith(OTHERS) and arch not in FAST_2D
    return pytest.param(arch, marks=(pytest.mark.slow,) if is_slow else ())


@pytest.mark.parametrize("arch", [_cut(arch) for arch in list_archs(spatial_dims=2)])
def test_every_2d_name_can_be_cut(arch: str) -> None:
    with torch.device("meta"):
        backbone = build_timm_backbone(arch, in_channels=1)
    stages = [backbone.stage_of(name) for name in backbone.state_dict()]
    assert set(stages) == set(STAGES) - {"head"}
    norm = [backbone.stage_of(name) for name in backbone.state_dict() if name.startswith("net.norm.")]
    assert set(norm) <= {"layer4"}
    assert bool(norm) == arch.startswith("resnetv2")
