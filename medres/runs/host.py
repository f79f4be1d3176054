"""What a job relies on in the program around it: set around the job, and given back after it.

A host may have switched torch to autocast, to float64 or to inference mode, made NumPy raise on underflow or turned
warnings into errors. The numbers of a job must not depend on that, and the host must find its settings as they were.

Some settings belong to a thread (autocast, gradients, NumPy's errors): they are set in the thread that calls. Threads
that medres starts begin with the defaults of torch and NumPy. Others belong to the process (default dtype, the
arithmetic of fp32, deterministic algorithms): while a job runs, other threads of the host see them changed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from medres.runs.host_warnings import shown_warnings
from medres.runs.shared_state import Back, SharedState


@contextmanager
def independent_of_host() -> Iterator[None]:
    """Set what a job relies on inside the block, or the function that it decorates; it may be nested.

    Not for generators: what they yield to would run under these settings.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> with torch.no_grad(), np.errstate(all="raise"), independent_of_host():
        ...     torch.is_grad_enabled(), np.geterr()["under"]
        (True, 'ignore')
    """
    import numpy as np  # `import medres` stays light

    with ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(shown_warnings())
        if "torch" in sys.modules:  # or the host has set nothing there, and the job may need none
            _settle_torch(stack)
        yield


@contextmanager
def importing_libraries() -> Iterator[None]:
    """Import libraries inside the block without a trace in the host.

    Some draw from `random` on import, and some warn, which must not end a run where warnings are errors.
    """
    before = random.getstate()
    try:
        with shown_warnings():
            yield
    finally:
        random.setstate(before)


def _settle_torch(stack: ExitStack) -> None:
    import torch

    stack.enter_context(_OF_PROCESS.held())
    stack.enter_context(IEEE.held())
    for device_type in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device_type):
            # the cache of cast weights is emptied at the end of the host's block alone: steps would read old weights
            stack.enter_context(torch.autocast(device_type, enabled=False, cache_enabled=False))
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))


def _change_process() -> Back:
    """Set torch's defaults of number type and algorithms, as a fresh process has them."""
    import torch

    cudnn: Any = torch.backends.cudnn
    dtype = torch.get_default_dtype()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    )  # fmt: skip
    flags = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}

    def back() -> None:
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for name, value in flags.items():
            setattr(cudnn, name, value)

    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, False
    return back


def _change_arithmetic() -> Back:
    """Let fp32 be fp32: without TF32 and the reduced precisions of CPU kernels."""
    import torch

    backends: Any = torch.backends
    # only the setting per operation is touched: mixed with the older allow_tf32 switches, PyTorch raises
    operations = (
        backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn,
        backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn,
    )  # fmt: skip
    before = [operation.fp32_precision for operation in operations]

    def back() -> None:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision

    for operation in operations:
        operation.fp32_precision = "ieee"
    return back


_OF_PROCESS = SharedState(_change_process)
#: fp32 that is fp32 in all threads: `medres.finetuning.inference.fp32_arithmetic` and every job.
IEEE = SharedState(_change_arithmetic)
