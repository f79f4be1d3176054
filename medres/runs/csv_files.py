"""CSV files that a spreadsheet may open: their writer and their reader.

A cell that begins with ``=``, ``+``, ``-`` or ``@`` is run as a formula when a spreadsheet opens the file, and a class,
a column or a file may be called anything (CWE-1236; OWASP, "CSV Injection"). Such a cell is written with an apostrophe
before it, which `read_csv` takes off again. Numbers are no formulas and stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from medres.runs.atomic import atomic_write_text

#: What a spreadsheet takes for a formula: the four signs, their full-width forms, and white space that it skips before
#: them. Apostrophes before them are counted in, so that reading gives back what was written, whatever it was.
_FORMULA = re.compile(r"'*[\s]*[=+\-@＝＋－＠]|'*[\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def harmless(cell: str) -> str:
    """Return what is written for a cell: itself, or with an apostrophe where a spreadsheet would run it.

    Example:
        >>> harmless("=1+1"), harmless("-0.25"), harmless("benign"), harmless("'=1")
        ("'=1+1", '-0.25', 'benign', "''=1")
    """
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def original(cell: str) -> str:
    """Return the cell that `harmless` was given.

    Example:
        >>> [original(harmless(cell)) for cell in ("=1+1", "-0.25", "benign", "'=1")]
        ['=1+1', '-0.25', 'benign', "'=1"]
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_line(cells: Iterable[object]) -> str:
    """Return one row as text, with its line feed."""
    text = io.StringIO(newline="")
    # the writer quotes what could end a line only where it is a part of its own end of a line
    csv.writer(text, lineterminator="\r\n").writerow([harmless(str(cell)) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def csv_rows(text: str) -> list[list[str]]:
    """Return the rows of what `csv_line` wrote, the head among them; empty lines are none.

    Raises:
        csv.Error: It is no CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    return [[original(cell) for cell in cells] for cells in reader if cells]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, private: bool = False) -> None:
    r"""Write a table as UTF-8, whole or not at all; what is no text (a file name in another encoding) as escapes.

    Args:
        path: The file.
        columns: Its head.
        rows: Cells; all are written as text.
        private: Whether only its owner may read it (mode 0600).

    Raises:
        OutputError: The folder cannot be written or the disk is full.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "scans.csv"
        >>> write_csv(target, ["path", "label"], [["1.png", "+benign"]])
        >>> target.read_text(), read_csv(target)
        ("path,label\n1.png,'+benign\n", [{'path': '1.png', 'label': '+benign'}])
    """
    atomic_write_text(path, "".join(map(csv_line, (columns, *rows))), private=private)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table that `write_csv` wrote, by column; missing cells are empty.

    Raises:
        OSError: There is no such file, or it cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        csv.Error: It is no CSV.
    """
    return read_table(path)[1]


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the head of a table, empty of an empty file, and its rows; see `read_csv`, also for what is raised."""
    columns, *rows = csv_rows(path.read_bytes().decode("utf-8")) or [[]]  # as text, cells would lose carriage returns
    return columns, [_row(columns, cells) for cells in rows]


def _row(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    filled = [*cells, *[""] * (len(columns) - len(cells))]
    return dict(zip(columns, filled, strict=False))
