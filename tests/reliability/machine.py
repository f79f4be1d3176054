"""The machine and the code that figures come from, in words."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("torch", "monai", "timm", "mlflow", "nibabel", "pydicom", "scikit-learn", "numpy", "pandas")


def describe_machine() -> str:
    """Return processor, cores, memory, threads of the tests and versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}; "
        f"1 thread a process (OMP_NUM_THREADS=1); Python {platform.python_version()}, {versions}"
    )


def describe_code(root: Path) -> str:
    """Return the commit, and whether files differ from it."""
    commit = _git(root, "rev-parse", "--short=12", "HEAD") or "no git repository"
    changed = [line for line in _git(root, "status", "--porcelain").splitlines() if "reliability.md" not in line]
    return commit + (f" with {len(changed)} changed files" if changed else "")


def describe_load() -> str:
    """Return how busy the machine is, which disturbs times."""
    return f"Load of the machine at the beginning (waiting processes): {os.getloadavg()[0]:.1f}"


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.rstrip() if done.returncode == 0 else ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(), flags=re.MULTILINE) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()
