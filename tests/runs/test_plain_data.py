"""JSON and YAML with limits: what is within them is read as the libraries read it, what is beyond is named."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.runs.plain_data import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_NODES,
    PlainDataError,
    parse_json,
    parse_yaml,
    read_json,
    read_yaml_file,
    shortened,
)

_texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
_finite = st.floats(allow_nan=False, allow_infinity=False)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | _finite | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(_values)
def test_what_is_within_the_limits_comes_back(values: Any) -> None:
    assert parse_json(json.dumps(values)) == values
    assert parse_yaml(yaml.safe_dump(values, allow_unicode=True)) == values


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("[]{}:,-?&*!|>'\"#% \n\tab019.eE+~<=\\"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_json, parse_yaml):
        said, found = "", None
        try:
            found = parse(text)
        except PlainDataError as error:
            said = str(error)
        assert "\n" not in said
        assert said or parse is parse_yaml or repr(found) == repr(json.loads(text))


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, MAX_DEPTH + 2, 10 * MAX_DEPTH])
def test_the_depth_is_the_same_in_both(depth: int) -> None:
    for parse in (parse_json, parse_yaml):
        text = "[" * depth + "]" * depth
        if depth <= MAX_DEPTH:
            assert parse(text) == json.loads(text)
        else:
            with pytest.raises(PlainDataError, match=f"nested deeper than {MAX_DEPTH} levels"):
                parse(text)


@pytest.mark.parametrize("text", ['"' + "[" * 90 + '"', '["\\"' + "[" * 90 + '"]', "[" + "[]," * 90 + "{}]"])
def test_brackets_that_are_text_or_side_by_side_are_no_depth(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_in_a_thread_with_a_small_stack() -> None:
    """Servers read in threads: the limit holds before Python's own, whose crash nothing catches."""
    said: list[str] = []

    def read() -> None:
        for parse in (parse_json, parse_yaml):
            try:
                parse("[" * 200_000)
            except PlainDataError as error:
                said.append(str(error))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert len(said) == 2


@pytest.mark.parametrize("digits", [MAX_DIGITS, MAX_DIGITS + 1, 5000])
def test_digits(digits: int) -> None:
    for parse in (parse_json, parse_yaml):
        if digits <= MAX_DIGITS:
            assert parse("9" * digits) == int("9" * digits)
        else:
            with pytest.raises(PlainDataError, match=f"has more than {MAX_DIGITS} digits"):
                parse("9" * digits)


def test_references_are_read_and_counted() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: &d {e: 3}}") == {"a": [1, 2], "b": [1, 2], "c": {"e": 3}}
    many = "a: &a [" + ", ".join(["1"] * (MAX_NODES // 100)) + "]\n"
    assert len(parse_yaml(many + "b: [*a, *a]")["b"]) == 2
    with pytest.raises(PlainDataError, match=f"to more than {MAX_NODES:,} values"):
        parse_yaml(many + "b: [" + ", ".join(["*a"] * 101) + "]")
    with pytest.raises(PlainDataError, match="refers to itself"):
        parse_yaml("&a [*a]")


@pytest.mark.parametrize("text", ["2024-13-45", "2024-01-01", "2024-01-01T10:00:00Z"])
def test_dates_stay_text(text: str) -> None:
    assert parse_yaml(f"name: {text}") == {"name": text}


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}'])
def test_what_is_no_finite_number(text: str) -> None:
    with pytest.raises(PlainDataError, match="is no finite number"):
        parse_json(text)
    assert isinstance(parse_json(text, allow_nan=True)["a"], float)


def test_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text(f'"{"a" * 98}"')
    assert read_json(tmp_path / "a") == read_yaml_file(tmp_path / "a") == "a" * 98
    for limit, read in (("MAX_JSON_BYTES", read_json), ("MAX_YAML_BYTES", read_yaml_file)):
        monkeypatch.setattr(f"medres.runs.plain_data.{limit}", 99)
        with pytest.raises(PlainDataError, match="larger than 99 bytes"):
            read(tmp_path / "a")


def test_messages_stay_short() -> None:
    for value in ("x" * 10_000, 10**4000, 10**100_000, [10**5000], list(range(9999)), {"a": "b" * 999}):
        assert len(shortened(value)) < 100


@pytest.mark.parametrize(("text", "refused"), [('"\\\\u0000"', False), ('"\\u0000"', True), ('"\\\\\\u0000"', True)])
def test_a_backslash_before_u0000_is_no_nul(text: str, refused: bool) -> None:
    if refused:
        with pytest.raises(PlainDataError, match="NUL"):
            parse_json(text)
    else:
        assert parse_json(text) == json.loads(text)
