"""What comes next is made in a second thread: in order, once, with its errors, and to the same weights."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import suppress
from typing import Any

import pytest
import torch

from medres.finetuning.optimisation import Optimisation
from medres.finetuning.read_ahead import ReadAhead, Wanted
from medres.finetuning.stage_loop import StageLoop
from medres.finetuning.stages import Stage
from tests.finetuning.conftest import Cohort
from tests.finetuning.test_trainer import train


class _Maker:
    """Makes numbers and remembers where."""

    def __init__(self) -> None:
        self.made: list[tuple[int, bool]] = []

    def wanted(self, number: int) -> Wanted[int]:
        def make() -> int:
            self.made.append((number, threading.current_thread() is threading.main_thread()))
            if number < 0:
                raise MemoryError(number)
            return number

        return Wanted(number, make)


@pytest.fixture
def maker() -> _Maker:
    return _Maker()


def test_what_was_begun_is_made_once_and_in_the_other_thread(maker: _Maker) -> None:
    ahead, wanted = ReadAhead[int](active=True), [maker.wanted(number) for number in range(5)]
    assert [ahead.take(one, then=then) for one, then in zip(wanted, [*wanted[1:], None], strict=True)] == [*range(5)]
    assert maker.made == [(0, True), (1, False), (2, False), (3, False), (4, False)]


def test_not_active_nothing_is_begun(maker: _Maker) -> None:
    ahead, wanted = ReadAhead[int](active=False), [maker.wanted(number) for number in range(3)]
    assert [ahead.take(one, then=then) for one, then in zip(wanted, [*wanted[1:], None], strict=True)] == [*range(3)]
    assert maker.made == [(0, True), (1, True), (2, True)]


@pytest.mark.parametrize("begun", [7, -7])
def test_what_is_no_longer_wanted_is_thrown_away(maker: _Maker, begun: int) -> None:
    ahead = ReadAhead[int](active=True)
    ahead.take(maker.wanted(1), then=maker.wanted(begun))
    assert ahead.take(maker.wanted(2)) == 2
    assert maker.made == [(1, True), (begun, False), (2, True)]


def test_an_error_of_the_thread_is_raised_where_its_result_is_wanted(maker: _Maker) -> None:
    ahead, bad = ReadAhead[int](active=True), maker.wanted(-1)
    assert ahead.take(maker.wanted(0), then=bad) == 0
    with pytest.raises(MemoryError):
        ahead.take(bad)
    assert ahead.take(maker.wanted(3)) == 3


def test_a_failed_batch_is_freed_at_once() -> None:
    """What did not fit must not stay until Python happens to look for circles: the half of it is tried next."""

    class Batch:
        pass

    batches: list[weakref.ref[Batch]] = []

    def make() -> int:
        batch = Batch()
        batches.append(weakref.ref(batch))
        raise MemoryError

    ahead = ReadAhead[int](active=True)
    gc.disable()
    try:
        ahead.take(Wanted(0, lambda: 0), then=Wanted(1, make))
        with suppress(MemoryError):
            ahead.take(Wanted(1, make))
        ahead.drop()
        assert [batch() for batch in batches] == [None]
    finally:
        gc.enable()


def test_no_thread_is_left(maker: _Maker) -> None:
    before = threading.active_count()
    ahead = ReadAhead[int](active=True)
    ahead.take(maker.wanted(0), then=maker.wanted(1))
    ahead.drop()
    assert threading.active_count() == before


STAGES = {
    "stem": Stage(name="full", train_from="stem", epochs=2, lr=3e-3, norm_statistics="update"),
    "live frozen part": Stage(name="top", train_from="layer4", epochs=2, lr=3e-3, norm_statistics="update"),
    "kept frozen part": Stage(name="top", train_from="layer4", epochs=3, lr=3e-3, views=2),
}
CHOICES: dict[str, dict[str, Any]] = {
    "usual": {}, "accumulated": {"accumulate": 3}, "mixed": {"mixup": 0.4, "dropout": 0.3},
    "balanced": {"sampling": "balanced"},
}  # fmt: skip
TRAININGS = [
    (stage, choice)
    for stage in STAGES
    for choice in CHOICES
    if not (STAGES[stage].views and Optimisation(**CHOICES[choice]).mixes)
]


@pytest.mark.parametrize(("stage", "choice"), TRAININGS)
def test_the_weights_are_the_same_bit_for_bit(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, stage: str, choice: str
) -> None:
    expected, _ = train(cohort, STAGES[stage], **CHOICES[choice])
    threads = _make_active(monkeypatch)
    read_ahead, _ = train(cohort, STAGES[stage], **CHOICES[choice])
    assert any(name.startswith("medres-read-ahead") for name in threads)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, read_ahead.state_dict()[name]), name


def test_a_batch_that_does_not_fit_is_halved_wherever_it_is_made(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, original = _make_active(monkeypatch), type(cohort.feed).inputs

    def inputs(self: Any, rows: Any, *, seeds: Any = None) -> Any:
        if len(rows) > 4:
            raise MemoryError
        return original(self, rows, seeds=seeds)

    monkeypatch.setattr(type(cohort.feed), "inputs", inputs)
    _, events = train(cohort, STAGES["stem"])
    assert [event["part_size"] for event in events if event["kind"] == "smaller_parts"] == [4]
    assert any(name.startswith("medres-read-ahead") for name in threads)


def _make_active(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Read ahead on a CPU, too, and return the list of threads that batches are made in."""
    threads: list[str] = []
    original = StageLoop._make

    def make(self: StageLoop, *args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return original(self, *args)

    monkeypatch.setattr(StageLoop, "_make", make)
    monkeypatch.setattr(ReadAhead, "__init__", _activated(ReadAhead.__init__))
    return threads


def _activated(original: Any) -> Any:
    def init(self: ReadAhead[Any], *, active: bool) -> None:
        assert not active  # on a CPU
        original(self, active=True)

    return init
