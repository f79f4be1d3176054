"""From trained folds to the bundle: what is served is what was evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from medres.deployment.bundle import write_bundle
from medres.deployment.members import TrainedMember
from medres.finetuning.cross_validation import ensemble_operating_point
from medres.finetuning.outcomes import FoldOutcome
from medres.finetuning.scoring import members_without_learning
from medres.reporting.model_card import model_card
from medres.runs.folder import RunFolder, read_metrics
from medres.workflows.design import Design
from medres.workflows.study import Study


def write_run_bundle(
    folder: RunFolder, study: Study, design: Design, outcomes: Sequence[FoldOutcome], temperatures: Sequence[float]
) -> None:
    """Write ``model/``: all members with their calibration, the plan, the fingerprint, a golden case and a card."""
    metrics = read_metrics(folder)
    weights = design.weights
    write_bundle(
        folder.model,
        arch=design.arch,
        classes=study.table.classes,
        positive=metrics["positive"],
        plan=design.plan,
        fingerprint=study.fingerprint,
        members=[_member(study, *pair) for pair in zip(outcomes, temperatures, strict=True)],
        operating_point=ensemble_operating_point(outcomes),
        tta=design.optimisation.tta,
        weights_source=design.weights_source,
        weights_sha256=weights.sha256 if weights else "",
        trained_before=design.trained_before,
        members_without_learning=members_without_learning(metrics),
        card=model_card(
            metrics,
            design.plan,
            arch=design.arch,
            weights_source=design.weights_source,
            weights_sha256=weights.sha256 if weights else "",
            weights_notes=weights.notes if weights else (),
            fingerprint=study.fingerprint,
        ),
    )


def _member(study: Study, outcome: FoldOutcome, temperature: float) -> TrainedMember:
    return TrainedMember(
        weights_file=outcome.weights_file,
        fold=outcome.fold.index,
        temperature=temperature,
        logit_offset=outcome.offset,
        operating_point=outcome.operating_point,
        # validation scans fitted the temperature: predicting them again proves nothing either
        training_hashes=[study.table.scans[int(row)].content_hash for row in (*outcome.fold.train, *outcome.fold.val)],
    )
