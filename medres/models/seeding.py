"""Random numbers of a network, from a generator of its own.

torch's own generator belongs to the whole process: whatever another thread draws or seeds there changes what comes
next. A network that is built and trained by a seed therefore draws from a `torch.Generator` that nobody else knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from medres.models.names import is_builtin

#: What initialises networks and takes a generator, of tensors and of `torch.nn.init`.
_DRAWING = frozenset(
    {"bernoulli", "bernoulli_", "exponential_", "kaiming_normal_", "kaiming_uniform_", "log_normal_", "normal",
     "normal_", "orthogonal_", "rand", "randint", "randn", "random_", "randperm", "sparse_", "trunc_normal_",
     "uniform_", "xavier_normal_", "xavier_uniform_"}
)  # fmt: skip

_global_generator = threading.RLock()


class DrawingFrom(TorchFunctionMode):
    """Let what this thread draws on the CPU inside the block come from a generator, not from torch's own.

    Meant for building networks, whose layers know no argument for it.

    Args:
        generator: On the CPU.

    Example:
        >>> def build() -> torch.Tensor:
        ...     with DrawingFrom(torch.Generator().manual_seed(3)):
        ...         return nn.Linear(2, 2).weight
        >>> before = torch.get_rng_state()
        >>> torch.equal(build(), build()), torch.equal(torch.get_rng_state(), before)
        (True, True)
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Add the generator to a function that draws."""
        given = dict(kwargs or {})
        if getattr(func, "__name__", "") in _DRAWING and given.get("generator") is None and _on_cpu(args, given):
            given["generator"] = self._generator
        return func(*args, **given)


class DrawingLayer:
    """A layer that draws from `generator` while it is trained; from torch's own where it is None."""

    generator: torch.Generator | None = None


class Dropout(DrawingLayer, nn.Dropout):
    """`torch.nn.Dropout` with a generator; on a CPU equal bits."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 # torch's name
        """Return the input, in training mode with values dropped at random."""
        if not self.training or not self.p or self.generator is None:
            return super().forward(input)
        dropped: torch.Tensor = input * kept_at_random(torch.empty_like(input), 1 - self.p, self.generator)
        return dropped


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a generator cannot be part of a compiled graph
def kept_at_random(like: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Fill a tensor with ``1 / share`` at this share of its places, drawn at random, and with 0 elsewhere."""
    return like.bernoulli_(share, generator=generator).div_(share)


class StepDraws:
    """What a network draws in the steps of its training: each step is a function of its seed.

    Args:
        model: Its `DrawingLayer` are given a generator, until `end`.
        device: Where it is.
        is_own: Whether nothing else in it draws. Layers of plug-ins do, from torch's own generator.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, is_own: bool) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, DrawingLayer)]
        self._device = device
        self._generator = torch.Generator(device) if is_own else None
        self._give(self._generator)

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Return the block in which a step is computed."""
        if self._generator is None:
            return seeded_globally(seed, self._device)
        self._generator.manual_seed(seed)
        return nullcontext()

    def end(self) -> None:
        """Let the layers draw from torch's own generator again."""
        self._give(None)

    def _give(self, generator: torch.Generator | None) -> None:
        for layer in self._layers:
            layer.generator = generator


def built_by(seed: int, *, arch: str) -> AbstractContextManager[Any]:
    """Return the block in which a network of this architecture draws its weights by the seed, on the CPU."""
    if is_builtin(arch):
        return DrawingFrom(torch.Generator().manual_seed(seed))
    return seeded_globally(seed, torch.device("cpu"))


@contextmanager
def seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators inside the block and give them back, one thread at a time.

    For layers of plug-ins, which draw from nowhere else. What threads of the host draw meanwhile cannot be kept apart.

    Args:
        seed: Of the CPU's generator and of the device's.
        device: Where the network is.
    """
    with _global_generator, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _on_cpu(args: Any, given: dict[str, Any]) -> bool:
    device = args[0].device if args and isinstance(args[0], torch.Tensor) else given.get("device")
    tensor = given.get("tensor")
    device = tensor.device if isinstance(tensor, torch.Tensor) else device
    return torch.device(device or torch.get_default_device()).type == "cpu"
