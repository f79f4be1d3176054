from __future__ import annotations

import json

import pytest

from medres.finetuning.scoring import main_block
from medres.planning.plan import Plan
from medres.reporting.model_card import model_card
from medres.runs.folder import RunFolder
from tests.planning.examples import chest_ct, fingerprint
from tests.reporting.conftest import RUNS
from tests.reporting.fake_runs import CANARIES

SECTIONS = (
    "Model", "Intended use", "Expected scans", "Data", "Scores", "Per class, against the rest",
    "Preprocessing and training plan", "Limits",
)  # fmt: skip


def _card(run: RunFolder) -> str:
    metrics = json.loads(run.metrics.read_text())
    return model_card(
        metrics, Plan.read(run.plan), arch="resnet18", weights_source="resnet18.safetensors",
        fingerprint=fingerprint(chest_ct()),
    )  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_card_holds_all_sections_scores_and_reasons(runs: dict[str, RunFolder], name: str) -> None:
    card, metrics = _card(runs[name]), json.loads(runs[name].metrics.read_text())
    assert [section for section in SECTIONS if f"\n## {section}\n" not in card] == []
    assert "Not a medical device" in card
    for score in main_block(metrics)[1]["scores"].values():
        counts = f"{score['n_patients']} | {score['n_units']} | {score['n_events']} |"
        assert f"| {score['value']:.3f} |" in card
        assert counts in card
    assert [canary for canary in CANARIES if canary in card] == []


@pytest.mark.parametrize("name", RUNS)
def test_tables_have_as_many_cells_as_heads(runs: dict[str, RunFolder], name: str) -> None:
    tables = [part for part in _card(runs[name]).split("\n\n") if part.startswith("| ")]
    assert len(tables) >= 4
    for table in tables:
        # a bar that is escaped belongs to a name
        assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1


def test_hostile_names_are_neither_html_nor_markdown(runs: dict[str, RunFolder]) -> None:
    card = _card(runs["hostile names"])
    assert "<script" not in card
    assert "<img" not in card
    assert r"\_\[bold\]a\|b\[/bold\]\_" in card


def test_ensemble_is_named_only_where_it_was_scored(run: RunFolder, runs: dict[str, RunFolder]) -> None:
    assert "## Scores of the ensemble on the test split" in _card(run)
    assert "## Scores of the ensemble" not in _card(runs["three classes"])
    assert "can only be scored on a test split" in _card(runs["three classes"])


def test_which_of_several_networks_was_taken_stands_in_the_card(run: RunFolder) -> None:
    note = "of several networks state_dict_ema (averaged weights) was taken; left out: state_dict (122 tensors)"
    card = model_card(
        json.loads(run.metrics.read_text()), Plan.read(run.plan), arch="resnet18", weights_source="two.pth",
        weights_notes=[note],
    )  # fmt: skip
    line = next(line for line in card.splitlines() if "Started from" in line)
    assert "averaged weights" in line
    assert "left out" in line


def test_random_weights_are_called_so(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text())
    card = model_card(metrics, Plan.read(run.plan), arch="resnet18", weights_source="none")
    assert "Started from: random weights" in card


def test_a_plan_without_reasons_still_says_what_is_done(run: RunFolder) -> None:
    metrics = json.loads(run.metrics.read_text())
    plan = Plan.read(run.plan).model_copy(update={"reasons": {}})
    card = model_card(metrics, plan, arch="resnet18", weights_source="none")
    assert "| shape | 80 x 64 x 64 |" in card


def test_the_card_says_which_scans_are_expected_as_the_fingerprint_has_them(run: RunFolder) -> None:
    card = _card(run)
    assert "| spacing in mm | 1 × 0.7 × 0.7 |" in card
    assert "| field of view in mm |" in card
    assert "no decision" in card.partition("## Expected scans")[2].partition("\n## ")[0]
