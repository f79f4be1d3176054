"""The design of a run: device, weights, plan, recipe, prepared scans and network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medres.config import FinetuneConfig
from medres.data.sample import sample_key
from medres.deployment.manifest import SaltedHashes
from medres.errors import ConfigError
from medres.finetuning.compiling import require_compiler
from medres.finetuning.feed import Feed, Rows
from medres.finetuning.inference import memory_format
from medres.finetuning.machine import choose_device, machine_facts
from medres.finetuning.mixing import check_mixing
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.recipes import build_recipe, choose_recipe, default_epochs, describe_recipe
from medres.finetuning.stage_loop import planned_views
from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel
from medres.models.factory import backbone_facts, create_model, dims_of, loading_report
from medres.models.loading import LoadingReport
from medres.models.seeding import built_by
from medres.models.weights import PretrainedWeights, no_weights_reason, resolve_weights
from medres.planning.dims import network_dims
from medres.planning.facts import BackboneFacts
from medres.planning.plan import Plan
from medres.planning.planner import check_plan, choose_dims, make_plan
from medres.preprocessing.augmentation import make_augmenter
from medres.preprocessing.cache import prepare_table
from medres.preprocessing.preprocessor import Preprocessor
from medres.preprocessing.views import views_of
from medres.runs.folder import RunFolder
from medres.runs.progress import Progress
from medres.workflows.study import Study
from medres.workflows.transfer import refuse_seen_scans, scans_trained_before


@dataclass(frozen=True, kw_only=True)
class Design:
    """What was decided, before anything is trained.

    Args:
        arch: Backbone.
        num_classes: Of the head.
        device: Where it trains.
        weights: Pretrained weights, or None.
        loading: Where each tensor of the network comes from.
        plan: How scans are read and trained on.
        recipe: Name of the recipe.
        stages: Its stages.
        optimisation: What all stages share.
        seed: Of random weights.
        trained_before: What the weights were trained on, where they are of another run.
    """

    arch: str
    num_classes: int
    device: torch.device
    weights: PretrainedWeights | None
    loading: LoadingReport
    plan: Plan
    recipe: str
    stages: tuple[Stage, ...]
    optimisation: Optimisation
    seed: int
    trained_before: tuple[SaltedHashes, ...] = ()

    @property
    def weights_source(self) -> str:
        """What the weights are called, without a path."""
        return self.weights.source if self.weights else "none"

    def make_model(self) -> ClassificationModel:
        """Build the network with its starting weights: the same each time, whatever was drawn before."""
        with built_by(self.seed, arch=self.arch):
            model = create_model(
                self.arch, spatial_dims=self.plan.spatial_dims, slicewise=self.plan.slicewise,
                num_classes=self.num_classes, in_channels=self.plan.in_channels, weights=self.weights or "none",
                drop_rate=self.optimisation.dropout, drop_path=self.optimisation.drop_path,
                stem_stride=self.plan.stem_stride,
            )  # fmt: skip
        return model.to(memory_format=memory_format(model.backbone.spatial_dims))


def make_design(config: FinetuneConfig, study: Study, folder: RunFolder, progress: Progress) -> Design:
    """Decide, as far as a given plan leaves it open."""
    device = choose_device(config.device)
    given = None if config.plan is None else Plan.read(config.plan)
    arch_dims = dims_of(config.arch, weights=config.weights)
    dims = given.dims if given else choose_dims(study.fingerprint, dims=config.dims, backbone_dims=arch_dims).value
    spatial_dims = network_dims(dims)
    weights = resolve_weights(
        config.weights, arch=config.arch, spatial_dims=spatial_dims, weights_dir=config.weights_dir
    )
    trained_before = scans_trained_before(config.weights)
    refuse_seen_scans(trained_before, weights=config.weights, table=study.table, folding=study.folding)
    backbone = backbone_facts(config.arch, spatial_dims=spatial_dims, weights=weights)
    if given:
        check_plan(given, fingerprint=study.fingerprint, backbone=backbone)
    plan = given or _make_plan(config, study, backbone, device, arch_dims)
    num_scans = min(len(fold.train) for fold in study.folding.folds)
    recipe, why, stages = _choose_stages(config, device, plan, num_scans=num_scans, pretrained=weights is not None)
    _check_optimisation(config, plan, stages, device)
    progress.note(_summary(plan, folder))
    loading = _loading(config, plan, weights)
    progress.note(f"weights: {loading.summary()}")
    progress.note(f"recipe: {recipe} ({why})")
    return Design(
        arch=config.arch, num_classes=len(study.table.classes), device=device, weights=weights, loading=loading,
        plan=plan, recipe=recipe, stages=stages, optimisation=config.optimisation, seed=config.seed,
        trained_before=trained_before,
    )  # fmt: skip


def write_design(design: Design, folder: RunFolder) -> None:
    """Write ``plan.yaml``, and where each tensor of the network comes from."""
    design.loading.write_json(folder.weights)
    design.plan.write_yaml(folder.plan, header="Edit this file and follow it with: medres finetune --plan FILE ...")


def _choose_stages(
    config: FinetuneConfig, device: torch.device, plan: Plan, *, num_scans: int, pretrained: bool
) -> tuple[str, str, tuple[Stage, ...]]:
    """Return the recipe's name, the reason for it and its stages.

    Args:
        config: What was asked for.
        device: Where it is trained.
        plan: Says the scans of a step.
        num_scans: Training scans of the smallest fold.
        pretrained: Whether the network begins with weights.
    """
    if not isinstance(config.recipe, str):
        return "custom", describe_recipe(config.recipe), config.recipe
    recipe, why = choose_recipe(config.recipe, pretrained=pretrained)
    usual = default_epochs(device.type, recipe=recipe, num_scans=num_scans, batch_size=plan.batch_size)
    epochs = usual if config.epochs is None else config.epochs
    stages = build_recipe(recipe, epochs=epochs, batch_size=plan.batch_size)
    if not any(stage.takes_steps or stage.solver == "lbfgs" for stage in stages):
        raise ConfigError(
            f"epochs is {epochs}: the recipe {recipe} would train nothing.", fix="Give --epochs 1 or more."
        )
    if config.epochs and all(stage.solver == "lbfgs" for stage in stages):
        why += "; its head is solved, not trained in epochs: --epochs changes nothing"
    return recipe, why, stages


def make_feed(
    config: FinetuneConfig, study: Study, design: Design, progress: Progress, *, rows: Rows | None = None
) -> Feed:
    """Prepare every scan that was not prepared before, and return the way to them.

    Args:
        config: Where prepared scans are kept.
        study: The data.
        design: Plan and device.
        progress: Shows scans.
        rows: Those that are prepared; None = all. In the feed rows keep their numbers.
    """
    preprocessor = Preprocessor(design.plan)
    keys = sample_keys(study)
    wanted = np.arange(len(study.table)) if rows is None else rows
    cache = prepare_table(
        study.table.subset(wanted), preprocessor=preprocessor, cache_dir=config.cache_folder,
        images=study.survey.images, keys=[keys[row] for row in wanted], progress=progress,
    )  # fmt: skip
    augmenter = make_augmenter(design.plan)
    return Feed(
        cache=cache, keys=keys, preprocessor=preprocessor, augmenter=augmenter, device=design.device,
        appearances=[study.survey.known[scan.sample_id].look for scan in study.table],
    )  # fmt: skip


def sample_keys(study: Study) -> tuple[str, ...]:
    """Return what each prepared scan is known by, row by row."""
    return tuple(sample_key(scan, study.survey.statistics[scan.sample_id]) for scan in study.table)


def _make_plan(
    config: FinetuneConfig, study: Study, backbone: BackboneFacts, device: torch.device, arch_dims: tuple[int, ...]
) -> Plan:
    wishes = config.planning
    if config.batch_size is not None:
        wishes = wishes.model_copy(update={"batch_size": config.batch_size})
    return make_plan(
        study.fingerprint,
        backbone=backbone,
        machine=machine_facts(device, folder=config.cache_folder),
        num_training_scans=min(len(fold.train) for fold in study.folding.folds),
        dims=config.dims,
        backbone_dims=arch_dims,
        overrides=wishes,
        reading=study.reading.value,
        reading_reason=study.reading.reason,
    )


def _check_optimisation(config: FinetuneConfig, plan: Plan, stages: Sequence[Stage], device: torch.device) -> None:
    """Refuse what cannot be done with these scans, this network or this machine, before anything is prepared."""
    if config.optimisation.compile:
        require_compiler(device)
    for stage in stages:
        check_mixing(config.optimisation, views=planned_views(stage, config.optimisation), slicewise=plan.slicewise)
    views_of(plan, tta=config.optimisation.tta)
    with torch.device("meta"):
        create_model(
            config.arch, spatial_dims=plan.spatial_dims, slicewise=plan.slicewise, num_classes=2,
            drop_path=config.optimisation.drop_path,
        )  # fmt: skip


def _summary(plan: Plan, folder: RunFolder) -> str:
    shape = " x ".join(str(size) for size in plan.shape)
    pitch = "" if plan.spacing_mm is None else " at " + " x ".join(f"{size:.3g}" for size in plan.spacing_mm) + " mm"
    strides = plan.stem_stride or (2, 2, 2)
    stem = "" if strides == (2, 2, 2) else f", stem stride {'x'.join(map(str, strides))}"
    what = f"{plan.dims:g}D {plan.modality}, {plan.in_channels} x {shape}{pitch}{stem}"
    return f"plan: {what}, {plan.intensity.scheme}, batches of {plan.batch_size}, {plan.precision}; why: {folder.plan}"


def _loading(config: FinetuneConfig, plan: Plan, weights: PretrainedWeights | None) -> LoadingReport:
    spatial_dims = network_dims(plan.dims)
    if weights is not None:
        return loading_report(
            config.arch, spatial_dims=spatial_dims, weights=weights, in_channels=plan.in_channels,
            stem_stride=plan.stem_stride,
        )  # fmt: skip
    asked = config.weights == "none"
    return LoadingReport(notes=("as asked" if asked else no_weights_reason(config.arch, spatial_dims=spatial_dims),))
