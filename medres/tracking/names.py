"""What MLflow accepts as names and values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from medres.errors import TrackingError

#: `champion` only after somebody has signed it off.
DEFAULT_ALIAS = "candidate"
#: Longer parameter values are cut by MLflow with a warning.
MAX_VALUE = 6000
MAX_NAME = 250

_MODEL_NAME = re.compile(r"[^/:@\\\x00-\x1f]{1,200}")
_ALIAS = re.compile(r"(?!latest$)(?!v\d+$)[A-Za-z0-9_-]{1,100}")
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


def check_names(name: str, alias: str = DEFAULT_ALIAS) -> None:
    """Refuse, before any work, names that the registry cannot hold or a URI cannot express.

    Raises:
        TrackingError: Naming the rule.
    """
    if not _MODEL_NAME.fullmatch(name) or name != name.strip():
        raise TrackingError(
            f"{name!r} is not usable as the name of a registered model.",
            fix="Use a name without '/', ':', '@' and '\\', such as --register ct-nodules.",
        )
    if not _ALIAS.fullmatch(alias):
        raise TrackingError(
            f"{alias!r} is not usable as an alias.",
            fix="Use letters, digits, '_' and '-', not 'latest' or 'v3', such as champion.",
        )
