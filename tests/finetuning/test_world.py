"""Which processes there are, by the variables that launchers set, and that Fabric sees the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from medres.errors import UsageError
from medres.finetuning.engine import WorldEnvironment, make_fabric, own_device
from medres.finetuning.ranks import ALONE, Ranks
from medres.finetuning.world import World

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1",
    "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
}  # fmt: skip
#: What every process inside an allocation of 8 tasks sees, whether it is one of the tasks or not.
ALLOCATION = {
    "SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8", "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_JOB_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_NODELIST": "gpu[07-08]", "SLURM_TASKS_PER_NODE": "4(x2)",
}  # fmt: skip
SRUN = ALLOCATION | {
    "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_PROCID": "6", "SLURM_LOCALID": "2", "SLURM_NODEID": "1",
}  # fmt: skip
SINGLE = {
    "nothing": {},
    "the body of an sbatch script": ALLOCATION | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
    "the shell of salloc": ALLOCATION,
    "a shell in an interactive step": SRUN | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"},
    "a step of one task": SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"},
    "what a launcher left in a shell": {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"},
}


@pytest.mark.parametrize("environment", SINGLE.values(), ids=SINGLE.keys())
def test_everything_but_a_launch_of_several_processes_is_one_process(environment: dict[str, str]) -> None:
    assert World.from_environment(environment) == World()


def test_torchrun_is_understood() -> None:
    world = World.from_environment(TORCHRUN)
    assert (world.rank, world.size, world.local_rank, world.local_size) == (5, 8, 1, 4)
    assert (world.num_nodes, world.node_rank, world.is_first) == (2, 1, False)
    assert (world.launcher, world.address, world.port, world.store_elsewhere) == ("torchrun", "node1", 29500, True)


def test_a_step_of_srun_is_understood() -> None:
    world = World.from_environment(SRUN)
    assert (world.rank, world.size, world.local_rank, world.local_size) == (6, 8, 2, 4)
    assert (world.num_nodes, world.node_rank, world.launcher) == (2, 1, "srun")
    assert (world.address, world.port, world.store_elsewhere) == ("gpu07", 15_000 + 1234567 % 10_000, False)
    assert World.from_environment(SRUN | {"MASTER_ADDR": "x", "MASTER_PORT": "9"}).address == "x"
    assert World.from_environment(SRUN | {"SLURM_STEP_ID": "1"}).port == world.port + 1


def test_torchrun_inside_a_step_counts_for_more_than_the_step() -> None:
    assert World.from_environment(SRUN | TORCHRUN).launcher == "torchrun"


NONSENSE = {
    "a word": (TORCHRUN | {"RANK": "first"}, r"\$RANK is 'first'"),
    "a negative number": (TORCHRUN | {"LOCAL_RANK": "-1"}, r"\$LOCAL_RANK is '-1'"),
    "empty": (TORCHRUN | {"WORLD_SIZE": ""}, r"\$WORLD_SIZE is ''"),
    "missing": ({"TORCHELASTIC_RUN_ID": "1"}, r"\$RANK is missing"),
    "no process": (TORCHRUN | {"WORLD_SIZE": "0"}, "0 processes"),
    "not as many on each node": (TORCHRUN | {"WORLD_SIZE": "7"}, "7 processes, 4 on this node"),
    "rank beyond the size": (TORCHRUN | {"RANK": "8"}, "rank 8 of 8"),
    "local rank beyond its size": (TORCHRUN | {"LOCAL_RANK": "4"}, "4 of 4"),
    "srun without a rank": ({key: SRUN[key] for key in SRUN if key != "SLURM_PROCID"}, r"\$SLURM_PROCID is missing"),
    "srun, uneven": (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "5,3"}, "not as many on each"),
    "srun, no numbers": (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "many"}, "srun put many tasks"),
    "srun, tasks are a word": (SRUN | {"SLURM_STEP_NUM_TASKS": "two"}, r"\$SLURM_STEP_NUM_TASKS is 'two'"),
}


@pytest.mark.parametrize(("environment", "said"), NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_by_the_name_of_the_variable(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        World.from_environment(environment)


@pytest.mark.parametrize("environment", [*SINGLE.values(), SRUN], ids=[*SINGLE, "a step of several tasks"])
def test_fabric_of_one_process_takes_no_variable_for_a_process(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fabric = make_fabric(torch.device("cpu"), "fp32", ALONE)
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    assert type(fabric.strategy).__name__ == "SingleDeviceStrategy"


def test_fabric_is_told_of_the_processes_what_the_world_knows() -> None:
    world = World.from_environment(SRUN)
    told = WorldEnvironment(world)
    assert (told.world_size(), told.global_rank(), told.local_rank(), told.node_rank()) == (8, 6, 2, 1)
    assert (told.main_address, told.main_port) == (world.address, world.port)
    assert told.creates_processes_externally


def test_a_gpu_is_refused_that_several_processes_would_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    two, four = Ranks(World(size=2, local_size=2)), Ranks(World(size=4, local_size=4))
    with pytest.raises(UsageError, match="2 processes cannot share it"):
        own_device("cuda:1", two)
    with pytest.raises(UsageError, match="4 processes were started on this node, which has 3 GPUs"):
        own_device("auto", four)
    assert own_device("cpu", four) == torch.device("cpu")
    assert own_device("cuda:1", ALONE) == torch.device("cuda:1")


def test_to_know_the_processes_takes_no_torch() -> None:
    code = (
        "import sys; from medres.finetuning.world import World; World.from_environment(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "False"
