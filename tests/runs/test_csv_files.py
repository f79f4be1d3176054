"""No cell runs in a spreadsheet, and what is read is what was written, whatever it was."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from medres.runs.csv_files import csv_line, harmless, original, read_csv, read_table, write_csv

#: What begins a formula in Excel, LibreOffice and Google Sheets.
STARTERS = "=+-@\t\r＝＋－＠"
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
CELLS |= st.text(st.sampled_from("'=+-@ \t0.a＝\n"), max_size=6)


@given(CELLS)
def test_reading_gives_back_what_was_written(cell: str) -> None:
    assert original(harmless(cell)) == cell


@given(CELLS)
def test_no_cell_begins_a_formula_unless_it_is_a_number(cell: str) -> None:
    written = harmless(cell)
    if written.strip()[:1] in {*STARTERS} and written.strip():
        float(written)  # a number, or this raises


@pytest.mark.parametrize("number", ["-0.25", "+3", "-1e-05", "1.5", "-inf", "nan", "-.5", "-3."])
def test_numbers_stay_numbers(number: str) -> None:
    assert harmless(number) == number


@pytest.mark.parametrize("cell", ["-2+3+cmd|' /C calc'!A0", "@SUM(1)", "＝1", " =1", "\t=1", "-", "+1-2", "=-1"])
def test_what_is_no_number_is_held(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@given(st.lists(CELLS, min_size=1, max_size=4, unique=True), st.lists(st.lists(CELLS, min_size=4, max_size=4)))
def test_a_line_has_the_cells_that_it_was_given(columns: list[str], rows: list[list[str]]) -> None:
    text = "".join(map(csv_line, (columns, *rows)))
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert [[original(cell) for cell in cells] for cells in read if cells] == [
        cells for cells in (columns, *rows) if cells
    ]


def test_a_table_comes_back_with_its_head_and_its_mode(tmp_path: Path) -> None:
    rows = [["=a", "+b,c"], ['"', "-1"]]
    for name, private in (("open.csv", False), ("own.csv", True)):
        write_csv(tmp_path / name, ["=x", "y"], rows, private=private)
        assert read_csv(tmp_path / name) == [dict(zip(["=x", "y"], cells, strict=True)) for cells in rows]
        assert read_table(tmp_path / name) == (["=x", "y"], read_csv(tmp_path / name))
        assert (stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600) == private
