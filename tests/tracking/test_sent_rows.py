from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medres.tracking.sent_rows import (
    METADATA_KEY,
    RequestError,
    SentRow,
    keep_rows,
    parsed_rows,
    rows_of_table,
    unknown_columns,
)

CANARY = "Doe^John_1953"
NAMES = st.sampled_from(["image", "path", "img", "mask", CANARY])
ROWS = st.lists(st.dictionaries(NAMES, st.one_of(st.none(), st.integers(), st.text(max_size=3))), max_size=6)


@pytest.mark.parametrize("kind", ["dataframe_records", "instances", "inputs"])
@given(rows=ROWS)
def test_rows_of_any_columns_stay_as_they_were_sent(kind: str, rows: list[dict[str, Any]]) -> None:
    found = parsed_rows({kind: rows})
    assert found is not None
    assert [row.values for row in found] == rows


@pytest.mark.parametrize("kind", ["dataframe_split", "instances", "inputs"])
@given(columns=st.lists(NAMES, min_size=1, unique=True), length=st.integers(0, 4))
def test_columns_give_their_rows(kind: str, columns: list[str], length: int) -> None:
    rows = [{name: f"{name} {number}" for name in columns} for number in range(length)]
    body: dict[str, Any] = {name: [row[name] for row in rows] for name in columns}
    if kind == "dataframe_split":
        body = {"columns": columns, "data": [list(row.values()) for row in rows]}
    found = parsed_rows({kind: body})
    assert found is not None
    assert [row.values for row in found] == rows


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": {"image": ["a", "b"], "path": ["c"]}},
        {"inputs": {}},
        {"inputs": [CANARY]},
        {"inputs": CANARY},
        {"instances": [{"image": "a"}, CANARY]},
        {"instances": 3},
        {"dataframe_records": {"image": CANARY}},
        {"dataframe_split": [CANARY]},
        {"dataframe_split": {"data": [[CANARY]]}},
        {"dataframe_split": {"columns": ["image"], "data": [["a", CANARY]]}},
        {"dataframe_split": {"columns": ["image", "image"], "data": [["a", CANARY]]}},
        {"dataframe_split": {"columns": ["image"], "data": CANARY}},
    ],
    ids=str,
)
def test_a_body_without_rows_is_refused_as_a_whole(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="holds no rows that can be read") as caught:
        parsed_rows(body)
    assert caught.value.get_http_status_code() == 400
    assert CANARY not in str(caught.value)


def test_the_sentence_of_a_refusal_stays() -> None:
    error = RequestError("One sentence.")
    error.message = f"Failed to predict data '{CANARY}'"
    assert json.loads(error.serialize_as_json())["message"] == "One sentence."


def test_another_model_is_parsed_as_mlflow_does() -> None:
    from mlflow.pyfunc import scoring_server

    keep_rows()
    keep_rows()
    other = SimpleNamespace(metadata=None, get_params_schema=lambda: None)
    parsed = scoring_server._parse_json_data(json.dumps({"instances": [{"x": 1}, {"y": 2}]}), other, None)
    assert list(parsed.data) == ["x", "y"]
    ours = SimpleNamespace(metadata={METADATA_KEY: 1})
    schema = SimpleNamespace(input_names=lambda: ["image", "path"])
    parsed = scoring_server._parse_json_data(json.dumps({"instances": [{"x": CANARY}, {}]}), ours, schema)
    assert [row.values for row in parsed.data["image"]] == [{"x": CANARY}, {}]
    assert CANARY not in str(parsed.data)


def test_a_table_of_a_caller_keeps_its_rows() -> None:
    table = pd.DataFrame({"image": [b"a", SentRow({"path": "x"})], "other": [1, 2]})
    assert rows_of_table(table, ["image"]) == [{"image": b"a", "other": 1}, {"path": "x"}]
    assert rows_of_table(pd.DataFrame({"image": []}), ["image"]) == []
    with pytest.raises(RequestError, match="No column that this model takes was sent; it takes image, path"):
        rows_of_table(pd.DataFrame(index=[0, 1]), ["image", "path"])


def test_columns_that_are_not_taken_are_named_where_they_are_names() -> None:
    assert unknown_columns({"image": b""}, ["image"]) == ""
    assert unknown_columns({"img": 1}, ["image"]) == "Left out: img; this model takes image."
    many = {f"c{n}": n for n in range(7)}
    assert unknown_columns(many, ["image"]).startswith("Left out: c0, c1, c2, c3, c4 and 2 other columns;")
    assert CANARY not in unknown_columns({CANARY: 1}, ["image"])
