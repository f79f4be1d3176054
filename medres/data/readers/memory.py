"""How much memory is free: of the machine, and of the container that the process runs in."""

from __future__ import annotations

from pathlib import Path

import psutil

# Where Linux says what a control group (a container, a SLURM job) may use and uses: version 2, then version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
_CACHE_FIELDS = ("inactive_file", "total_inactive_file")


def available_bytes() -> int:
    """Return the bytes that can be taken without swapping, or without the container being ended for it."""
    free: int = psutil.virtual_memory().available
    of_group = [_free_of_group(*map(Path, files)) for files in _GROUPS]
    return min([free, *(each for each in of_group if each is not None)])


def _free_of_group(limit: Path, used: Path, stat: Path) -> int | None:
    try:
        allowed, now = int(limit.read_text()), int(used.read_text())
        fields = dict(line.split() for line in stat.read_text().splitlines())
        # files that were read are counted, and let go when memory is asked for
        cached = next((int(fields[name]) for name in _CACHE_FIELDS if name in fields), 0)
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None
    return max(0, allowed - now + cached)
