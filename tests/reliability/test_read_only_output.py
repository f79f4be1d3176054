"""Number 6: an output that cannot be written is refused before anything is read."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from tests.faults.killing import finetune_command, run_to_end
from tests.figures import RecordProperty
from tests.integration.conftest import write_cohort
from tests.reliability.conftest import MountDisk

pytestmark = pytest.mark.slow


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("kind", ["read-only disk", "disk without room for a file", "/proc"])
def test_an_output_that_cannot_be_written_is_refused_at_once(
    kind: str, tmp_path: Path, mount_disk: MountDisk, record_property: RecordProperty
) -> None:
    options = {"read-only disk": "ro", "disk without room for a file": "size=1m,nr_inodes=1"}
    output = mount_disk(options[kind]) if kind in options else Path("/proc")
    command = finetune_command(write_cohort(tmp_path / "scans"), output / "runs", "run")
    before, started = _cpu_seconds(), time.monotonic()
    done = run_to_end(command)
    cpu, wall = _cpu_seconds() - before, time.monotonic() - started
    assert done.returncode == 1, done.stdout
    assert str(output) in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert cpu <= 2
    record_property("figure", f"{kind}: {cpu:.1f} s of CPU time (start of Python included), {wall:.1f} s of wall time")
