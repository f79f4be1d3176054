"""Recipes: named lists of stages. No torch is needed to choose one.

==============  =====================================================================================
``linear-probe``  the head alone, solved on frozen features
``lp-ft``         the solved head, then everything (Kumar et al., ICLR 2022: a head that already fits keeps the
                  first gradients from distorting the pretrained features)
``gradual``       the solved head, then one more stage of the network at a time (Howard & Ruder, ACL 2018)
``partial``       the solved head, then ``layer4`` and the head
``full``          everything from the first step, normalisation statistics included: for random weights
==============  =====================================================================================

Any other list of stages can be written down in YAML and given by its file's name (`read_recipe`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pydantic

from medres.errors import ConfigError
from medres.finetuning.stages import Stage
from medres.runs.documents import Document, read_yaml

RecipeName = Literal["auto", "linear-probe", "lp-ft", "gradual", "partial", "full"]

#: Learning rate of the last stage when pretrained weights are fine-tuned (AdamW).
FINE_TUNE_LR = 3e-4
#: The same when random weights are trained, in batches of `FROM_SCRATCH_BATCH`; see `from_scratch_lr` for other ones.
FROM_SCRATCH_LR = 1e-3
FROM_SCRATCH_BATCH = 64
#: Fewest steps in which random weights are trained, unless ``--epochs`` says otherwise. 180 steps (48 scans in batches
#: of 4) left members that answered every scan alike (docs/decisions/0030).
FROM_SCRATCH_STEPS = 300
#: The stem of a pretrained net learns at 0.75 ** 5, about a quarter, of the head's rate.
LAYER_DECAY = 0.75
#: Augmented views of a scan whose frozen activations are kept: below a frozen part, four views in turn are as good as a
#: new one in every epoch, and cost a quarter of the arithmetic after the fourth epoch.
FROZEN_VIEWS = 4
#: Passes over the training scans unless ``--epochs`` says otherwise. On a CPU an epoch costs minutes.
DEFAULT_EPOCHS = {"cpu": 15, "cuda": 40, "mps": 25}

_Part = Literal["stem", "layer1", "layer2", "layer3", "layer4"]
_THAWING: tuple[_Part, ...] = ("layer4", "layer3", "layer2", "layer1", "stem")


def choose_recipe(name: RecipeName, *, pretrained: bool) -> tuple[RecipeName, str]:
    """Return the recipe that ``auto`` stands for, and the reason.

    Example:
        >>> choose_recipe("auto", pretrained=False)[0]
        'full'
    """
    if name not in get_args(RecipeName):
        raise ConfigError(f"recipe {name!r} is unknown.", fix=f"Use one of {', '.join(get_args(RecipeName))}.")
    if name != "auto":
        return name, f"{name} was asked for"
    if pretrained:
        return "lp-ft", "pretrained weights: the head is solved first, then all layers are fine-tuned"
    return "full", "random weights: a frozen random network is no start, so all layers are trained at once"


def build_recipe(name: RecipeName, *, epochs: int, batch_size: int = FROM_SCRATCH_BATCH) -> tuple[Stage, ...]:
    """Return the stages of a recipe, with ``epochs`` fine-tuning epochs in all.

    Args:
        name: Not ``auto``.
        epochs: Of all stages that are trained by gradient descent together.
        batch_size: Scans a step: the rate of random weights follows it (`from_scratch_lr`).

    Example:
        >>> [stage.train_from for stage in build_recipe("lp-ft", epochs=15)]
        ['head', 'stem']
    """
    return _full(epochs, batch_size) if name == "full" else _RECIPES[name](epochs)


def from_scratch_lr(batch_size: int) -> float:
    """Return the learning rate of random weights: `FROM_SCRATCH_LR` times the root of the batch's share of 64.

    AdamW divides the gradient by its own size, so that a step is as long for a noisy gradient as for a clear one. The
    noise falls with the root of the batch: steps of the same rate carry batches of 4 four times as far at random
    (square-root scaling: Malladi et al., NeurIPS 2022).

    Example:
        >>> from_scratch_lr(64), from_scratch_lr(4)
        (0.001, 0.00025)
    """
    return FROM_SCRATCH_LR * math.sqrt(batch_size / FROM_SCRATCH_BATCH)


class _RecipeFile(Document):
    stages: tuple[Stage, ...] = pydantic.Field(min_length=1)


def read_recipe(path: Path) -> tuple[Stage, ...]:
    """Read a recipe from YAML: a list of stages, or the key ``stages`` with one.

    ::

        - {name: head, train_from: head, epochs: 0, lr: 3.0e-4, solver: lbfgs}
        - {name: top, train_from: layer3, epochs: 10, lr: 3.0e-4, layer_decay: 0.7, views: 2}

    Raises:
        ConfigError: The file is missing, is not YAML, or a stage in it is not valid; all faults are named.
    """
    values = read_yaml(path)
    listed = values.get("stages") if isinstance(values, dict) and set(values) == {"stages"} else values
    return check_stages(listed, source=str(path))


def check_stages(values: Any, *, source: str = "recipe") -> tuple[Stage, ...]:
    """Return a list of stages, or of mappings that describe them.

    Raises:
        ConfigError: A stage is not valid; all faults are named, and `source`.
    """
    return _RecipeFile.from_mapping({"stages": values}, source=source).stages


def is_recipe_file(name: object) -> bool:
    """Return whether what was given for a recipe is the name of a YAML file.

    Example:
        >>> is_recipe_file("my/stages.yaml"), is_recipe_file("lp-ft")
        (True, False)
    """
    return isinstance(name, (str, Path)) and Path(name).suffix.lower() in (".yaml", ".yml")


def describe_recipe(stages: Sequence[Stage]) -> str:
    """Return a recipe in one line, such as ``head (solved), layer4 x 5, stem x 10``."""
    words = ("solved" if stage.solver == "lbfgs" else f"x {stage.epochs}" for stage in stages)
    return ", ".join(f"{stage.train_from} {word}" for stage, word in zip(stages, words, strict=True))


def default_epochs(device: str, *, recipe: RecipeName, num_scans: int, batch_size: int) -> int:
    """Return the number of fine-tuning epochs where none was asked for.

    Random weights have everything to learn, whatever the number of scans: `FROM_SCRATCH_STEPS` at least.

    Args:
        device: Kind of device: ``cpu``, ``cuda`` or ``mps``.
        recipe: Not ``auto``; ``full`` trains random weights.
        num_scans: Training scans of the smallest fold.
        batch_size: Scans a step.

    Example:
        >>> default_epochs("cpu", recipe="full", num_scans=48, batch_size=4)
        25
        >>> default_epochs("cpu", recipe="lp-ft", num_scans=48, batch_size=4)
        15
    """
    epochs = DEFAULT_EPOCHS.get(device, DEFAULT_EPOCHS["cpu"])
    if recipe != "full":
        return epochs
    return max(epochs, math.ceil(FROM_SCRATCH_STEPS / math.ceil(num_scans / batch_size)))


def _solved_head() -> Stage:
    return Stage(name="head", train_from="head", epochs=0, lr=FINE_TUNE_LR, solver="lbfgs")


def _linear_probe(epochs: int) -> tuple[Stage, ...]:
    del epochs  # the solver runs to convergence
    return (_solved_head(),)


def _lp_ft(epochs: int) -> tuple[Stage, ...]:
    return (_solved_head(), _thawed("stem", epochs, name="fine-tune"))


def _gradual(epochs: int) -> tuple[Stage, ...]:
    shares = [epochs // len(_THAWING) + (index < epochs % len(_THAWING)) for index in range(len(_THAWING))]
    stages = [_thawed(part, share) for part, share in zip(_THAWING, shares, strict=True) if share]
    return (_solved_head(), *stages)


def _partial(epochs: int) -> tuple[Stage, ...]:
    return (_solved_head(), _thawed("layer4", epochs))


def _thawed(train_from: _Part, epochs: int, *, name: str | None = None) -> Stage:
    return Stage(
        name=name or f"from {train_from}",
        train_from=train_from,
        epochs=epochs,
        lr=FINE_TUNE_LR,
        layer_decay=LAYER_DECAY,
        warmup_epochs=_warmup(epochs),
        norm_statistics="update",
        views=0 if train_from == "stem" else FROZEN_VIEWS,
    )


def _full(epochs: int, batch_size: int) -> tuple[Stage, ...]:
    return (
        Stage(
            name="full", train_from="stem", epochs=epochs, lr=from_scratch_lr(batch_size),
            warmup_epochs=_warmup(epochs), norm_statistics="update",
        ),
    )  # fmt: skip


def _warmup(epochs: int) -> float:
    return min(1.0, epochs / 10)


_RECIPES: dict[str, Callable[[int], tuple[Stage, ...]]] = {
    "linear-probe": _linear_probe,
    "lp-ft": _lp_ft,
    "gradual": _gradual,
    "partial": _partial,
}
