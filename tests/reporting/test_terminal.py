from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from medres.reporting import terminal
from medres.reporting.terminal import TerminalProgress, duration
from medres.runs.progress import Prefixed, Progress


def _console(*, is_terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=is_terminal, width=100, legacy_windows=False), file


def _work(progress: Progress) -> list[tuple[int, int]]:
    """Epochs inside folds, as a training does it."""
    done: list[tuple[int, int]] = []
    for fold in progress.track(range(3), description="folds", total=3):
        inner = Prefixed(progress, f"fold {fold + 1}/3")
        done += [(fold, epoch) for epoch in inner.track(range(40), description="epochs", total=40)]
    return done


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
def test_items_come_through_in_order(is_terminal: bool, quiet: bool) -> None:
    console, _ = _console(is_terminal=is_terminal)
    assert _work(TerminalProgress(console=console, quiet=quiet)) == [(f, e) for f in range(3) for e in range(40)]


def test_a_log_file_gets_a_line_at_start_and_end_not_one_a_step() -> None:
    console, file = _console(is_terminal=False)
    _work(TerminalProgress(console=console))
    lines = file.getvalue().splitlines()
    assert len(lines) == 2 * 4  # the folds, and the epochs of each of three
    assert lines[0] == "folds: 3 to do"
    assert lines[1] == "fold 1/3 epochs: 40 to do"
    assert re.fullmatch(r"fold 1/3 epochs: 40 done in \d+\.\d s", lines[2])
    assert re.fullmatch(r"folds: 3 done in \d+\.\d s", lines[-1])
    assert "\x1b" not in file.getvalue()


def test_long_work_says_once_a_minute_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    console, file = _console(is_terminal=False)
    clock = iter(range(0, 10_000, 25))  # every look at the clock is 25 s later
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    list(TerminalProgress(console=console).track(range(10), description="scans", total=10))
    between = file.getvalue().splitlines()[1:-1]
    assert between[0] == "scans: 3 of 10 done, about 2 min 55 s left"
    assert len(between) == 3


def test_bars_show_counts_and_time_left_and_leave_one_line() -> None:
    console, file = _console(is_terminal=True)
    progress = TerminalProgress(console=console)
    for _ in progress.track(range(2), description="scans [bold]", total=2):
        assert progress._bars is not None
        progress._bars.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "scans [bold]" in shown
    assert "1/2" in shown
    assert "left" in shown
    assert re.search(r"scans \[bold\]: 2 done in \d+\.\d s", shown)


def test_nested_bars_live_together_and_go_away() -> None:
    console, file = _console(is_terminal=True)
    progress = TerminalProgress(console=console)
    for _ in progress.track(range(1), description="folds", total=1):
        for _ in progress.track(range(1), description="epochs", total=1):
            assert progress._bars is not None
            assert [task.description for task in progress._bars.tasks] == ["folds", "epochs"]
            progress._bars.refresh()
    assert progress._bars is None
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "folds: 1 done" in shown
    assert "epochs: 1 done" not in shown


@pytest.mark.parametrize("is_terminal", [True, False])
def test_quiet_shows_nothing(is_terminal: bool) -> None:
    console, file = _console(is_terminal=is_terminal)
    progress = TerminalProgress(console=console, quiet=True)
    _work(progress)
    progress.note("a decision")
    assert file.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_failure_passes_through_and_the_bars_are_gone(is_terminal: bool) -> None:
    console, file = _console(is_terminal=is_terminal)
    progress = TerminalProgress(console=console)

    def scans() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(progress.track(scans(), description="scans", total=2))
    assert progress._bars is None
    assert "done in" not in file.getvalue()


def test_work_that_is_left_early_closes_its_bar() -> None:
    console, _ = _console(is_terminal=True)
    progress = TerminalProgress(console=console)
    items = progress.track(range(5), description="scans", total=5)
    next(iter(items))
    items.close()  # type: ignore[attr-defined]
    assert progress._bars is None


def test_notes_are_literal_and_not_broken() -> None:
    console, file = _console(is_terminal=False)
    TerminalProgress(console=console).note("class [grade 2] " + "word " * 60)
    assert file.getvalue().startswith("class [grade 2] word")
    assert file.getvalue().count("\n") == 1


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.note("a decision")
    list(progress.track([1], description="scans", total=1))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a decision" in captured.err
    assert "scans: 1 done" in captured.err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3600, "1 h 00 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
