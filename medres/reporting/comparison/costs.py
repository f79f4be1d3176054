"""What a run cost: what was recorded (parameters, time), and what can be counted (multiply-adds)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medres.deployment.members import rebuild_network
from medres.errors import MedresError
from medres.models.arch_facts import count_macs
from medres.reporting.comparison.recorded import RecordedRun


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a contender cost.

    Args:
        parameters: Of the network with its head, recorded when training began; None in runs that did not record it.
        trained_parameters: The most that were trained at once, recorded.
        macs: Multiply-adds of predicting one scan with one model at the plan's size, counted; None where the network
            cannot be built again.
        models: Models of a run; the ensemble that is served takes as many times the multiply-adds.
        epochs: Of gradient descent; 0 where only a head was solved.
        train_seconds: Measured: frozen features and all folds with their scoring, mean over the runs.
        seed_seconds: The same of each run.
    """

    parameters: int | None
    trained_parameters: int | None
    macs: int | None
    models: int
    epochs: int
    train_seconds: float
    seed_seconds: tuple[float, ...]

    def summary(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
            "macs": self.macs,
            "models": self.models,
            "epochs": self.epochs,
            "train_seconds": self.train_seconds,
            "seed_seconds": list(self.seed_seconds),
        }


def cost_of(runs: Sequence[RecordedRun]) -> Cost:
    """Return what the runs of one contender cost; parameters and multiply-adds are those of the first."""
    first = runs[0]
    stages = [event for event in first.events if event.get("kind") == "stage_started" and event.get("fold") == 0]
    sizes = [(event["trainable_parameters"], event["frozen_parameters"]) for event in stages]
    seconds = tuple(train_seconds(run) for run in runs)
    return Cost(
        parameters=sum(sizes[0]) if sizes else None,
        trained_parameters=max(trained for trained, _ in sizes) if sizes else None,
        macs=_macs(first),
        models=len(first.metrics["folds"]),
        epochs=sum({event["stage"]: int(event["epochs"]) for event in stages}.values()),
        train_seconds=float(np.mean(seconds)),
        seed_seconds=seconds,
    )


def train_seconds(run: RecordedRun) -> float:
    """Return the seconds of all folds, and of the frozen features that were computed once before them."""
    folds = math.fsum(fold["seconds"] for fold in run.metrics["folds"])
    planned, begun = run.event("plan").get("time"), _first(run, "fold_started").get("time")
    before = max(0.0, begun - planned) if planned and begun else 0.0
    return round(folds + before, 1)


def machine_of(run: RecordedRun) -> str:
    """Return what the run was timed on: device, threads and system, as far as they were recorded."""
    versions = run.event("run_started").get("versions", {})
    return ", ".join(f"{key} {versions[key]}" for key in ("device", "threads", "system") if key in versions)


def _first(run: RecordedRun, kind: str) -> dict[str, Any]:
    return next((event for event in run.events if event.get("kind") == kind), {})


def _macs(run: RecordedRun) -> int | None:
    plan, arch = run.plan, run.config["arch"]
    try:
        network = rebuild_network(
            run.folder.fold(run.metrics["folds"][0]["fold"]) / "model.safetensors",
            arch=arch, num_classes=len(run.classes), plan=plan,
        )  # fmt: skip
    except MedresError:  # the weights were removed to save room, or the plug-in of the architecture is not here
        return None
    depth, *sides = plan.shape
    return count_macs(network, (depth, plan.in_channels, *sides) if plan.slicewise else (plan.in_channels, *plan.shape))
