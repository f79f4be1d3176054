"""`AnswerFile`: a CSV of predictions that grows beside its place while it is made, and appears there when it is whole.

``OUT.part`` holds complete rows only, each flushed to the disk, with the key of its answer in the last column. A run
that is stopped, or killed, leaves it; the next one takes over the rows whose keys are those that it would compute.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from medres.errors import OutputError
from medres.runs.atomic import atomic_write_text, explained_os_errors
from medres.runs.csv_files import csv_line, csv_rows

#: The last column of ``OUT.part``.
KEY_COLUMN = "answer_key"

Cells = Sequence[str]


class AnswerFile:
    """Answers on their way to ``out``.

    Args:
        out: The CSV.
        columns: Its columns.
        wanted: Keys of the rows that are asked for; what else a partial file holds is dropped.

    Raises:
        OutputError: The partial file cannot be written, or is another file of that name.
    """

    def __init__(self, out: Path, columns: Cells, *, wanted: Collection[str]) -> None:
        self.out, self.part = out, part_of(out)
        self.columns = list(columns)
        known = _read(self.part, [*self.columns, KEY_COLUMN])
        self.known: dict[str, Cells] = {key: cells for key, cells in known if key and key in wanted}
        self.num_dropped = sum(key != "" and key not in wanted for key, _ in known)
        kept = ((*cells, key) for key, cells in self.known.items())
        atomic_write_text(self.part, _as_csv([[*self.columns, KEY_COLUMN], *kept]))

    def add(self, rows: Iterable[tuple[str, Cells]]) -> None:
        """Write rows with their keys to the partial file, and to the disk.

        Raises:
            OutputError: The disk is full.
        """
        text = _as_csv((*cells, key) for key, cells in rows)
        with explained_os_errors(self.part), self.part.open("ab") as file:
            file.write(text.encode("utf-8", errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, rows: Iterable[Cells]) -> None:
        """Write the whole file in the order of ``rows``, and remove the partial one.

        Raises:
            OutputError: The disk is full.
        """
        atomic_write_text(self.out, _as_csv([self.columns, *rows]))
        self.part.unlink(missing_ok=True)


@contextmanager
def alone_at(out: Path) -> Iterator[None]:
    """Keep other processes from writing the same file.

    Raises:
        OutputError: One is writing it.
    """
    path = out.with_name(f".{out.name}.lock")
    with explained_os_errors(path):
        lock = FileLock(path)
    try:
        with explained_os_errors(path):
            lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"Another process is writing {out}.", fix="Wait for it, or give another file.") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def part_of(out: Path) -> Path:
    """Return where the rows of a file stand until it is whole."""
    return out.with_name(f"{out.name}.part")


def _read(path: Path, columns: Cells) -> list[tuple[str, Cells]]:
    """Return key and cells of the complete rows of a partial file; none of one that has other columns.

    Raises:
        OutputError: It was not written by medres.
    """
    rows = _complete_rows(path)
    if not rows or rows[0] != list(columns):
        return []
    return [(row[-1], row[:-1]) for row in rows[1:] if len(row) == len(columns)]


def _complete_rows(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]  # a process that was killed may have written part of a row
        rows = csv_rows(complete.decode("utf-8")) or [[]] * bool(complete)  # nothing but line feeds is not ours
    except (OSError, ValueError, csv.Error):
        rows = [[]]
    if rows and rows[0][-1:] != [KEY_COLUMN]:
        raise OutputError(f"{path} is in the way: it is no partial result.", fix="Move it, or give another -o.")
    return rows


def _as_csv(rows: Iterable[Cells]) -> str:
    return "".join(map(csv_line, rows))
