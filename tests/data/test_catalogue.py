import ast
import re
from pathlib import Path

import pytest

from medres.data.catalogue import KINDS

PAGE = Path(__file__).parents[2] / "docs/reference/findings.md"
ENTRY = re.compile(r"^### `([a-z0-9-]+)`\n\n\*(error|warning|info)\* · (.+)\n\n(.+)\n", re.MULTILINE)


def test_the_page_and_the_catalogue_name_the_same_kinds():
    headings = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(KINDS)


def test_the_page_has_the_severity_and_the_rule_of_each_kind_and_says_what_to_do():
    entries = {code: rest for code, *rest in ENTRY.findall(PAGE.read_text(encoding="utf-8"))}
    assert {code: (severity, rule) for code, (severity, rule, _) in entries.items()} == {
        code: (kind.severity, kind.rule) for code, kind in KINDS.items()
    }
    assert min(len(text) for _, _, text in entries.values()) > 30


@pytest.mark.parametrize("code", KINDS)
def test_codes_and_rules_have_one_form(code):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert re.fullmatch(r"[A-Z].*[a-z0-9)]\.", KINDS[code].rule)


def literals():
    """Every text in the data room: (file, text, whether it is given as ``code=``)."""
    for file in sorted((Path(__file__).parents[2] / "medres/data").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        codes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "code"}
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield file.name, node.value, id(node) in codes


def test_every_code_that_the_data_room_gives_is_in_the_catalogue():
    given = {(file, text) for file, text, is_code in literals() if is_code}
    assert len(given) > 30
    assert {(file, code) for file, code in given if code not in KINDS} == set()


def test_every_note_of_a_reader_has_a_code_of_the_catalogue():
    notes = {(file, m[1]) for file, text, _ in literals() if (m := re.match(r"([a-z]+(?:-[a-z]+)+): \w", text))}
    assert len(notes) > 8
    assert {(file, code) for file, code in notes if code not in KINDS} == set()
