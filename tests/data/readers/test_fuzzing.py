"""Damaged files of every format: a scan or one kind of error comes out, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medres.data.catalogue import KINDS
from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.readers.samples import MAKERS, pair, sample

#: Damage: flip a bit, set a byte, set a number, cut, delete, insert, copy a piece elsewhere.
_FRACTION = st.floats(0, 1, exclude_max=True)
_STEPS = st.one_of(
    st.tuples(st.just("flip"), _FRACTION, st.integers(0, 7)),
    st.tuples(st.just("byte"), _FRACTION, st.integers(0, 255)),
    st.tuples(st.just("number"), _FRACTION, st.sampled_from([0, 1, 0x7F, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])),
    st.tuples(st.just("digit"), _FRACTION, st.integers(0, 9)),
    st.tuples(st.just("cut"), _FRACTION, st.just(0)),
    st.tuples(st.just("delete"), _FRACTION, st.integers(1, 40)),
    st.tuples(st.just("insert"), _FRACTION, st.integers(1, 40)),
    st.tuples(st.just("splice"), _FRACTION, st.integers(1, 64)),
)
_DAMAGE = st.tuples(st.booleans(), st.lists(_STEPS, min_size=1, max_size=6))


def damaged(content: bytes, damage: tuple[bool, list[tuple[str, float, int]]]) -> bytes:
    """Return the content after the steps; those of a header lie among its first 700 bytes."""
    in_header, steps = damage
    changed = bytearray(content)
    for kind, fraction, value in steps:
        at = int(fraction * min(len(changed), 700 if in_header else len(changed)))
        if not changed:
            break
        if kind == "flip":
            changed[at] ^= 1 << value
        elif kind == "byte":
            changed[at] = value
        elif kind == "number":
            changed[at : at + 4] = value.to_bytes(4, "little" if at % 2 else "big")
        elif kind == "digit":
            digits = [
                position for position in range(at, min(at + 40, len(changed))) if chr(changed[position]).isdigit()
            ]
            for position in digits[:1]:
                changed[position : position + 1] = str(value).encode() * (1 + at % 9)
        elif kind == "cut":
            del changed[at:]
        elif kind == "delete":
            del changed[at : at + value]
        elif kind == "insert":
            changed[at:at] = bytes([value] * value)
        else:
            source = (at * 7919) % len(changed)
            changed[at : at + value] = changed[source : source + value]
    return bytes(changed)


def outcome_of(content: bytes, rules: ReadingRules) -> str:
    """Return what reading gave: ``read`` or the code of the refusal; anything else is an error of the test."""
    start = time.perf_counter()
    try:
        image = read_scan_bytes(content, rules=rules)
        assert np.isfinite(image.voxels).all()
        assert image.spacing_mm is None or (np.isfinite(image.spacing_mm).all() and min(image.spacing_mm) > 0)
        code = "read"
    except UnreadableScanError as error:
        assert str(error).startswith("The file ")  # noqa: PT017
        assert "did not expect" not in str(error), error.__cause__  # noqa: PT017
        assert error.code in KINDS  # noqa: PT017
        code = error.code
    assert time.perf_counter() - start < 10
    return code


def explore(num_examples: int, names: list[str]) -> dict[str, int]:
    """Damage and read; return how often each outcome came."""
    outcomes: dict[str, int] = {}

    @settings(
        max_examples=num_examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(name=st.sampled_from(names), damage=_DAMAGE, volume=st.sampled_from([None, 0, 1]))
    def check(name: str, damage: tuple[bool, list[tuple[str, float, int]]], volume: int | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = outcome_of(damaged(sample(name), damage), ReadingRules(volume=volume))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    check()
    return outcomes


@pytest.mark.parametrize("name", MAKERS)
def test_samples_are_valid(name: str) -> None:
    assert read_scan_bytes(sample(name), rules=ReadingRules(volume=0)).voxels.size > 0


@pytest.mark.parametrize("name", MAKERS)
def test_damage_gives_a_scan_or_one_kind_of_error(name: str) -> None:
    outcomes = explore(60, [name])
    assert sum(outcomes.values()) >= 60
    assert sum(count for code, count in outcomes.items() if code != "read") > 10


@pytest.mark.parametrize("kind", [".hdr", ".mhd", ".nhdr"])
def test_damage_to_either_of_two_files(tmp_path: Path, kind: str) -> None:
    files, outcomes = pair(kind), {"read": 0, "refused": 0}

    @settings(max_examples=60, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(which=st.integers(0, 1), damage=_DAMAGE)
    def check(which: int, damage: tuple[bool, list[tuple[str, float, int]]]) -> None:
        for index, (name, content) in enumerate(files.items()):
            (tmp_path / name).write_bytes(damaged(content, damage) if index == which else content)
        try:
            assert np.isfinite(read_scan(tmp_path / f"a{kind}").voxels).all()
            outcomes["read"] += 1
        except UnreadableScanError as error:
            assert error.code in KINDS  # noqa: PT017
            assert "did not expect" not in str(error), error.__cause__  # noqa: PT017
            outcomes["refused"] += 1

    check()
    assert sum(outcomes.values()) >= 60
    assert outcomes["refused"] > 5


_IN_BOUNDS = """
import resource, sys
import tests.data.readers.test_fuzzing as fuzzing
from medres.data.readers import read_scan_bytes
for name in fuzzing.MAKERS:
    fuzzing.outcome_of(fuzzing.sample(name), fuzzing.ReadingRules(volume=0))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
print(fuzzing.explore(int(sys.argv[1]), list(fuzzing.MAKERS)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS and /proc")
def test_much_damage_within_a_gibibyte() -> None:
    command = [sys.executable, "-c", _IN_BOUNDS, "30000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "read" in done.stdout
