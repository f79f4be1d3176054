"""A frozen stage of 20 epochs, its activations kept, beside the same stage with the frozen part in every epoch.

Both are medres' own loop on the same scans in one run; what other tools do (a plain loop over the whole network) costs
at least as much as the second.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from medres.finetuning.feed import Feed
from medres.models.arch_facts import count_macs
from tests.benchmarks.stages import Case, train_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EPOCHS = 20


RESNET50 = Case(arch="resnet50", shape=(224, 224), num_scans=48, batch_size=16)
RESNET18_3D = Case(arch="resnet18", shape=(64, 64, 64), num_scans=32, batch_size=8)


def _seconds(case: Case, feed: Feed, train_from: str, *, views: int, folder: Path, epochs: int) -> float:
    started = time.perf_counter()
    train_stage(case, feed, train_from, views=views, folder=folder, epochs=epochs)
    return time.perf_counter() - started


def _allowed(case: Case, train_from: str, *, views: int) -> float:
    """Return the ratio that the arithmetic allows: multiply-adds with and without keeping; backward = twice forward."""
    whole = count_macs(case.make_model(), (1, *case.shape))
    prefix = count_macs(case.make_model().split_at(train_from)[0], (1, *case.shape))
    trained = 3 * (whole - prefix)
    return EPOCHS * (prefix + trained) / (views * prefix + EPOCHS * trained)


@pytest.mark.parametrize("case", [RESNET50, RESNET18_3D], ids=lambda case: f"{case.arch}-{len(case.shape)}D")
@pytest.mark.parametrize(("train_from", "views", "least"), [("head", 1, 15.0), ("head", 4, 4.0), ("layer4", 1, 0.0)])
def test_kept_activations_beside_a_frozen_part_in_every_epoch(
    case: Case, train_from: str, views: int, least: float, tmp_path: Path
) -> None:
    feed = case.feed(tmp_path / "scans")
    # an epoch of the slow way is as long as the next: what 3 of them take tells 20; the warm-up of either way is left
    # out, and the pass for the normalisation statistics at the end of the stage counts once
    _seconds(case, feed, train_from, views=0, folder=tmp_path, epochs=1)
    one, four = (_seconds(case, feed, train_from, views=0, folder=tmp_path, epochs=epochs) for epochs in (1, 4))
    live = one + (EPOCHS - 1) * (four - one) / 3
    kept = _seconds(case, feed, train_from, views=views, folder=tmp_path / "kept", epochs=EPOCHS)
    allowed = _allowed(case, train_from, views=views)
    print(
        f"\nfrozen before {train_from}, {case.arch} {len(case.shape)}D, {case.num_scans} scans, {EPOCHS} epochs, "
        f"{views} view(s): every epoch / kept = {live / kept:.1f} (the arithmetic allows {allowed:.2f})"
    )
    # layer4 of a 3D ResNet-18 holds 25 of its 33 million parameters for a few positions: products of few rows in fp32,
    # and reading and writing weights, moments and average, which the count of multiply-adds leaves out
    bound_by_memory = train_from == "layer4" and len(case.shape) == 3
    assert live / kept >= (2.0 if bound_by_memory else least or 0.8 * allowed)
