"""Columns that say where the region of interest lies: ``center_x_mm``, ``center_y_mm``, ``center_z_mm``."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

from medres.data.sources.columns import CENTER_COLUMNS, find_column
from medres.data.sources.delimited import Row, TextTable
from medres.errors import DataError

#: Distance of a centre from the scanner's own: a kilometre; a body has two metres.
MAX_MM = 1e6

Center: TypeAlias = tuple[float, float, float]

# 12,5 is a number where the comma cuts no cells; 1,234.5 and 1.234,5 could be two numbers each
_COMMA_DECIMAL = re.compile(r"[+-]?\d+,\d+")


def center_columns(table: TextTable) -> tuple[str, str, str] | None:
    """Return the three columns of the centre, in the table's own spelling, or None.

    Raises:
        DataError: Only some of them are there.
    """
    x, y, z = (find_column(table, [name]) for name in CENTER_COLUMNS)
    if x and y and z:
        return x, y, z
    present = [column for column in (x, y, z) if column]
    if present:
        missing = [name for name, column in zip(CENTER_COLUMNS, (x, y, z), strict=True) if not column]
        raise DataError(
            f"{table.path} has the column {' and '.join(present)}, but not {' and '.join(missing)}.",
            fix="A region of interest needs all three, in millimetres (RAS); or remove them.",
        )
    return None


def center_of(table: TextTable, row: Row, columns: tuple[str, str, str] | None) -> tuple[Center | None, str]:
    """Return the centre of a row, or None, and what is wrong with it, or an empty text."""
    if columns is None or not any(row.text(column) for column in columns):
        return None, ""
    numbers = [_number(row.text(column), decimal_comma=table.delimiter != ",") for column in columns]
    wrong = [
        f"{column} {row.text(column)!r}" for column, number in zip(columns, numbers, strict=True) if number is None
    ]
    x, y, z = numbers
    if x is None or y is None or z is None:
        return None, f"{' and '.join(wrong)} {'is no number' if len(wrong) == 1 else 'are no numbers'}"
    return (x, y, z), ""


def _number(text: str, *, decimal_comma: bool) -> float | None:
    if decimal_comma and _COMMA_DECIMAL.fullmatch(text):
        text = text.replace(",", ".")
    try:
        number = float(text) if re.fullmatch(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?", text) else math.nan
    except ValueError:
        return None
    return number if abs(number) <= MAX_MM else None
