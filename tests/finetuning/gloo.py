"""Work done by two processes over gloo, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from medres.finetuning.ranks import Ranks, joined_ranks
from medres.finetuning.world import World


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _one(rank: int, size: int, port: int, work: Callable[[Ranks, Path], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    world = World(rank=rank, size=size, local_rank=rank, local_size=size, launcher="torchrun", port=port)
    ranks = joined_ranks(world)
    torch.save(work(ranks, folder), folder / f"result-{rank}.pt")
    ranks.wait()
    dist.destroy_process_group()


def in_processes(work: Callable[[Ranks, Path], Any], folder: Path, *, size: int = 2) -> list[Any]:
    """Return what ``work(ranks, folder)`` returns in each of several processes."""
    context = multiprocessing.get_context("spawn")
    port = free_port()
    started = [context.Process(target=_one, args=(rank, size, port, work, folder)) for rank in range(size)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=800)
    assert [process.exitcode for process in started] == [0] * size
    # not weights only: results hold NumPy arrays and counters, and these processes wrote them a moment ago
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(size)]
