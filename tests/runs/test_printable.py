"""A terminal shows names from elsewhere and does not obey them."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from rich.text import Text

from medres.reporting.console import printable_console
from medres.reporting.tables import new_table
from medres.runs.printable import one_line, printable, printable_json

ALL = map(chr, range(sys.maxunicode + 1))
OBEYED = [character for character in ALL if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")]


def test_the_characters_are_walked() -> None:
    assert len(OBEYED) > 200
    assert {"\x1b", "\x07", "\r", "\x7f", "\x9b", "\u200b", "\u202e", "\u2028", "\xad"} <= set(OBEYED)


def test_no_character_without_a_shape_passes_but_line_feeds() -> None:
    assert [character for character in OBEYED if character in printable(character)] == ["\n"]
    assert [character for character in OBEYED if character in one_line(character)] == []


@pytest.mark.parametrize("text", ["benign", "Prüfling 3 °", "肺結節", "line\nline", "🫁", "grade [2]"])
def test_what_has_a_shape_stays(text: str) -> None:
    assert printable(text) == text


def test_json_keeps_its_values() -> None:
    names = {"name": "".join(OBEYED), "plain": "肺"}
    shown = printable_json(json.dumps(names, ensure_ascii=False))
    assert json.loads(shown) == names
    assert [character for character in OBEYED if character in shown] == []
    assert "肺" in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_styles_its_own_text_and_nothing_else(terminal: bool) -> None:
    stream = io.StringIO()
    console = printable_console(file=stream, force_terminal=terminal, width=60)
    table = new_table("Classes", ["label"])
    table.add_row(Text("mal\x1b[2Jignant\x07\r", "bold"))
    console.print("be\x1b]0;owned\x07nign", table, markup=False, highlight=False)
    shown = stream.getvalue()
    assert "be\\x1b]0;ownednign" in shown  # rich leaves bells and carriage returns out
    assert "\\x1b[2J" in shown
    assert "\x07" not in shown
    assert "\r" not in shown
    styles = [part for part in shown.split("\x1b")[1:] if not part.startswith("[") or "m" not in part[:12]]
    assert styles == []
    assert ("\x1b[1m" in shown) == terminal
