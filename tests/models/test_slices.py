"""2.5D networks: the attention is that of the paper, padding does not count, and the contract of backbones holds."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medres.errors import ModelError
from medres.finetuning.freezing import freeze_to
from medres.finetuning.parameter_groups import parameter_groups
from medres.finetuning.stages import Stage
from medres.models.backbone import STAGES
from medres.models.factory import create_model
from medres.models.slices import EachSlice, GatedAttention, SliceModel
from tests.models.conftest import _one_thread  # noqa: F401 -- a fixture: one thread for small nets

#: One of each family: plain, pre-activation, without batch norm, attention in blocks, normalised after pooling.
FAMILIES = ("test_resnet", "resnet18", "resnetv2_18", "resnet50_gn", "seresnet18", "regnetx_002", "convnext_atto")

MASK = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])


def made(arch: str, *, uniform: bool = False, **options: Any) -> SliceModel:
    model = create_model(arch, spatial_dims=3, slicewise=True, num_classes=3, **options)
    assert isinstance(model, SliceModel)
    if not uniform:  # as after training
        nn.init.normal_(model.attention.score.weight, generator=torch.Generator().manual_seed(3))
    return model.eval()


def volumes(channels: int = 1, *, size: int = 64, seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 5, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> SliceModel:
    torch.manual_seed(0)
    return made(request.param)


# --- the attention


def by_the_paper(attention: GatedAttention, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ilse 2018, equation 9, written down again in numpy for one bag ``(D, F)``: weights and pooled features."""
    v, u, w = (layer.weight.detach().double().numpy() for layer in (attention.content, attention.gate, attention.score))
    scores = np.array([float(w[0] @ (np.tanh(v @ h) / (1 + np.exp(-(u @ h))))) for h in features])
    weights = np.exp(scores) / np.exp(scores).sum()
    return weights, sum(a * h for a, h in zip(weights, features, strict=True))


