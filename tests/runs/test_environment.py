from __future__ import annotations

import os

import pytest

from medres.runs.environment import unless_set


def test_what_was_set_stays_and_what_was_not_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRES_TEST_SET", "host")
    monkeypatch.delenv("MEDRES_TEST_UNSET", raising=False)
    before = dict(os.environ)
    with unless_set({"MEDRES_TEST_SET": "own", "MEDRES_TEST_UNSET": "own"}):
        assert (os.environ["MEDRES_TEST_SET"], os.environ["MEDRES_TEST_UNSET"]) == ("host", "own")
    assert dict(os.environ) == before
    with pytest.raises(KeyError), unless_set({"MEDRES_TEST_UNSET": "own"}):
        raise KeyError
    assert dict(os.environ) == before
