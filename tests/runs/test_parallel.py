"""Threads: parallel, in order, bounded, and no bug is swallowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from medres.runs import parallel
from medres.runs.parallel import map_in_threads


def test_work_is_parallel_bounded_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_cores", lambda: 4)
    lock, running, most, taken = threading.Lock(), [0], [0], [0]

    def items() -> Iterator[int]:
        for number in range(60):
            taken[0] += 1
            yield number

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005 if number % 7 else 0.02)
        with lock:
            running[0] -= 1
        return number

    results = map_in_threads(work, items())
    assert next(results) == 0
    assert taken[0] <= 8
    assert list(results) == list(range(1, 60))
    assert 2 <= most[0] <= 4


def test_what_was_not_begun_is_left_undone_when_nobody_listens_any_more() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    results = map_in_threads(work, range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(done) < 100


def test_an_exception_comes_where_the_result_would_have_come() -> None:
    results = map_in_threads(lambda number: 1 // number, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_item_that_cannot_be_made_stops_the_work() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(map_in_threads(abs, items()))
