"""`medres compare` on runs that were really trained."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import medres
from medres.evaluation.comparison import COMPARED_SCORES
from medres.reporting.comparison.result import Comparison
from tests.integration.conftest import ARCH


@pytest.fixture(scope="module")
def shorter(phantoms: Path, run: medres.Run) -> medres.Run:
    return medres.finetune(
        phantoms, arch=ARCH, weights="none", folds=3, epochs=1, output=run.path.parent, name="shorter", tracking=False
    )


@pytest.fixture(scope="module")
def comparison(run: medres.Run, shorter: medres.Run, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return medres.compare([run.path, shorter.path], html=tmp_path_factory.mktemp("page") / "compare.html")


def test_the_scores_are_those_of_the_runs(run: medres.Run, shorter: medres.Run, comparison: Comparison) -> None:
    for made in (run, shorter):
        block = made.metrics["pooled"]["scores"]
        found = comparison.scores["scores"][made.path.name]
        for score in COMPARED_SCORES:
            # the same resamples of the same patients: also the interval is the same
            for key in ("value", "low", "high", "n_patients", "n_units"):
                assert found[score][key] == pytest.approx(block[score][key], abs=1e-12), (score, key)
    assert comparison.pairing.notes == ("All runs have the same folds.",)


def test_the_decisions_are_those_of_the_runs(run: medres.Run, comparison: Comparison) -> None:
    pairs = zip(comparison.runs[0].scored.scans, run.predictions["decision"], strict=True)
    by_scan = sorted(pairs, key=lambda pair: pair[0].sample_id)
    classes = comparison.pairing.classes
    decided = [classes[index] for index in comparison.pairing.predictions[0].decisions]
    assert decided == [decision for _, decision in by_scan]


def test_parameters_and_multiply_adds_are_those_of_the_network(run: medres.Run, comparison: Comparison) -> None:
    cost = comparison.costs["shared"]
    network = medres.create_model(ARCH, num_classes=2, in_channels=run.plan.in_channels)
    assert cost.parameters == cost.trained_parameters == sum(p.numel() for p in network.parameters())
    assert (cost.epochs, cost.models) == (2, 3)
    counted = 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        counted += output[0].numel() * module.weight[0].numel()  # type: ignore[union-attr, index]

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.zeros(1, run.plan.in_channels, *run.plan.shape))
    assert cost.macs == counted


def test_the_page_holds_no_path_and_no_id(run: medres.Run, phantoms: Path, comparison: Comparison) -> None:
    assert comparison.page is not None
    page = comparison.page.read_text(encoding="utf-8")
    rows = list(csv.DictReader((run.path / "scans.csv").open()))
    canaries = {row["patient_id"] for row in rows} | {Path(row["path"]).stem for row in rows}
    for canary in canaries | {str(phantoms), phantoms.name, str(run.path.parent)}:
        assert canary not in page


def test_runs_without_their_weights_are_compared_all_the_same(
    run: medres.Run, shorter: medres.Run, tmp_path: Path
) -> None:
    light = tmp_path / "light"
    light.mkdir()
    for path in run.path.iterdir():
        if path.is_file():
            (light / path.name).write_bytes(path.read_bytes())
    found = medres.compare([shorter.path, light])
    assert found.costs["light"].macs is None
    assert found.costs["shorter"].macs
