from __future__ import annotations

import threading

import pytest

from medres.runs.shared_state import Back, SharedState


def _counted(log: list[str]) -> SharedState:
    def change() -> Back:
        log.append("changed")
        return lambda: log.append("back")

    return SharedState(change)


def test_the_last_of_overlapping_blocks_goes_back() -> None:
    log: list[str] = []
    state, inside, leave = _counted(log), threading.Event(), threading.Event()

    def hold() -> None:
        with state.held():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with state.held():
        thread.start()
        inside.wait(10)
    assert log == ["changed"]
    leave.set()
    thread.join()
    assert log == ["changed", "back"]


def test_an_error_goes_back_and_the_next_block_changes_anew() -> None:
    log: list[str] = []
    state = _counted(log)
    with pytest.raises(KeyError), state.held():
        raise KeyError
    with state.held():
        pass
    assert log == ["changed", "back"] * 2


def test_a_change_that_fails_is_not_counted() -> None:
    attempts: list[int] = []

    def change() -> Back:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError
        return lambda: None

    state = SharedState(change)
    with pytest.raises(OSError), state.held():  # noqa: PT011
        pass
    with state.held():
        pass
    assert len(attempts) == 2
