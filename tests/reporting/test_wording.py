from __future__ import annotations

from typing import Any

import pytest

from medres.planning.plan import Augmentation, Intensity, Plan
from medres.reporting.wording import (
    brief,
    interval_text,
    no_learning_lines,
    plan_rows,
    reasons,
    score_title,
    value_text,
    value_with_interval,
)


def _score(value: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, **more}


@pytest.mark.parametrize(
    ("score", "short", "value", "interval"),
    [
        (_score(0.83, 0.711, 0.934), "0.83 (0.71 to 0.93)", "0.830", "0.711 to 0.934"),
        (_score(0.0, 0.0, 0.1), "0.00 (0.00 to 0.10)", "0.000", "0.000 to 0.100"),
        (_score(0.8, None, None, reason="3 patients"), "0.80 (no interval)", "0.800", "none: 3 patients"),
        (_score(None, None, None, reason="one class"), "-", "-", "none: one class"),
    ],
)
def test_scores_in_words(score: dict[str, Any], short: str, value: str, interval: str) -> None:
    assert value_with_interval(score) == short
    assert value_text(score) == value
    assert interval_text(score) == interval


def test_reasons_are_given_once() -> None:
    scores = [_score(None, None, None, reason=why) for why in ("few", "one class", "few")]
    assert reasons([*scores, _score(1, 0, 1)]) == ["few", "one class"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((64, 64, 32), "64 x 64 x 32"), ((0.70312345, 1.0), "0.7031 x 1"), (("lung", "bone"), "lung, bone"),
        ((), "none"), (None, "not set"), (True, "yes"), (False, "no"), ("SPL", "SPL"), (3, "3"),
        (Intensity(scheme="hu_windows", windows_hu=("lung", (0.0, 80.0))),
         "scheme hu_windows, windows_hu [lung, 0 to 80], scale_range [0, 1], mean 0.5, std 0.5"),
        (Intensity(scheme="scaled", scale_range=(999940.3, 1000060.1)),
         "scheme scaled, scale_range [999940.3, 1000060.1], mean 0.5, std 0.5"),
    ],
)  # fmt: skip
def test_choices_in_words(value: Any, words: str) -> None:
    assert brief(value) == words


def test_plan_rows_leave_out_what_is_no_choice() -> None:
    plan = Plan(
        spatial_dims=2, modality="MR", shape=(64, 64), in_channels=1, intensity=Intensity(scheme="robust_zscore"),
        augmentation=Augmentation(), batch_size=8, reasons={"shape": "small", "unknown": "?"},
    )  # fmt: skip
    assert plan_rows(plan) == [("shape", "64 x 64", "small")]


def test_unknown_scores_go_by_their_own_name() -> None:
    assert score_title("net_benefit") == "net benefit"


def test_members_that_learned_nothing_are_named_with_the_signs() -> None:
    signs = ["its log-loss is that of the prevalence"]
    folds = [{"fold": index, "no_learning": [] if index == 1 else signs} for index in range(3)]
    lines = no_learning_lines({"folds": folds})
    assert lines[0].startswith("2 of 3 members learned nothing: 0, 2. They are scored")
    assert lines[1:3] == [f"Member {fold}: its log-loss is that of the prevalence." for fold in (0, 2)]
    assert "--epochs" in lines[-1]
    assert no_learning_lines({"folds": [{"fold": 0, "no_learning": []}, {"fold": 1}]}) == []
