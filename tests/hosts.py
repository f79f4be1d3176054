"""States that a host program may be in when it calls medres, and what must be as it was afterwards."""

from __future__ import annotations

import locale
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

BACKENDS: Any = torch.backends


@contextmanager
def float64_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    BACKENDS.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        BACKENDS.cudnn.benchmark = False


@contextmanager
def reduced_precision() -> Iterator[None]:
    operations = (BACKENDS.cuda.matmul, BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv)
    before = [one.fp32_precision for one in operations]
    BACKENDS.mkldnn.matmul.fp32_precision = BACKENDS.mkldnn.conv.fp32_precision = "bf16"
    BACKENDS.cuda.matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        for one, value in zip(operations, before, strict=True):
            one.fp32_precision = value


@contextmanager
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def seeded() -> Iterator[None]:
    random.seed(1)
    np.random.seed(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


STATES: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64 default": float64_default,
    "meta device": lambda: torch.device("meta"),
    "numpy raises": lambda: np.errstate(all="raise"),
    "deterministic algorithms": deterministic_algorithms,
    "reduced precision": reduced_precision,
    "warnings are errors": warnings_are_errors,
    "matplotlib in the dark": lambda: mpl.rc_context({"figure.facecolor": "black", "lines.linewidth": 9.0}),
    "seeded": seeded,
}


@contextmanager
def all_at_once() -> Iterator[None]:
    with ExitStack() as stack:
        for state in STATES.values():
            stack.enter_context(state())
        yield


def state_of_host() -> dict[str, Any]:
    """Return what belongs to the host and must be as it was."""
    operations = (
        BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn, BACKENDS.mkldnn.matmul,
        BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn,
    )  # fmt: skip
    return {
        "random": random.getstate(), "numpy random": str(np.random.get_state()),
        "torch random": torch.get_rng_state().tolist(), "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(), "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(), "autocast": torch.is_autocast_enabled("cpu"),
        "autocast cache": torch.is_autocast_cache_enabled(), "fp32": [one.fp32_precision for one in operations],
        "cudnn": (BACKENDS.cudnn.enabled, BACKENDS.cudnn.benchmark, BACKENDS.cudnn.deterministic),
        "numpy errors": np.geterr(), "environment": dict(os.environ), "folder": os.getcwd(),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "logging": (logging.root.level, list(logging.root.handlers)), "filters": list(warnings.filters),
        "matplotlib": dict(mpl.rcParams), "locale": locale.setlocale(locale.LC_ALL),
        "own threads": [one.name for one in threading.enumerate() if one.name.startswith("medres")],
    }  # fmt: skip
