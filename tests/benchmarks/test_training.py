"""One epoch of fine-tuning beside a plain loop in fp32 over the same network, the same scans, one run, ratios."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medres.finetuning.inference import memory_format
from medres.finetuning.machine import machine_facts
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import TrainingSamples
from medres.models.factory import create_model
from medres.runs.progress import Silent
from tests.finetuning.conftest import Cohort, make_cohort

pytestmark = pytest.mark.slow


def _plain_epoch(cohort: Cohort, model: torch.nn.Module) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.from_numpy(cohort.table.class_indices)
    model.train()
    for rows in np.array_split(
        np.random.default_rng(0).permutation(len(labels)), len(labels) // cohort.plan.batch_size
    ):
        loss = torch.nn.functional.cross_entropy(model(cohort.feed.batch(rows)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_an_epoch_beside_a_plain_loop(tmp_path: Path) -> None:
    precision = "bf16" if machine_facts(torch.device("cpu")).bf16 else "fp32"
    cohort = make_cohort(tmp_path, num_scans=64, size=128)
    trainer = Trainer(
        feed=cohort.feed,
        plan=cohort.plan.model_copy(update={"precision": precision}),
        optimisation=Optimisation(augment=False),
        seed=0,
        progress=Silent(),
        on_event=lambda kind, **fields: None,
        activations=tmp_path / "activations",
    )
    samples = TrainingSamples(
        rows=np.arange(64),
        class_indices=cohort.table.class_indices,
        class_weights=np.ones(2),
        offset=np.zeros(2),
        pseudonyms=("s",) * 64,
    )
    seconds = {"medres": [], "plain": []}  # type: dict[str, list[float]]
    for _ in range(3):
        model = create_model("resnet18", num_classes=2, in_channels=1, weights="none").to(
            memory_format=memory_format(2)
        )
        started = time.perf_counter()
        trainer.train(model, Stage(name="x", train_from="stem", epochs=1, lr=1e-4), samples, first_epoch=1)
        seconds["medres"].append(time.perf_counter() - started)
        plain = create_model("resnet18", num_classes=2, in_channels=1, weights="none")
        started = time.perf_counter()
        _plain_epoch(cohort, plain)
        seconds["plain"].append(time.perf_counter() - started)
    ratio = min(seconds["plain"]) / min(seconds["medres"])
    print(f"\ntraining: resnet18, 64 images of 128^2, plain fp32 loop / medres ({precision}, EMA) = {ratio:.2f}")
    assert len(seconds["plain"]) == len(seconds["medres"]) == 3
