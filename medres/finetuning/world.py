"""How many processes train together, and which of them this one is: read from the environment, in one place.

Three launchers are known. ``torchrun`` says so by ``TORCHELASTIC_RUN_ID``. ``srun`` starts a step of several tasks;
SLURM's other variables say nothing of processes: the body of an sbatch script and the shell of an allocation see
``SLURM_NTASKS=8`` and are one process. Everything else is one process, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medres.errors import UsageError

Launcher = Literal["none", "torchrun", "srun"]

#: Ports of jobs that name none: 15000 to 24999, by the number of the job.
_FIRST_PORT, _NUM_PORTS = 15_000, 10_000


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that train together.

    Args:
        rank: Of this process among all, from 0.
        size: Number of processes.
        local_rank: Of this process among those of its node, from 0.
        local_size: Number of processes on each node.
        launcher: Who started them.
        address: Where rank 0 can be reached.
        port: Its port.
        store_elsewhere: Whether the launcher itself answers at that port, not rank 0.
        attempt: How often the launcher has started them again.

    Raises:
        UsageError: The numbers contradict each other.

    Example:
        >>> World.from_environment({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}).size
        1
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: Launcher = "none"
    address: str = "127.0.0.1"
    port: int = 0
    store_elsewhere: bool = False
    attempt: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other."""
        if self.size < 1 or self.local_size < 1 or self.size % self.local_size:
            raise UsageError(
                f"{self.launcher} started {self.size} processes, {self.local_size} on this node: not as many on each.",
                fix="Start the same number on every node: torchrun --nproc-per-node N, srun --ntasks-per-node N.",
            )
        if not (0 <= self.rank < self.size and 0 <= self.local_rank < self.local_size):
            raise UsageError(
                f"{self.launcher} calls this process rank {self.rank} of {self.size} and {self.local_rank} of "
                f"{self.local_size} on its node, which cannot be.",
                fix="Start medres by torchrun or srun and leave their variables as they are.",
            )

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.size // self.local_size

    @property
    def node_rank(self) -> int:
        """Number of this process's node."""
        return self.rank // self.local_size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> World:
        """Return the world that this process was started in.

        Args:
            environment: Variables; None = those of this process.

        Raises:
            UsageError: A variable is missing or is no number, or nodes have different numbers of processes.
        """
        found = os.environ if environment is None else environment
        if "TORCHELASTIC_RUN_ID" in found:
            return _by_torchrun(found)
        if "SLURM_STEP_ID" in found and _number(found, "SLURM_STEP_NUM_TASKS", default=1, launcher="srun") > 1:
            return _by_srun(found)
        return cls()


def _by_torchrun(found: Mapping[str, str]) -> World:
    def number(name: str, default: int | None = None) -> int:
        return _number(found, name, default=default, launcher="torchrun")

    return World(
        rank=number("RANK"), size=number("WORLD_SIZE"), local_rank=number("LOCAL_RANK"),
        local_size=number("LOCAL_WORLD_SIZE"), launcher="torchrun", address=found.get("MASTER_ADDR", "127.0.0.1"),
        port=number("MASTER_PORT"), store_elsewhere=found.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=number("TORCHELASTIC_RESTART_COUNT", 0),
    )  # fmt: skip


def _by_srun(found: Mapping[str, str]) -> World:
    def number(name: str, default: int | None = None) -> int:
        return _number(found, name, default=default, launcher="srun")

    size = number("SLURM_STEP_NUM_TASKS")
    port = _FIRST_PORT + (number("SLURM_JOB_ID", 0) + number("SLURM_STEP_ID")) % _NUM_PORTS
    return World(
        rank=number("SLURM_PROCID"), size=size, local_rank=number("SLURM_LOCALID"),
        local_size=_tasks_a_node(found, size), launcher="srun", address=_first_node(found),
        port=number("MASTER_PORT", port),
    )  # fmt: skip


def _tasks_a_node(found: Mapping[str, str], size: int) -> int:
    """Return the number of tasks on each node of the step; SLURM writes ``4(x2)`` for two nodes of four."""
    text = found.get("SLURM_STEP_TASKS_PER_NODE", str(size))
    counts = {part.partition("(")[0] for part in text.split(",")}
    if not re.fullmatch(r"\d+(\(x\d+\))?(,\d+(\(x\d+\))?)*", text) or len(counts) > 1:
        raise UsageError(
            f"srun put {text} tasks on the nodes: not as many on each.", fix="Use srun --ntasks-per-node N."
        )
    return int(counts.pop())


def _first_node(found: Mapping[str, str]) -> str:
    if "MASTER_ADDR" in found:
        return found["MASTER_ADDR"]
    nodes = found.get("SLURM_STEP_NODELIST") or found.get("SLURM_NODELIST") or "127.0.0.1"
    from lightning_fabric.plugins.environments import SLURMEnvironment  # takes a second: only where it is needed

    return str(SLURMEnvironment.resolve_root_node_address(nodes))


def _number(found: Mapping[str, str], name: str, *, default: int | None, launcher: str) -> int:
    text = found.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,9}", text):
        given = "is missing" if text is None else f"is {text!r}, no number"
        raise UsageError(
            f"This process was started by {launcher}, but ${name} {given}.",
            fix=f"Start medres by {launcher} and leave its variables as they are.",
        )
    return int(text)
