"""Mixup and CutMix: every mixed value can be told apart again, and fits its target."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.errors import ConfigError
from medres.finetuning.mixing import check_mixing, mix_batch
from medres.finetuning.optimisation import Optimisation

SHAPES = st.sampled_from([(6, 5), (16, 16), (4, 5, 6), (1, 8, 8)])


def _coded(size: int, shape: tuple[int, ...], *, base: float = 10.0) -> torch.Tensor:
    """Scan b holds the value base ** b everywhere, so that a mix tells its parts."""
    return (base ** torch.arange(size, dtype=torch.float64)).view(-1, *[1] * (len(shape) + 1)).expand(-1, 2, *shape)


@settings(max_examples=60)
@given(SHAPES, st.integers(2, 6), st.integers(0, 10**6), st.floats(0.1, 4.0))
def test_mixup_mixes_scans_and_labels_in_the_same_shares(
    shape: tuple[int, ...], size: int, seed: int, alpha: float
) -> None:
    scans = _coded(size, shape, base=2.0)  # small: shares are fp32, right to 6e-8 of what they take a part of
    mixed = mix_batch(scans, torch.arange(size), num_classes=size, mixup=alpha, cutmix=0, seed=(seed, 1))
    expected = mixed.targets.double() @ scans.flatten(1)  # every scan its own class: targets are the shares
    torch.testing.assert_close(mixed.scans.flatten(1), expected, rtol=1e-5, atol=1e-5)
    assert ((mixed.targets > 0).sum(dim=1) <= 2).all()
    torch.testing.assert_close(mixed.targets.sum(dim=1), torch.ones(size))


@settings(max_examples=60)
@given(SHAPES, st.integers(2, 6), st.integers(0, 10**6), st.floats(0.1, 4.0))
def test_cutmix_pastes_one_box_and_labels_by_its_volume(
    shape: tuple[int, ...], size: int, seed: int, alpha: float
) -> None:
    scans = _coded(size, shape)
    mixed = mix_batch(scans, torch.arange(size), num_classes=size, mixup=0, cutmix=alpha, seed=seed)
    for row in range(size):
        foreign = mixed.scans[row, 0] != scans[row, 0]
        assert torch.equal(foreign, mixed.scans[row, 1] != scans[row, 1])
        assert mixed.targets[row, row].item() == pytest.approx(1 - foreign.double().mean().item(), abs=1e-6)
        if foreign.any():
            places = foreign.nonzero()
            low, high = places.min(dim=0).values, places.max(dim=0).values + 1
            assert int((high - low).prod()) == len(places)  # a full box
            values = mixed.scans[row, 0][foreign].unique()
            assert len(values) == 1
            assert mixed.targets[row, int(torch.log10(values[0]).round())] > 0
    assert torch.equal(scans, _coded(size, shape))  # the batch itself is as it was


@pytest.mark.parametrize("options", [{"mixup": 0.4, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}])
def test_shares_are_those_of_the_beta_distribution_and_nobody_is_its_own_partner(options: dict[str, float]) -> None:
    scans = torch.zeros(64, 1, 32, 32)
    targets = [mix_batch(scans, torch.arange(64), num_classes=64, seed=seed, **options).targets for seed in range(40)]
    own = torch.stack([part.diagonal() for part in targets])
    if options["mixup"]:
        assert own.mean().item() == pytest.approx(0.5, abs=0.03)
        assert own.var().item() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)  # of Beta(0.4, 0.4)
    else:
        assert own.mean().item() > 0.5  # boxes are cut at the border: more of the scan itself stays
    partners = torch.cat([(part - torch.diag(part.diagonal())).argmax(dim=1) for part in targets])
    assert (partners != torch.arange(64).repeat(40)).float().mean().item() > 0.95  # but where all was kept


def test_with_both_each_batch_is_mixed_by_one_of_them() -> None:
    scans = _coded(4, (8, 8)).float()
    blended = 0
    for seed in range(200):
        mixed = mix_batch(scans, torch.arange(4), num_classes=4, mixup=1.0, cutmix=1.0, seed=seed)
        values = {len(row.unique()) for row in mixed.scans}
        blended += values == {1} and bool((mixed.scans.log10() % 1 > 1e-3).any())
    assert 70 < blended < 130


def test_the_seed_is_all_it_depends_on() -> None:
    scans, labels = torch.rand(5, 1, 8, 8), torch.arange(5) % 2
    first, second, other = (
        mix_batch(scans, labels, num_classes=2, mixup=1.0, cutmix=1.0, seed=seed)
        for seed in ((0, 1, 2), (0, 1, 2), (0, 1, 3))
    )
    assert torch.equal(first.scans, second.scans)
    assert torch.equal(first.targets, second.targets)
    assert not torch.equal(first.scans, other.scans)


@pytest.mark.parametrize("options", [{"mixup": 1.0, "cutmix": 1.0}, {"mixup": 0.0, "cutmix": 0.0}])
def test_a_batch_of_one_and_a_batch_without_mixing_pass_through(options: dict[str, float]) -> None:
    scans = torch.rand(1 if options["mixup"] else 3, 1, 4, 4)
    labels = torch.ones(len(scans), dtype=torch.int64)
    mixed = mix_batch(scans, labels, num_classes=3, seed=0, **options)
    assert torch.equal(mixed.scans, scans)
    assert mixed.targets.tolist() == [[0.0, 1.0, 0.0]] * len(scans)


def test_cached_views_and_slices_are_refused_and_nothing_else() -> None:
    check_mixing(Optimisation(mixup=0.2, cutmix=1.0), views=0, slicewise=False)
    check_mixing(Optimisation(), views=4, slicewise=True)
    with pytest.raises(ConfigError, match=r"mixup mixes scans .* 4 cached views .*mixup=0"):
        check_mixing(Optimisation(mixup=0.2), views=4, slicewise=False)
    with pytest.raises(ConfigError, match=r"mixup and cutmix cannot .*slice by slice.*--dims 3"):
        check_mixing(Optimisation(mixup=0.2, cutmix=1.0), views=0, slicewise=True)
