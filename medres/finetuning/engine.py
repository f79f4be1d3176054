"""Lightning Fabric, made once a run: device, precision and the processes that train together."""

from __future__ import annotations

import logging
import socket
from typing import Any

import torch
from lightning_fabric import Fabric, wrappers
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning_fabric.strategies import DDPStrategy

from medres.errors import TrainingError, UsageError
from medres.finetuning.machine import choose_device
from medres.finetuning.ranks import Ranks
from medres.finetuning.world import World
from medres.runs.shared_state import Back, SharedState

_PRECISIONS = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}


class WorldEnvironment(ClusterEnvironment):  # type: ignore[misc]
    """Tells Fabric of the processes what `World` knows, so that it asks no environment itself."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    @property
    def creates_processes_externally(self) -> bool:
        """Whether the launcher has started them: always."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 is."""
        return self._world.address

    @property
    def main_port(self) -> int:
        """Its port."""
        return self._world.port

    @staticmethod
    def detect() -> bool:
        """Never chosen by detection."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._world.size

    def set_world_size(self, size: int) -> None:
        """Leave the number as the launcher made it."""

    def global_rank(self) -> int:
        """Return the rank."""
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """Leave the rank as the launcher made it."""

    def local_rank(self) -> int:
        """Return the rank on this node."""
        return self._world.local_rank

    def node_rank(self) -> int:
        """Return the number of the node."""
        return self._world.node_rank


def make_fabric(device: torch.device, precision: str, ranks: Ranks) -> Fabric:
    """Return the engine for the device of this process; all processes of `ranks` are in it.

    Args:
        device: Of this process.
        precision: ``bf16``, ``fp16`` or ``fp32``.
        ranks: Connected already.
    """
    with _QUIET.held():
        return _of_one(device, precision) if ranks.size == 1 else _of_several(device, precision, ranks.world)


def _of_one(device: torch.device, precision: str) -> Fabric:
    devices: Any = [device.index or 0] if device.type == "cuda" else 1
    # the environment is given, or Fabric would take the variables of an allocation for processes
    return Fabric(
        accelerator=device.type, devices=devices, precision=_PRECISIONS[precision], plugins=[LightningEnvironment()]
    )


def _of_several(device: torch.device, precision: str, world: World) -> Fabric:
    # one entry a process of this node; each process reads its own alone, whatever GPUs it can see
    strategy = DDPStrategy(
        parallel_devices=[device] * world.local_size, cluster_environment=WorldEnvironment(world),
        process_group_backend="nccl" if device.type == "cuda" else "gloo",
    )  # fmt: skip
    fabric = Fabric(strategy=strategy, devices=1, num_nodes=world.num_nodes, precision=_PRECISIONS[precision])
    fabric.launch()
    if (fabric.world_size, fabric.global_rank, fabric.device) != (world.size, world.rank, device):
        raise TrainingError(
            f"Lightning Fabric sees process {fabric.global_rank} of {fabric.world_size} on {fabric.device}; it is "
            f"{world.rank} of {world.size} on {device}.",
            fix="Unset LT_DEVICES, LT_NUM_NODES, LT_STRATEGY and LT_ACCELERATOR.",
        )
    return fabric


def renewed(fabric: Fabric) -> Fabric:
    """Return the engine as it was made: what fp16 found to be a scale in one stage is not known in the next."""
    precision: Any = fabric.strategy.precision
    if getattr(precision, "scaler", None) is not None:
        precision.scaler = torch.amp.GradScaler(device=precision.device)
    return fabric


def backward(fabric: Fabric, loss: torch.Tensor) -> None:
    """Compute the gradient; as `Fabric.backward`, but in several threads at once.

    Fabric notes for the whole process that it is in its backward pass, and refuses one that began before another
    thread's ended.
    """
    with _IN_BACKWARD.held():
        fabric.strategy.backward(loss, None)


def own_device(name: str, ranks: Ranks) -> torch.device:
    """Return the device of this process: with several on a node each has a GPU of its own.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or what else `choose_device` knows.
        ranks: The processes.

    Raises:
        ConfigError: The device is not there.
        UsageError: There are fewer GPUs than processes, or the device is one that they cannot share.
    """
    device = choose_device(name)
    if ranks.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or ":" in name:
        raise UsageError(
            f"--device is {name}, and {ranks.size} processes cannot share it.", fix="Use --device cuda, auto or cpu."
        )
    own = torch.device("cuda", _gpu_of(ranks.world))
    _require_a_gpu_each(own, ranks)
    return own


def _gpu_of(world: World) -> int:
    seen = torch.cuda.device_count()
    if seen >= world.local_size:
        return world.local_rank
    if seen == 1:  # srun --gpus-per-task=1 shows each process its own
        return 0
    raise UsageError(
        f"{world.local_size} processes were started on this node, which has {seen} GPUs.",
        fix=f"Start {seen} a node, or use --device cpu.",
    )


def _require_a_gpu_each(device: torch.device, ranks: Ranks) -> None:
    taken = ranks.gathered((socket.gethostname(), str(torch.cuda.get_device_properties(device).uuid)))
    if len(set(taken)) < len(taken):
        raise UsageError(
            f"{ranks.size} processes share {len(set(taken))} GPUs.",
            fix="Start one process a GPU, or use --device cpu.",
        )


def _quieten() -> Back:
    """Keep Fabric from announcing precision and ranks: the plan has said the one, nobody asked for the other."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    return lambda: logger.setLevel(level)


def _note_backward() -> Back:
    def note(value: bool) -> None:
        wrappers._in_fabric_backward = value

    note(True)
    return lambda: note(False)


_QUIET = SharedState(_quieten)
_IN_BACKWARD = SharedState(_note_backward)
