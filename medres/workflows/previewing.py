"""`preview`: what the network sees of a data set, before anything is trained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.config import FinetuneConfig, PreviewConfig
from medres.data.checks.about import place_of
from medres.data.image import ScanImage
from medres.data.sample import read_sample
from medres.data.thumbnails import thumbnail
from medres.errors import ConfigError
from medres.finetuning.feed import Feed, Rows
from medres.models.names import require_arch
from medres.planning.choice import times
from medres.preprocessing.stacks import Inputs
from medres.reporting.drawn import drawn_words
from medres.reporting.input_pictures import Shown, shown_as
from medres.reporting.pages import write_page
from medres.reporting.preview import Preview, PreviewedScan, View
from medres.reporting.preview_page import render_preview
from medres.runs.atomic import require_place
from medres.runs.folder import RunFolder
from medres.runs.host import independent_of_host
from medres.runs.progress import Progress, Silent
from medres.workflows.design import Design, make_design, make_feed
from medres.workflows.study import Study, read_study

#: Longest edge of the picture of a scan as it was read.
_EDGE = 200


def preview(
    data: str | Path, *, html: str | Path | None = None, progress: Progress | None = None, **options: Any
) -> Preview:
    """Show what the network would see of a data set: ``medres preview`` from Python. Nothing is trained.

    Args:
        data: What ``medres finetune --data`` takes.
        html: Page to write. Local only: it names files and shows patients.
        progress: Shows how far it is; None shows nothing.
        options: Any other field of `medres.config.PreviewConfig`, such as ``arch``, ``dims``, ``plan`` or ``views``.

    Raises:
        MedresError: What was given cannot be used; the message says why and what to do.
    """
    return run_preview(PreviewConfig.build(data=Path(data), **options), html=html, progress=progress)


@independent_of_host()
def run_preview(config: PreviewConfig, *, html: str | Path | None = None, progress: Progress | None = None) -> Preview:
    """Do what ``medres preview`` does. But for the page, and the cache where one is given, nothing is left on the disk.

    Raises:
        MedresError: As `medres.workflows.finetuning.finetune`.
    """
    progress = progress or Silent()
    config = _like_its_run(config, progress)
    require_arch(config.arch)
    if html is not None:
        require_place(Path(html), option="--html")
    with tempfile.TemporaryDirectory(prefix="medres-preview-") as kept:
        folder = RunFolder(Path(kept) / "run")
        made = _make_preview(_working(config, Path(kept)), folder, progress)
    return made if html is None else replace(made, page=write_page(Path(html), render_preview(made)))


def _like_its_run(config: PreviewConfig, progress: Progress) -> PreviewConfig:
    """Return the configuration with the network of the run whose plan is followed, where no other is asked for.

    A plan fits the network that it was made for, and the weights of the run are where they were: nothing is fetched.
    """
    if config.plan is None or "arch" in config.model_fields_set:
        return config
    run = RunFolder(config.plan if config.plan.is_dir() else config.plan.parent)
    if not run.config.is_file() or config.plan not in (run.path, run.plan):
        return config
    known = FinetuneConfig.read(run.config)
    names = [name for name in ("arch", "weights", "weights_dir") if name not in config.model_fields_set]
    network = {name: getattr(known, name) for name in names}
    progress.note(f"network: {known.arch}, that of {run.path}")
    return config.model_copy(update=network)


def _working(config: PreviewConfig, kept: Path) -> PreviewConfig:
    """Return the configuration with a folder of its own that is deleted afterwards."""
    changes = {"output": kept, "cache_dir": config.cache_dir or kept / "cache", "plan": _plan_file(config.plan)}
    return config.model_copy(update=changes)


def _plan_file(plan: Path | None) -> Path | None:
    """Return the plan of a run or bundle, or the file that was given.

    Raises:
        ConfigError: The folder holds none.
    """
    if plan is None or not plan.is_dir():
        return plan
    inside = RunFolder(plan).plan
    if not inside.is_file():
        raise ConfigError(f"{plan} holds no {inside.name}.", fix="Give a plan.yaml, a run folder or a bundle.")
    return inside


def _make_preview(config: PreviewConfig, folder: RunFolder, progress: Progress) -> Preview:
    study = read_study(config, progress)
    design = make_design(config, study, folder, Silent())  # its notes name a file that will be gone
    progress.note(f"plan: {design.plan.dims:g}D {design.plan.modality}, weights: {design.weights_source}")
    rows = _chosen_rows(study, config.scans_per_class)
    feed = make_feed(config, study, design, progress, rows=rows)
    views = config.views if config.optimisation.augment else 0
    if views < config.views:
        progress.note("optimisation.augment is false: scans are not changed in training")
    drawing = _Drawing(study=study, design=design, feed=feed, seed=config.seed, num_views=views)
    shown = progress.track(rows, description="drawing", total=len(rows))
    scans = tuple(drawing.scan(int(row)) for row in shown)
    return Preview(data=config.data, arch=config.arch, plan=design.plan, scans=scans)


def _chosen_rows(study: Study, per_class: int) -> Rows:
    """Return a few training rows of each class, evenly over the table: test rows are looked at by nobody."""
    training = study.folding.training
    labels = study.table.class_indices[training]
    chosen: list[npt.NDArray[np.int64]] = []
    for index in range(len(study.table.classes)):
        own = training[labels == index]
        places = np.unique(np.linspace(0, len(own) - 1, min(per_class, len(own))).round().astype(int))
        chosen.append(own[places])
    return np.concatenate(chosen)


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """Draws scans as training would read them."""

    study: Study
    design: Design
    feed: Feed
    seed: int
    num_views: int

    def scan(self, row: int) -> PreviewedScan:
        """Draw one row of the table."""
        scan, plan = self.study.table.scans[row], self.design.plan
        image = self.study.survey.images.get(scan.sample_id) or read_sample(scan, rules=plan.reading)
        still = self.feed.inputs(np.array([row]))
        shown = shown_as(plan, self._channels(still))
        return PreviewedScan(
            sample_id=scan.sample_id, label=scan.label or "", file=place_of(scan), size=_size(image),
            original=thumbnail(image, edge=_EDGE), columns=shown.columns,
            rows=tuple(name for _, name in shown.rows) if len(shown.rows) > 1 else (),
            views=(self._view(still, shown, epoch=0), *self._changed(row, shown)),
        )  # fmt: skip

    def _changed(self, row: int, shown: Shown) -> Iterator[View]:
        for epoch in range(1, self.num_views + 1):
            seeds = self.feed.seeds(np.array([row]), seed=self.seed, epoch=epoch)
            inputs = self.feed.inputs(np.array([row]), seeds=seeds)
            changes = drawn_words(self.design.plan, self.feed.augmenter.draw(seeds), 0)
            yield self._view(inputs, shown, epoch=epoch, seed=seeds[0], changes=changes)

    def _view(
        self, inputs: Inputs, shown: Shown, *, epoch: int, seed: int | None = None, changes: list[str] | None = None
    ) -> View:
        scan = self._channels(inputs)
        kept = None if inputs.slice_mask is None else inputs.slice_mask[0].cpu().numpy()
        said = list(changes or [])
        if kept is not None and self.design.plan.augmentation.slice_dropout and seed is not None:
            said.append(f"{int((~kept).sum())} of {len(kept)} slices left out")
        numbers = (float(scan.mean()), float(scan.std()), float(scan.min()), float(scan.max()))
        return View(
            epoch=epoch, seed=seed, changes=tuple(said), picture=shown.picture(scan, kept=kept), numbers=numbers,
            num_slices=None if kept is None else int(kept.sum()),
        )  # fmt: skip

    def _channels(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """Return ``(C, *spatial)`` of one scan; of slices beside their neighbours, the slices themselves."""
        plan, scan = self.design.plan, inputs.scans[0].float().cpu().numpy()
        if not plan.slicewise:
            return scan
        middle: npt.NDArray[np.float32] = scan[:, plan.neighbours // 2 :: plan.neighbours].swapaxes(0, 1)
        return middle


def _size(image: ScanImage) -> str:
    voxels = times(tuple(float(size) for size in image.spatial_shape))
    return voxels if image.spacing_mm is None else f"{voxels} voxels of {times(image.spacing_mm)} mm"
