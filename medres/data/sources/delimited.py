"""Tables of text as hospitals write them: comma, semicolon or tab; UTF-8, UTF-16 or cp1252; every cell stays text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medres.data.wording import first_of
from medres.errors import DataError

#: Suffixes of tables.
TABLE_SUFFIXES = (".csv", ".tsv", ".txt")

_DELIMITERS = (",", ";", "\t")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table.

    Args:
        number: As a spreadsheet counts it; the header is row 1.
        cells: Text by column, blanks around it included.
    """

    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """Return a cell without the blanks around it."""
        return self.cells[column].strip()


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table of text.

    Args:
        path: Its file.
        columns: Names in order, without blanks around them.
        rows: At least one.
        notes: What had to be decided, for the user.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> TextTable:
    """Read a table with a header row.

    Raises:
        DataError: It cannot be read, has no rows, columns of the same name, or rows of another length.
    """
    text, notes = _decoded(path)
    records = _records(path, text)
    _, header = next(records, (0, []))
    columns = _columns(path, header)
    rows = tuple(_row(path, columns, header, number, cells) for number, cells in records)
    if not rows:
        raise DataError(f"{path} has no rows below its header.", fix="Write one row a scan: path,label.")
    return TextTable(path=path, columns=columns, rows=rows, notes=notes + _blank_note(rows))


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", fix="Check the path.") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding), ()
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise _not_text(path) from None
    try:
        return content.decode("cp1252"), (f"{path.name} is not UTF-8 and was read as Windows cp1252.",)
    except UnicodeDecodeError:
        raise _not_text(path) from None


def _not_text(path: Path) -> DataError:
    return DataError(f"{path} is not text in UTF-8, UTF-16 or cp1252.", fix="Save it as CSV, encoded as UTF-8.")


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, cells) of all rows that are not blank."""
    declared = re.match(r"sep=(.)\r?\n", text)  # Excel's own first line
    delimiter = declared[1] if declared else _delimiter(text)
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), start=1):
            is_declaration = declared is not None and number == 1
            if any(cell.strip() for cell in cells) and not is_declaration:
                yield number, cells
    except csv.Error as error:
        raise DataError(f"{path} is not a table: {error}.", fix="Save it as CSV, encoded as UTF-8.") from error


def _delimiter(text: str) -> str:
    """Return the delimiter that cuts the header into most columns; comma where none does."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))


def _columns(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in header]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} has two columns named {', '.join(repeated)}.", fix="Rename one of them.")
    return tuple(name for name in names if name)  # a column without a name is an index that a program wrote


def _row(path: Path, columns: Sequence[str], header: Sequence[str], number: int, cells: list[str]) -> Row:
    extra = [cell for cell in cells[len(header) :] if cell.strip()]
    if len(cells) < len(header) or extra:
        raise DataError(
            f"{path}, row {number}: {len(cells)} cells, but the header has {len(header)}.",
            fix="Put text that holds the delimiter into double quotes, or mend the row.",
        )
    named = {name.strip(): cell for name, cell in zip(header, cells, strict=False) if name.strip()}
    return Row(number=number, cells={column: named[column] for column in columns})


def _blank_note(rows: Sequence[Row]) -> tuple[str, ...]:
    padded = [row.number for row in rows if any(cell != cell.strip() for cell in row.cells.values())]
    return (f"Blanks around text were left out in row {first_of(padded, limit=5)}.",) if padded else ()
