"""Recipes: named lists of stages. No torch is needed to choose one.

==============  =====================================================================================
``linear-probe``  the head alone, solved on frozen features
``lp-ft``         the solved head, then everything (Kumar et al., ICLR 2022: a head that already fits keeps the
                  first gradients from distorting the pretrained features)
``gradual``       the solved head, then one more stage of the network at a time (Howard & Ruder, ACL 2018)
``partial``       the solved head, then ``layer4`` and the head
``full``          everything from the first step, normalisation statistics included: for random weights
==============  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from medres.errors import ConfigError
from medres.finetuning.stages import Stage

RecipeName = Literal["auto", "linear-probe", "lp-ft", "gradual", "partial", "full"]

#: Learning rate of the last stage when pretrained weights are fine-tuned, and when random ones are trained (AdamW).
FINE_TUNE_LR = 3e-4
FROM_SCRATCH_LR = 1e-3
#: The stem of a pretrained net learns at 0.75 ** 5, about a quarter, of the head's rate.
LAYER_DECAY = 0.75
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


def build_recipe(name: RecipeName, *, epochs: int) -> tuple[Stage, ...]:
    """Return the stages of a recipe, with ``epochs`` fine-tuning epochs in all.

    Example:
        >>> [stage.train_from for stage in build_recipe("lp-ft", epochs=15)]
        ['head', 'stem']
    """
    return _RECIPES[name](epochs)


def default_epochs(device: str) -> int:
    """Return the number of fine-tuning epochs for a kind of device (``cpu``, ``cuda``, ``mps``)."""
    return DEFAULT_EPOCHS.get(device, DEFAULT_EPOCHS["cpu"])


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
    )


def _full(epochs: int) -> tuple[Stage, ...]:
    return (
        Stage(
            name="full", train_from="stem", epochs=epochs, lr=FROM_SCRATCH_LR, warmup_epochs=_warmup(epochs),
            norm_statistics="update",
        ),
    )  # fmt: skip


def _warmup(epochs: int) -> float:
    return min(1.0, epochs / 10)


_RECIPES: dict[str, Callable[[int], tuple[Stage, ...]]] = {
    "linear-probe": _linear_probe,
    "lp-ft": _lp_ft,
    "gradual": _gradual,
    "partial": _partial,
    "full": _full,
}
