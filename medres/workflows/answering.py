"""Rows of `medres predict` on their way to the disk: written as they come, taken over after a run that stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medres.data.sources import GivenScan
from medres.deployment.answer_file import AnswerFile, alone_at
from medres.deployment.answer_key import answer_key
from medres.deployment.foreign import withholding_codes
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor
from medres.errors import InterruptedPredictionError
from medres.runs.progress import Progress

_INTERRUPTED = 130

#: Refusals that a message shows; all are in the file.
SHOWN = 10


@dataclass(kw_only=True)
class Answers:
    """The rows that were written, in the order in which they were asked for.

    Args:
        columns: Of the CSV.
        rows: Cells by row; empty where a row is not answered yet.
        failures: The first refusals, each with its file.
        num_failed: Rows that could not be predicted.
        num_taken_over: Rows that an earlier run had answered.
    """

    columns: Sequence[str]
    rows: list[Sequence[str]]
    failures: list[str] = field(default_factory=list)
    num_failed: int = 0
    num_taken_over: int = 0

    @property
    def num_answered(self) -> int:
        """Rows that are there."""
        return sum(bool(row) for row in self.rows)

    def column(self, name: str) -> list[str]:
        """Return the cells of one column."""
        position = list(self.columns).index(name)
        return [row[position] for row in self.rows]

    @property
    def num_withheld(self) -> int:
        """Rows that have probabilities but no decision, since their scan is unlike the training scans."""
        return len(self._withheld())

    def withheld_for(self) -> dict[str, int]:
        """Return how many decisions each code withheld; one scan may have several."""
        return dict(Counter(code for findings in self._withheld() for code in withholding_codes(findings)))

    def _withheld(self) -> list[str]:
        cells = zip(*(self.column(name) for name in ("predicted", "decision", "findings")), strict=True)
        return [findings for predicted, decision, findings in cells if predicted and not decision]

    def note_failures(self, part: Predictions) -> None:
        """Count the refused rows of a part, and keep the first of them for the message."""
        self.num_failed += part.num_failed
        failed = [(file, str(error)) for file, error in zip(part.files, part.errors, strict=True) if error]
        messages = [message if file in message else f"{file}: {message}" for file, message in failed]
        self.failures = list(dict.fromkeys([*self.failures, *messages]))[:SHOWN]


def answer_to_file(predictor: Predictor, asked: Sequence[GivenScan], out: Path, *, progress: Progress) -> Answers:
    """Predict rows and write them to ``out``, in order; those that a run before this one answered are taken over.

    Args:
        predictor: The model.
        asked: Its rows.
        out: CSV; until it is whole, its rows stand in ``OUT.part``.
        progress: Shows scans.

    Raises:
        InterruptedPredictionError: By Ctrl-C or a signal; what was answered is in the partial file.
        OutputError: The file cannot be written.
    """
    rules = predictor.bundle.plan.reading
    keys = [answer_key(row, predictor=predictor.identity, rules=rules) for row in asked]
    with alone_at(out):
        file = AnswerFile(out, predictor.columns, wanted=set(keys))
        answers = _taken_over(file, asked, keys)
        _note(answers, file, progress)
        with _told_when_stopped(answers, file):
            _answer_the_rest(predictor, asked, keys, answers, file, progress)
            file.finish(answers.rows)
    return answers


def _taken_over(file: AnswerFile, asked: Sequence[GivenScan], keys: Sequence[str]) -> Answers:
    found = [file.known.get(key, ()) for key in keys]
    names = ("sample", "path", "given")  # as they are called now
    places = [file.columns.index(name) for name in names]
    rows: list[Sequence[str]] = []
    for cells, row in zip(found, asked, strict=True):
        fresh = dict(zip(places, (row.scan.sample_id, row.file, row.given), strict=True))
        rows.append([fresh.get(place, cell) for place, cell in enumerate(cells)])
    return Answers(columns=file.columns, rows=rows, num_taken_over=sum(bool(row) for row in rows))


def _note(answers: Answers, file: AnswerFile, progress: Progress) -> None:
    if answers.num_taken_over:
        progress.note(f"{answers.num_taken_over} of {len(answers.rows)} rows are taken over from {file.part}.")
    if file.num_dropped:
        progress.note(f"{file.num_dropped} rows of {file.part} are of another model, option or scan: not taken over.")


def _answer_the_rest(
    predictor: Predictor,
    asked: Sequence[GivenScan],
    keys: Sequence[str],
    answers: Answers,
    file: AnswerFile,
    progress: Progress,
) -> None:
    left = [position for position, row in enumerate(answers.rows) if not row]
    positions = iter(left)
    for part in predictor.predict_in_parts([asked[position] for position in left], progress=progress):
        fresh = [(next(positions), part.cells(index), error) for index, error in enumerate(part.errors)]
        file.add((keys[position] if error is None else "", cells) for position, cells, error in fresh)
        for position, cells, _ in fresh:
            answers.rows[position] = cells
        answers.note_failures(part)


@contextmanager
def _told_when_stopped(answers: Answers, file: AnswerFile) -> Iterator[None]:
    """Say what is where when a person or the system ends the work."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else _INTERRUPTED
        raise InterruptedPredictionError(*_what_is_where(answers, file), exit_code=code) from None


def _what_is_where(answers: Answers, file: AnswerFile) -> tuple[str]:
    done = answers.num_answered
    if not done:
        file.part.unlink(missing_ok=True)
        return ("Stopped before the first scan was predicted: nothing was written.",)
    return (
        f"Stopped after {done} of {len(answers.rows)} rows, which are in {file.part}; {file.out} was not written. "
        "Run the same command again: it takes them over and predicts the others.",
    )
