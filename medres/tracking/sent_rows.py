"""Rows as a client sent them, through MLflow's scoring server: each stays a row, with its own values.

MLflow's parser does not keep them. It gathers ``instances`` by column, so that the values of rows that lack a column
move up to other rows (other patients); it drops columns that the signature does not have, and with the last of them
all rows; and it decodes base64 leaving out letters that it does not know. So requests to models that medres logged are
parsed here, and a `SentRow` stands for each of them in the first column of the table that MLflow hands on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medres.data.wording import counted
from medres.runs.plain_data import parse_json
from medres.tracking.mlflow_api import BAD_REQUEST, MlflowException, Schema

#: Key in the metadata of a logged model by which it is known as one of medres.
METADATA_KEY = "medres_format"
#: The bodies that MLflow's scoring server takes.
BODIES = ("dataframe_split", "dataframe_records", "instances", "inputs")

NOT_ROWS = (
    "The body holds no rows that can be read: dataframe_split takes columns and as many values in each row of data, "
    "dataframe_records and instances a list of rows, inputs a list of values for each column, all of one length."
)

#: Names of columns that may stand in an answer: what is no plain name may be anything.
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_MOST_NAMED = 5


@dataclass(frozen=True, repr=False)
class SentRow:
    """One row of a request.

    Args:
        values: By column, as they came. Not in its `repr`, which MLflow puts into answers.
    """

    values: Mapping[str, Any]

    def __repr__(self) -> str:
        return "SentRow"


class RequestError(MlflowException):  # type: ignore[misc]  # MLflow has no types
    """A request that is refused as a whole: status 400, and one fixed sentence.

    MLflow's server writes the data of the client into the messages of exceptions that pass it; not into this one.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=BAD_REQUEST)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "message" or not hasattr(self, "message"):
            super().__setattr__(name, value)


def keep_rows() -> None:
    """Let MLflow's scoring server, in this process, hand on the rows of medres's models as they were sent."""
    from mlflow.pyfunc import scoring_server

    if getattr(scoring_server._parse_json_data, "keeps_rows", False):
        return
    scoring_server._parse_json_data = _keeping(scoring_server._parse_json_data, scoring_server.ParsedJsonInput)


def rows_of_table(table: pd.DataFrame, columns: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the rows of what MLflow hands on.

    Args:
        table: Of a request, or what the caller of a loaded model gave, without the columns that it does not take.
        columns: Those that the model takes.

    Raises:
        RequestError: No column is left, and with them all rows are gone.
    """
    if len(table.columns) == 0:
        raise RequestError(f"No column that this model takes was sent; it takes {', '.join(columns)}.")
    records = [{str(name): value for name, value in record.items()} for record in table.to_dict("records")]
    sent = (next((value for value in record.values() if isinstance(value, SentRow)), None) for record in records)
    return [record if row is None else row.values for record, row in zip(records, sent, strict=True)]


def unknown_columns(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Return a sentence about what a row holds and the model does not take, or an empty text.

    Example:
        >>> unknown_columns({"img": "", "Doe^John": 1}, ["image", "path"])
        'Left out: img and 1 other column; this model takes image, path.'
    """
    unknown = [name for name in row if name not in columns]
    if not unknown:
        return ""
    named = [name for name in unknown if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMED]
    others = len(unknown) - len(named)
    parts = [", ".join(named)] * bool(named) + [counted(others, "other column")] * bool(others)
    return f"Left out: {' and '.join(parts)}; this model takes {', '.join(columns)}."


def parsed_rows(body: Mapping[str, Any]) -> list[SentRow] | None:
    """Return the rows of a request's body, in order; None where it is none of `BODIES`.

    Raises:
        RequestError: It is one of them, but holds no rows.

    Example:
        >>> parsed_rows({"instances": [{"image": "aGVsbG8="}, {}]})
        [SentRow, SentRow]
    """
    kinds = [kind for kind in BODIES if kind in body]
    if len(kinds) != 1:
        return None
    try:
        rows = _READERS[kinds[0]](body[kinds[0]])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RequestError(NOT_ROWS) from None
    return [SentRow({str(name): value for name, value in row.items()}) for row in rows]


def _keeping(original: Callable[..., Any], parsed: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse(data: Any, metadata: Any, input_schema: Schema) -> Any:
        if METADATA_KEY not in (metadata.metadata or {}):
            return original(data, metadata, input_schema)
        body = _decoded(data)
        rows = parsed_rows(body)
        if rows is None:
            return original(data, metadata, input_schema)
        column = pd.Series(rows, dtype=object)
        return parsed(pd.DataFrame({input_schema.input_names()[0]: column}), body.get("params"), False)

    parse.keeps_rows = True  # type: ignore[attr-defined]
    return parse


def _decoded(data: Any) -> Mapping[str, Any]:
    """Return the body of a request; an empty one where it is no JSON object, which MLflow refuses in its own words."""
    try:
        body = parse_json(data, allow_nan=True)
    except (AttributeError, TypeError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _split(body: Any) -> list[dict[str, Any]]:
    columns, data = _listed(body["columns"]), body["data"]
    if len(set(columns)) < len(columns):
        raise ValueError
    return [dict(zip(columns, _listed(row), strict=True)) for row in _listed(data)]


def _records(body: Any) -> list[dict[str, Any]]:
    return [dict(row.items()) for row in _listed(body)]


def _instances(body: Any) -> list[dict[str, Any]]:
    return _inputs(body) if isinstance(body, dict) else _records(body)


def _inputs(body: Any) -> list[dict[str, Any]]:
    """Return the rows of columns; a value that is no list is that of one row."""
    if isinstance(body, list):
        return _records(body)
    if not body:
        raise ValueError
    columns = {name: values if isinstance(values, list) else [values] for name, values in body.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError
    return values


_READERS: Mapping[str, Callable[[Any], list[dict[str, Any]]]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}
