"""Threads for work that releases the interpreter: decompression, resampling, hashing. In order, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from medres.runs.host_warnings import THREAD_PREFIX

Given = TypeVar("Given")
Made = TypeVar("Made")

#: More threads than this wait for each other on one disk.
MAX_THREADS = 16


def num_cores() -> int:
    """Return how many cores this process may use: a container or a batch system may give fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """Yield the results in order; at most two items a thread are under way, so that memory is bounded.

    An exception of ``work`` is raised where its result would have come; what was not begun is then left undone.

    Args:
        work: Called in several threads at once.
        items: Taken one by one, as they are needed.

    Example:
        >>> list(map_in_threads(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    threads = min(num_cores(), MAX_THREADS)
    under_way: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=THREAD_PREFIX) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) >= 2 * threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
