"""Tables of text as hospitals write them: comma, semicolon or tab; UTF-8, UTF-16 or cp1252; every cell stays text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medres.data.spelling import visible
from medres.data.wording import first_of
from medres.errors import DataError
from medres.runs.csv_files import original

#: Suffixes of tables.
TABLE_SUFFIXES = (".csv", ".tsv", ".txt")

#: Suffixes of spreadsheets, which are refused with the way out.
WORKBOOK_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".ods")

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # a zip archive (xlsx, ods), an OLE file (xls)
_DECLARATION = re.compile(r"sep=(.)\r?\n")  # Excel's own first line
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
        place: Where it stands, in files that have no rows, such as ``training[3]``.
    """

    number: int
    cells: dict[str, str]
    place: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.place or str(self.number)

    def text(self, column: str) -> str:
        """Return a cell without the blanks around it."""
        return self.cells[column].strip()


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table of text.

    Args:
        path: Its file.
        columns: Names in order, without blanks around them and without what cannot be seen.
        rows: At least one.
        notes: What had to be decided, for the user.
        delimiter: What cuts its rows into cells; where it is no comma, numbers may have one.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    delimiter: str = ","


def read_table(path: Path) -> TextTable:
    """Read a table with a header row.

    Raises:
        DataError: It cannot be read, has no rows, columns of the same name, or rows of another length.
    """
    text, notes = _decoded(path)
    delimiter = _delimiter(text)
    records = _records(path, text, delimiter)
    _, header = next(records, (0, []))
    columns = _columns(path, header)
    rows = tuple(_row(path, columns, header, number, cells) for number, cells in records)
    if not rows:
        raise DataError(f"{path} has no rows below its header.", fix="Write one row a scan: path,label.")
    notes += _blank_note(rows)
    return TextTable(path=path, columns=columns, rows=rows, notes=notes, delimiter=delimiter)


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", fix="Check the path.") from error
    if content.startswith(_WORKBOOKS):
        raise workbook_refused(path)
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


def workbook_refused(path: Path) -> DataError:
    """Return the refusal of a spreadsheet: its cells have types, which turn the id 001 into 1."""
    return DataError(f"{path} is a workbook, not a table of text.", fix="Save it as CSV (UTF-8) and give that file.")


def _not_text(path: Path) -> DataError:
    return DataError(f"{path} is not text in UTF-8, UTF-16 or cp1252.", fix="Save it as CSV, encoded as UTF-8.")


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number, cells) of all rows that are not blank, without what medres writes before formulas."""
    declared = _DECLARATION.match(text)
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), start=1):
            is_declaration = declared is not None and number == 1
            if any(cell.strip() for cell in cells) and not is_declaration:
                yield number, [original(cell) for cell in cells]
    except (csv.Error, TypeError, ValueError) as error:  # of a delimiter that is declared and can be none
        raise DataError(f"{path} is not a table: {error}.", fix="Save it as CSV, encoded as UTF-8.") from error


def _delimiter(text: str) -> str:
    """Return the delimiter that is declared, or cuts the header into most columns; comma where none does."""
    declared = _DECLARATION.match(text)
    if declared:
        return declared[1]
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(_DELIMITERS, key=lambda delimiter: _num_columns(header, delimiter))


def _num_columns(header: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:  # a cell beyond all measure: said when the table is read
        return 0


def _columns(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    names = [visible(name) for name in header]
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
    named = {name: cell for text, cell in zip(header, cells, strict=False) if (name := visible(text))}
    return Row(number=number, cells={column: named[column] for column in columns})


def _blank_note(rows: Sequence[Row]) -> tuple[str, ...]:
    padded = [row.number for row in rows if any(cell != cell.strip() for cell in row.cells.values())]
    return (f"Blanks around text were left out in row {first_of(padded, limit=5)}.",) if padded else ()
