"""What the processes of one run say to each other, and nothing where there is but one.

All of it goes over the CPU (gloo), also where gradients go over NCCL: a process that waits for rank 0 to prepare the
data keeps no GPU busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from medres.errors import TrainingError
from medres.finetuning.world import World

T = TypeVar("T")

#: All processes of a job start within this time.
JOIN_TIME = timedelta(minutes=10)
#: Rank 0 may prepare a large cohort for hours while the others wait for it.
WAITING_TIME = timedelta(hours=48)


@dataclass(frozen=True)
class Ranks:
    """The processes of one run, seen from one of them. Every method is called by all of them, in the same order.

    Args:
        world: How many there are, and which this is.

    Example:
        >>> alone = Ranks()
        >>> alone.first(lambda: "prepared"), alone.total(2.5), alone.share(np.arange(3)).tolist()
        ('prepared', 2.5, [0, 1, 2])
    """

    world: World = field(default_factory=World)

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.world.size

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.world.rank

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.world.is_first

    def first(self, work: Callable[[], T]) -> T:
        """Let rank 0 work while the others wait, and return what it returned to all of them."""
        value: Any = work() if self.is_first else None
        found: T = self.from_first(value)
        return found

    def from_first(self, value: T) -> T:
        """Return the value of rank 0; what the others give is dropped."""
        held: list[Any] = [value]
        if self.size > 1:
            dist.broadcast_object_list(held, src=0)
        found: T = held[0]
        return found

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gathered_first(self, values: list[T]) -> list[T]:
        """Return the values of all processes one after the other on rank 0, and none elsewhere."""
        if self.size == 1:
            return values
        lists: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(values, lists, dst=0)
        return [value for part in lists or [] for value in part]

    def total(self, value: float) -> float:
        """Return the sum over all processes."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def largest(self, value: int) -> int:
        """Return the largest value of all processes."""
        return int(self._reduced(value, dist.ReduceOp.MAX))

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.total(0.0)

    def share(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return this process's part of an array: every `size`-th value. Parts differ by one value at most."""
        return values[self.rank :: self.size]

    def share_size(self, number: int) -> int:
        """Return the size of the largest part of so many values."""
        return math.ceil(number / self.size)

    def joined(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array whose parts (`share`) the processes have, in its order."""
        if self.size == 1:
            return part
        parts = self.gathered(part)
        whole = np.empty((sum(len(piece) for piece in parts), *part.shape[1:]), dtype=part.dtype)
        for rank, piece in enumerate(parts):
            whole[rank :: self.size] = piece
        return whole

    @torch.no_grad()
    def adopt(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put the values of rank 0 into tensors, in place."""
        if self.size == 1:
            return
        for name, value in self.from_first({name: tensor.cpu() for name, tensor in tensors.items()}).items():
            tensors[name].copy_(value)

    def require_equal(self, digest: str, *, what: str) -> None:
        """Refuse to go on with weights that differ between processes.

        Args:
            digest: Of the weights.
            what: What they are, for the message.

        Raises:
            TrainingError: They do.
        """
        if len(set(self.gathered(digest))) > 1:
            raise TrainingError(
                f"The {self.size} processes have different weights after {what}, which must never be.",
                fix="Train in one process, and report this.",
            )

    def _reduced(self, value: float, operation: Any) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(tensor, op=operation)
        return float(tensor)


#: One process, as everywhere but under torchrun and srun.
ALONE = Ranks()


def joined_ranks(world: World | None = None) -> Ranks:
    """Return the processes of this run, connected with each other; a second call finds the same connection.

    Args:
        world: Which processes; None = by the environment.

    Raises:
        UsageError: The environment contradicts itself.
        TrainingError: Not all processes came.
    """
    world = World.from_environment() if world is None else world
    if world.size == 1:
        return Ranks(world)
    if not dist.is_initialized():
        store = PrefixStore(f"medres/{world.attempt}", open_store(world, host=True))
        _connect(world, store)
    return Ranks(world)


def open_store(world: World, *, host: bool = False, timeout: timedelta = JOIN_TIME) -> TCPStore:
    """Return a connection to the table that all processes read and write.

    Args:
        world: Which processes.
        host: Whether rank 0 opens the table itself, unless the launcher has one.
        timeout: How long to wait for it.

    Raises:
        TrainingError: It does not answer.
    """
    is_host = host and world.is_first and not world.store_elsewhere
    try:
        return TCPStore(
            world.address, world.port, world_size=None, is_master=is_host, timeout=timeout, wait_for_workers=False
        )
    except (RuntimeError, ValueError) as error:
        raise _not_connected(world, error) from error


def _connect(world: World, store: Store) -> None:
    with_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if with_nccl else "gloo", store=store, rank=world.rank, world_size=world.size,
            timeout=WAITING_TIME,
        )  # fmt: skip
    except RuntimeError as error:
        raise _not_connected(world, error) from error


def _not_connected(world: World, error: Exception) -> TrainingError:
    reason = str(error).partition("\n")[0][:200]
    return TrainingError(
        f"Process {world.rank} of {world.size} cannot reach the others at {world.address}:{world.port} ({reason}).",
        fix="Start all of them at once, and let MASTER_ADDR and MASTER_PORT name a free port of the first node.",
    )
