"""Batch size and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from medres.errors import PlanError
from medres.planning.budget import MIN_BATCH, estimate_bytes_per_scan, scans_in_memory
from medres.planning.choice import Choice, by_wish, times
from medres.planning.facts import BackboneFacts, MachineFacts
from medres.planning.overrides import PlanOverrides

_MAX_BATCH = 64
_MAX_ACTIVATIONS_GIB = 64

Precision = Literal["fp32", "bf16", "fp16"]

#: Fewer, larger steps make too few updates of a small data set: 15 epochs of 10 steps are 150.
_STEPS_AN_EPOCH = 10


def choose_batch_size(
    shape: Sequence[int], *, backbone: BackboneFacts, machine: MachineFacts, num_training_scans: int,
    wishes: PlanOverrides,
) -> Choice[int]:  # fmt: skip
    """Return the largest power of two that memory and the number of training scans allow, 4 to 64."""
    chosen = _by_limits(shape, backbone, machine, num_training_scans)
    if wishes.batch_size is None:
        return chosen
    return by_wish(wishes.batch_size, key="batch_size", instead_of=f"{chosen.value}. {chosen.reason}")


def choose_precision(machine: MachineFacts, *, wishes: PlanOverrides) -> Choice[Precision]:
    """Return the arithmetic of training; reported numbers are fp32 in any case.

    Raises:
        PlanError: fp16 is wished for on a CPU.
    """
    if wishes.precision == "fp16" and machine.device != "cuda":
        raise PlanError(
            f"planning.precision is fp16, which a {machine.device} does not train in.",
            fix="Use bf16 or fp32, or leave it out.",
        )
    if machine.bf16:
        chosen: Choice[Precision] = Choice("bf16", f"This {machine.device} multiplies bfloat16 fast.")
    else:
        chosen = Choice("fp32", f"This {machine.device} has no fast bfloat16.")
    if wishes.precision is None:
        return chosen
    return by_wish(wishes.precision, key="precision", instead_of=f"{chosen.value}. {chosen.reason}")


def choose_activation_bytes(machine: MachineFacts, *, wishes: PlanOverrides) -> Choice[int]:
    """Return the disk that the activations of a frozen part may take: a quarter of what is free, 1 to 64 GiB."""
    # a power of two, so that the plan does not change with every file on the disk
    gib = max(1, min(_MAX_ACTIVATIONS_GIB, _power_of_two(machine.disk_bytes // 4 // 2**30)))
    chosen = Choice(gib * 2**30, f"A quarter of the free disk holds {gib} GiB of activations of a frozen part.")
    if wishes.activation_bytes is None:
        return chosen
    return by_wish(wishes.activation_bytes, key="activation_bytes", instead_of=f"{chosen.value}. {chosen.reason}")


def _by_limits(
    shape: Sequence[int], backbone: BackboneFacts, machine: MachineFacts, num_training_scans: int
) -> Choice[int]:
    by_steps = num_training_scans // _STEPS_AN_EPOCH
    by_memory = scans_in_memory(backbone, machine, shape)
    size = max(MIN_BATCH, _power_of_two(min(by_steps, by_memory, _MAX_BATCH)))
    steps = f"{num_training_scans} training scans in {_STEPS_AN_EPOCH} steps an epoch make {by_steps} a step"
    limits = f"a power of two from {MIN_BATCH} to {_MAX_BATCH}"
    return Choice(size, f"{steps}; {limits}. {_about_memory(shape, backbone, by_steps, by_memory)}")


def _about_memory(shape: Sequence[int], backbone: BackboneFacts, by_steps: int, by_memory: int) -> str:
    # how much is free changes from minute to minute: it is told only where it changes the plan
    a_scan = f"a scan of {times(tuple(shape))} takes about {estimate_bytes_per_scan(backbone, shape) / 2**20:.0f} MiB"
    if by_memory >= min(max(by_steps, MIN_BATCH), _MAX_BATCH):
        return f"They fit into the memory: {a_scan}."
    if by_memory >= MIN_BATCH:
        return f"Half of the free memory holds {by_memory}: {a_scan}."
    return f"{MIN_BATCH} may not fit into the memory ({a_scan}): a smaller backbone would."


def _power_of_two(number: int) -> int:
    """Return the largest power of two that is not above ``number``, and 0 for 0."""
    return 1 << (number.bit_length() - 1) if number > 0 else 0
