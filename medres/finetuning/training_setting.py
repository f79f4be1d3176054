"""What the stages of a fold have in common: data, plan, engine and kept activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lightning_fabric import Fabric

from medres.finetuning.engine import make_fabric
from medres.finetuning.feed import Feed
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.prefix_cache import PrefixCache
from medres.finetuning.ranks import ALONE, Ranks
from medres.planning.plan import Plan
from medres.runs.progress import Progress

OnEvent = Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class TrainingSetting:
    """What all stages of a fold are trained with.

    Args:
        feed: Where batches come from.
        plan: Batch size, precision and augmentation.
        optimisation: What all stages share.
        seed: Of sample order and augmentation.
        progress: Shows epochs.
        on_event: Called with the kind and the fields of each event.
        activations: Folder of kept activations, shared by runs.
        ranks: Processes that train together; each batch of the plan is divided among them.
        engine: Made once a run (`make_fabric`); None = made here.
    """

    feed: Feed
    plan: Plan
    optimisation: Optimisation
    seed: int
    progress: Progress
    on_event: OnEvent
    activations: Path
    ranks: Ranks = ALONE
    engine: Fabric | None = None

    @cached_property
    def fabric(self) -> Fabric:
        """The engine: device, precision, processes."""
        return self.engine or make_fabric(self.feed.device, self.plan.precision, self.ranks)

    @cached_property
    def prefix_cache(self) -> PrefixCache:
        """Activations of frozen parts."""
        return PrefixCache(
            feed=self.feed, plan=self.plan, folder=self.activations, seed=self.seed,
            augment=self.optimisation.augment, autocast=self.fabric.autocast,
            storage=self.optimisation.activation_storage, progress=self.progress, on_event=self.on_event,
            ranks=self.ranks,
        )  # fmt: skip
