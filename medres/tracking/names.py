"""What MLflow accepts as names and values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

#: Longer parameter values are cut by MLflow with a warning.
MAX_VALUE = 6000
MAX_NAME = 250

_NOT_ALLOWED = re.compile(r"[^\w\-. /:]")


def allowed_name(name: str) -> str:
    """Return a metric or parameter name with what MLflow refuses replaced.

    Example:
        >>> allowed_name("pooled/auroc (95%)")
        'pooled/auroc _95__'
    """
    return _NOT_ALLOWED.sub("_", name)[:MAX_NAME]


def allowed_value(value: Any) -> str:
    """Return a value as text that fits into a parameter; what was cut is marked."""
    text = str(value)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def finite_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers among the values, under allowed names.

    Example:
        >>> finite_numbers({"loss": 0.5, "lr": None, "stage": "head"})
        {'loss': 0.5}
    """
    return {
        allowed_name(name): float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }
