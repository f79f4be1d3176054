"""Which failures pass by themselves, and which would come back with every attempt."""

from __future__ import annotations

import requests
import sqlalchemy

from medres.errors import OutputError, TrackingError
from medres.tracking.mlflow_api import MlflowException

_PASSING_CODES = frozenset({
    "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "ABORTED",
    "RESOURCE_EXHAUSTED", "IO_ERROR", "UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED",
})  # fmt: skip
#: Refusals of an upload that another attempt may not meet: no permission yet, time-out, too many requests.
_PASSING_STATUS = frozenset({401, 403, 408, 429})


def may_pass(error: Exception) -> bool:
    """Return whether the same call may succeed later: the server is away, slow or full, not the event wrong."""
    if isinstance(error, MlflowException):
        return error.error_code in _PASSING_CODES
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in _PASSING_STATUS
    if isinstance(error, FileNotFoundError):
        return False
    return isinstance(error, (TrackingError, OutputError, OSError, sqlalchemy.exc.SQLAlchemyError))
