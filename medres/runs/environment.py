"""Variables of the environment, set for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def unless_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables inside the block where they are not set already.

    Example:
        >>> with unless_set({"MEDRES_EXAMPLE": "1"}):
        ...     os.environ["MEDRES_EXAMPLE"]
        '1'
        >>> "MEDRES_EXAMPLE" in os.environ
        False
    """
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        put_back(before)


def put_back(before: Mapping[str, str | None]) -> None:
    """Give variables the values that they had; None: they were not set."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
