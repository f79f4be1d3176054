"""Plain data out of text that anybody may have written: JSON and YAML, with limits that hold before memory is taken.

Both come out as dictionaries, lists, text, numbers, booleans and None. Refused, since no document of medres or of its
users needs them: nesting beyond `MAX_DEPTH`, numbers of more than `MAX_DIGITS` digits, a key that stands twice (one of
its values would be lost without a word), NUL characters (no path may hold one), YAML that refers to itself or expands
to more than `MAX_NODES` values, and YAML's tags for Python objects.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

#: Levels of lists and mappings inside of each other; the documents of medres have 6.
MAX_DEPTH = 50

#: Of one number. 2**64 has 20; Python itself refuses more than 4,300.
MAX_DIGITS = 40

#: Values of a YAML document, with what it refers to counted at each place.
MAX_NODES = 100_000

#: Bytes of a document. A data list of a million scans has a tenth of the first.
MAX_JSON_BYTES = 2**30
MAX_YAML_BYTES = 2**23

_SHOWN = 60
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # the escape itself, not a backslash that happens to stand before u0000
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)  # a text is passed over as a whole


class PlainDataError(ValueError):
    """Text that is not plain data; its message is what stands after "is not valid JSON: "."""


def shortened(value: object, *, limit: int = _SHOWN) -> str:
    """Return a value as text for a message, its middle left out where it is long.

    Example:
        >>> shortened("9" * 5000)
        '999999999999999999999999999999 ... (5,000 characters)'
        >>> shortened(10**5000), shortened([1, 2])
        ('a number of about 5,001 digits', '[1, 2]')
    """
    if isinstance(value, int) and value.bit_length() > 3 * limit:
        return f"a number of about {math.floor(value.bit_length() * math.log10(2)) + 1:,} digits"
    text = value if isinstance(value, str) else _repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... ({len(text):,} characters)"


def parse_json(content: str | bytes, *, allow_nan: bool = False) -> Any:
    """Return the plain data of a JSON document.

    Args:
        content: UTF-8, as text or as bytes.
        allow_nan: Whether NaN and infinity, which are no JSON, but which Python writes, are read.

    Raises:
        PlainDataError: It is none, or goes beyond the limits of this module.

    Example:
        >>> parse_json('{"folds": [1, 2]}')
        {'folds': [1, 2]}
        >>> parse_json('{"folds": 1, "folds": 2}')
        Traceback (most recent call last):
        medres.runs.plain_data.PlainDataError: the key 'folds' stands twice
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        _require_shallow(text)
        values = json.loads(
            text, object_pairs_hook=_unique, parse_int=_integer,
            parse_float=_float if not allow_nan else float, parse_constant=float if allow_nan else _no_number,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise PlainDataError(f"byte {error.start:,} is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise PlainDataError(str(error)) from None
    _check_depth(values)
    if _NUL.search(text):
        raise PlainDataError("it holds a NUL character (\\u0000)")
    return values


def read_json(path: Path, *, allow_nan: bool = False) -> Any:
    """Return the plain data of a JSON file.

    Raises:
        PlainDataError: It is none, or goes beyond the limits of this module.
        OSError: It cannot be read.
    """
    return parse_json(_bytes_of(path, MAX_JSON_BYTES), allow_nan=allow_nan)


def parse_yaml(content: str | bytes) -> Any:
    """Return the plain data of a YAML document. Dates stay text.

    Raises:
        PlainDataError: It is none, or goes beyond the limits of this module.

    Example:
        >>> parse_yaml("{folds: 3, since: 2024-13-45}")
        {'folds': 3, 'since': '2024-13-45'}
        >>> parse_yaml("a: " + "[" * 5000)
        Traceback (most recent call last):
        medres.runs.plain_data.PlainDataError: line 1, column 53: it is nested deeper than 50 levels
    """
    try:
        # a SafeLoader with limits: it makes text, numbers, lists and mappings, and refuses tags that name anything else
        return yaml.load(content, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        raise PlainDataError(_with_place(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlainDataError(" ".join(str(error).split())) from None


def read_yaml_file(path: Path) -> Any:
    """Return the plain data of a YAML file.

    Raises:
        PlainDataError: It is none, or goes beyond the limits of this module.
        OSError: It cannot be read.
    """
    return parse_yaml(_bytes_of(path, MAX_YAML_BYTES))


def _bytes_of(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise PlainDataError(f"it is larger than {limit:,} bytes")
    return content


def _repr(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes, or too deep
        return f"one {type(value).__name__}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise PlainDataError(f"the key {shortened(twice)!r} stands twice")
    return values


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise PlainDataError(f"the number {shortened(text)} has more than {MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise PlainDataError(f"{shortened(text)} is no finite number")


def _require_shallow(text: str) -> None:
    """Refuse JSON that is nested too deep before it is parsed: Python's parser takes stack for each level.

    Its own limit of a thousand levels is too late where a thread has a small stack, as those of servers may: the
    process then ends without an exception.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise PlainDataError(f"it is nested deeper than {MAX_DEPTH} levels")


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise PlainDataError(f"it is nested deeper than {MAX_DEPTH} levels")


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader within the limits of this module."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0
        self._weights: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth >= MAX_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            raise _at(event, f"it is nested deeper than {MAX_DEPTH} levels")
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise _at(event, f"tags such as {shortened(event.tag)} are not read")
        self._depth += 1
        before = self._nodes
        node = super().compose_node(parent, index)
        self._depth -= 1
        # what it refers to counts at each place: nine lists of nine references each to the next are 9**9 values
        is_reference = isinstance(event, yaml.AliasEvent)
        self._nodes += self._weights.get(id(node), MAX_NODES + 1) if is_reference else 1
        if self._nodes > MAX_NODES:
            what = "it refers to itself, or expands" if is_reference else "it comes"
            raise _at(event, f"{what} to more than {MAX_NODES:,} values")
        if not is_reference:
            self._weights[id(node)] = self._nodes - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise _at(key, f"the key {shortened(key.value)!r} stands twice")
            keys.add(str(key.value))
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode) -> str:  # type: ignore[override]
        text = super().construct_scalar(node)
        if node.tag.endswith((":int", ":float")) and len(text) > MAX_DIGITS:
            raise _at(node, f"the number {shortened(text)} has more than {MAX_DIGITS} digits")
        if "\0" in text:
            raise _at(node, "it holds a NUL character")
        return str(text)


def _at(where: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def _with_place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    said = " ".join(part for part in (error.context, error.problem) if part)
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}" if mark else said
