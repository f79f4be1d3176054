"""Number 15: a loss or a gradient that is not finite stops a run at once, and no such weight is written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from medres.errors import TrainingError
from medres.finetuning import engine, stage_loop
from medres.finetuning.feed import Feed
from tests.figures import RecordProperty
from tests.finetuning.conftest import Cohort, cohort
from tests.finetuning.test_trainer import train
from tests.integration.conftest import ARCH, inside, write_cohort

__all__ = ["cohort"]

BAD_STEP = 3


def _written_values(folder: Path) -> list[bool]:
    """Whether each tensor that was written is finite."""
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".ckpt")]
    return [
        bool(torch.isfinite(tensor).all())
        for path in files
        for tensor in safetensors.torch.load_file(path).values()
        if tensor.is_floating_point()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_voxel_that_is_not_finite_in_the_third_step_stops_the_run(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: RecordProperty
) -> None:
    original, steps = Feed.inputs, list[int]()

    def inputs(self: Feed, rows: Any, *, seeds: Any = None) -> Any:
        made = original(self, rows, seeds=seeds)
        if seeds is not None:
            steps.append(len(rows))
            if len(steps) == BAD_STEP:
                made.scans[0].view(-1)[7] = value
        return made

    monkeypatch.setattr(Feed, "inputs", inputs)
    done = inside(
        "finetune", "--data", write_cohort(tmp_path / "scans"), "--arch", ARCH, "--weights", "none", "--recipe", "full",
        "--epochs", "3", "--folds", "2", "--batch-size", "6", "--no-tracking", "--output", tmp_path / "runs",
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    assert "is nan in epoch" in done.stderr
    assert "s-" in done.stderr  # who, by pseudonym
    assert "Traceback" not in done.stderr
    after = len(steps) - BAD_STEP
    assert after <= 1
    assert all(_written_values(tmp_path / "runs"))
    record_property("figure", f"{value} in step {BAD_STEP}: stopped in that step, the scans named by pseudonym, 0 weights written that are not finite")  # fmt: skip # noqa: E501


def test_fp16_that_overflows_ten_times_goes_on_and_an_eleventh_time_stops(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, record_property: RecordProperty
) -> None:
    """On a CPU: the arithmetic is that of fp32, the rule about gradients that of fp16."""
    monkeypatch.setitem(engine._PRECISIONS, "fp16", "32-true")
    overflowing = _in_fp16(cohort)
    norms = iter([math.inf] * stage_loop.MAX_SKIPPED_STEPS + [1.0] * 1000)
    monkeypatch.setattr(stage_loop.StageLoop, "_clip_gradient", lambda self: next(norms))
    train(overflowing)
    calls = list[int]()
    monkeypatch.setattr(stage_loop.StageLoop, "_clip_gradient", lambda self: calls.append(1) or math.inf)
    with pytest.raises(TrainingError, match=r"gradient is inf in epoch \d+.*s-0000"):
        train(overflowing)
    assert len(calls) == stage_loop.MAX_SKIPPED_STEPS + 1 == 11
    record_property("figure", f"fp16: {stage_loop.MAX_SKIPPED_STEPS} overflows in a row are waited for, the next stops the run")  # fmt: skip # noqa: E501


def _in_fp16(cohort: Cohort) -> Cohort:
    return replace(cohort, plan=cohort.plan.model_copy(update={"precision": "fp16"}))
