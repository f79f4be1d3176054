"""Signals while a network is trained: the first is a request, a second one ends, an echo is no second one."""

from __future__ import annotations

import os
import signal

import pytest

from medres.finetuning.stopping import stop_requests

pytestmark = pytest.mark.usefixtures("heeded_signals")


def _signalled_twice(number: int) -> None:
    with stop_requests() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop.signal == number
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_first_signal_is_a_request_and_a_second_one_ends(number: int, kind: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(kind):
        _signalled_twice(number)
    assert signal.getsignal(number) is before


def test_what_a_launcher_passes_on_is_no_second_signal() -> None:
    with stop_requests(echo_seconds=60) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        stop.leave()


def test_a_signal_that_the_program_around_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what `nohup` and `command &` in a script start a process with
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_handler_that_is_not_of_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda number: None)  # as for one that a host has set from C
        with stop_requests():
            patched.undo()
            assert signal.getsignal(signal.SIGTERM) is ours
    assert signal.getsignal(signal.SIGTERM) is ours