@pytest.mark.parametrize("slices", [1, 2, 17, 300])
def test_the_attention_is_that_of_the_paper(slices: int) -> None:
    torch.manual_seed(0)
    attention = GatedAttention(24)
    nn.init.normal_(attention.score.weight)
    features = torch.randn(2, slices, 24)
    for bag, weights, pooled in zip(features, attention.weights(features), attention(features), strict=True):
        expected_weights, expected = by_the_paper(attention, bag.double().numpy())
        np.testing.assert_allclose(weights.detach().numpy(), expected_weights, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(pooled.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_attention_starts_as_the_mean_of_the_slices_that_are_there() -> None:
    features = torch.randn(3, 5, 16)
    attention = GatedAttention(16)
    expected = torch.stack([bag[own].mean(0) for bag, own in zip(features, MASK, strict=True)])
    torch.testing.assert_close(attention(features, MASK), expected)
    weights = attention.weights(features, MASK)
    torch.testing.assert_close(weights, MASK / MASK.sum(1, keepdim=True))
    assert not weights[~MASK].any()


def test_the_order_of_the_slices_does_not_matter_to_the_scan_and_follows_in_the_weights() -> None:
    torch.manual_seed(0)
    attention = GatedAttention(16)
    nn.init.normal_(attention.score.weight)
    features, order = torch.randn(3, 5, 16), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(attention(features[:, order], MASK[:, order]), attention(features, MASK))
    torch.testing.assert_close(
        attention.weights(features[:, order], MASK[:, order]), attention.weights(features, MASK)[:, order]
    )


def test_features_of_padding_may_be_anything() -> None:
    torch.manual_seed(0)
    attention = GatedAttention(16)
    nn.init.normal_(attention.score.weight)
    features = torch.randn(3, 5, 16)
    spoiled = features.masked_fill(~MASK[:, :, None], torch.nan)
    assert torch.equal(attention(spoiled, MASK), attention(features, MASK))
    assert torch.equal(attention.weights(spoiled, MASK), attention.weights(features, MASK))
    spoiled.requires_grad_(True)
    attention(spoiled, MASK).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in attention.parameters() if p.grad is not None)


# --- padding


def test_padding_has_no_weight_and_no_say(model: SliceModel) -> None:
    x = volumes()
    spoiled = torch.where(MASK[:, :, None, None, None], x, torch.nan)
    with torch.no_grad():
        logits, weights = model(x, MASK), model.slice_weights(x, MASK)
        assert torch.equal(model(spoiled, MASK), logits)
        for row, count in enumerate(MASK.sum(1).tolist()):
            alone = x[row : row + 1, :count]
            torch.testing.assert_close(model(alone), logits[row : row + 1], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(model.slice_weights(alone)[0], weights[row, :count], rtol=1e-4, atol=1e-5)
    assert not weights[~MASK].any()
    assert bool((weights[MASK] > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(3))


def test_padding_enters_no_batch_statistics_and_no_gradient() -> None:
    torch.manual_seed(0)
    tight, x = made("resnet18"), volumes()
    padded = copy.deepcopy(tight)
    own = torch.cat([x[:, :3], torch.full((3, 4, 1, 64, 64), 1e6)], dim=1)
    mask = torch.tensor([[True] * 3 + [False] * 4] * 3)
    for model, inputs in ((tight, (x[:, :3],)), (padded, (own, mask))):
        model.train()
        model(*inputs).square().sum().backward()
    for (name, one), other in zip(tight.state_dict().items(), padded.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    for one, other in zip(tight.parameters(), padded.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_of_any_number_of_slices_only_so_many_are_computed_together() -> None:
    model, seen = made("test_resnet"), []
    hook = model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x = torch.randn(1, 300, 1, 32, 32)
    with torch.no_grad():
        logits = model(x)
        hook.remove()
        few = EachSlice(model.backbone, slices_at_a_time=7)(x)
        torch.testing.assert_close(few, model.slice_features(x), rtol=1e-4, atol=1e-5)
    assert logits.shape == (1, 3)
    assert sum(seen) == 300
    assert max(seen) == 32


@pytest.mark.parametrize(
    ("shape", "mask", "words"),
    [
        ((2, 1, 64, 64), None, "takes .B, D, C, H, W."),
        ((2, 3, 2, 64, 64), None, "C = 1"),
        ((2, 0, 1, 64, 64), None, "got shape"),
        ((2, 3, 1, 64, 64), torch.ones(2, 4, dtype=torch.bool), "slice_mask"),
        ((2, 3, 1, 64, 64), torch.ones(2, 3), "slice_mask is torch.float32"),
        ((2, 3, 1, 64, 64), torch.tensor([[True] * 3, [False] * 3]), "no slice"),
    ],
)
def test_other_inputs_are_refused(shape: Any, mask: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        made("test_resnet")(torch.zeros(shape), mask)


# --- the contract of backbones


def test_every_tensor_has_one_stage_and_the_attention_is_of_the_head(model: SliceModel) -> None:
    prefixes = {
        stage: {id(t) for t in model.split_at(stage)[0].state_dict(keep_vars=True).values()} for stage in STAGES
    }
    found = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        stage = model.stage_of(name)
        found.add(stage)
        assert stage == "head" or name.startswith("backbone.")
        for cut in STAGES:
            assert (id(tensor) in prefixes[cut]) == (STAGES.index(stage) < STAGES.index(cut)), (name, stage, cut)
    assert found == set(STAGES)


@pytest.mark.parametrize("channels_last", [False, True])
def test_prefix_and_suffix_are_the_whole_bit_for_bit(model: SliceModel, channels_last: bool) -> None:
    shown, x = model, volumes()
    if channels_last:
        shown = copy.deepcopy(model).to(memory_format=torch.channels_last)
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 5))
    own = {id(parameter) for parameter in shown.parameters()}
    with torch.no_grad():
        for arguments in ((), (MASK,)):
            whole = shown(x, *arguments)
            for stage in STAGES:
                prefix, suffix = shown.split_at(stage)
                inner = prefix(x, *arguments)
                assert torch.equal(suffix(inner, *arguments), whole), stage
                assert inner.shape[:2] == (3, 5)
                assert stage != "stem" or inner is x
                first, second = ({id(p) for p in half.parameters()} for half in (prefix, suffix))
                assert first | second == own
                assert not first & second
            features = shown.split_at("head")[0](x, *arguments)
            assert torch.equal(features, shown.slice_features(x, *arguments))
            assert features.shape == (3, 5, shown.backbone.num_features)
            torch.testing.assert_close(shown.head(shown.pooled_features(x, *arguments)), whole)


def test_saved_and_loaded_it_computes_the_same(model: SliceModel) -> None:
    again, x = made(model.backbone.arch), volumes()
    again.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again(x, MASK), model(x, MASK))


def test_gradient_reaches_every_parameter(model: SliceModel) -> None:
    trained = copy.deepcopy(model).train()
    trained(volumes(), MASK).square().sum().backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name


@pytest.mark.parametrize("stage", ["layer2", "layer4", "head"])
def test_frozen_tensors_are_bit_identical_after_training(stage: str) -> None:
    torch.manual_seed(0)
    model = freeze_to(made("resnet18", uniform=True), stage, norm_statistics="update")
    before = copy.deepcopy(model.state_dict())
    model.train()
    for module in model.modules():
        module.train()
    prefix, suffix = model.split_at(stage)
    prefix.train()
    suffix.train()
    settings = Stage(name="s", train_from=stage, epochs=1, lr=0.1)
    optimizer = torch.optim.SGD(parameter_groups(model, settings), lr=0.1)
    for _ in range(3):  # the gradient of V and U is 0 until w has moved
        optimizer.zero_grad()
        with torch.no_grad():
            frozen = prefix(volumes(), MASK)
        nn.functional.cross_entropy(suffix(frozen, MASK), torch.tensor([0, 1, 2])).backward()
        optimizer.step()
    after, counted = model.state_dict(), {True: 0, False: 0}
    for name, tensor in before.items():
        is_frozen = STAGES.index(model.stage_of(name)) < STAGES.index(stage)
        counted[is_frozen] += 1
        assert not is_frozen or torch.equal(after[name], tensor), name
    assert min(counted.values()) >= 5
    for name in ("attention.score.weight", "attention.gate.weight", "attention.content.weight", "head.weight"):
        assert not torch.equal(after[name], before[name]), name


def test_the_head_learns_at_one_rate_with_its_attention() -> None:
    model = freeze_to(made("test_resnet"), "head")
    groups = parameter_groups(model, Stage(name="s", train_from="head", epochs=1, lr=0.5, layer_decay=0.5))
    assert {group["name"]: group["lr"] for group in groups} == {"head/decayed": 0.5, "head/plain": 0.5}
    assert sum(len(group["params"]) for group in groups) == 5


# --- around it


def test_a_volume_of_one_slice_is_its_image(model: SliceModel) -> None:
    image = create_model(model.backbone.arch, num_classes=3).eval()
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("attention.")}
    image.load_state_dict(tensors, strict=True)
    x = volumes()[:, :1]
    with torch.no_grad():
        torch.testing.assert_close(model(x), image(x[:, 0]), rtol=1e-5, atol=1e-5)


def test_dropout_and_channels_are_passed_on() -> None:
    model = made("test_resnet", in_channels=9, drop_rate=0.5)
    assert model(volumes(9)).shape == (3, 3)
    model.train()
    assert not torch.equal(model(volumes(9)), model(volumes(9)))


def test_the_families_are_walked() -> None:
    print(f"\nslice contract: {len(FAMILIES)} families")
    assert len(set(FAMILIES)) == 7
