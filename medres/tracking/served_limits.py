"""How much a server takes: bytes of a request, voxels of a scan, and voxels of all requests at once.

The defaults follow from the scans that the model was trained on. Environment variables of the server set them by hand:
``MEDRES_MAX_REQUEST_MB`` and ``MEDRES_MAX_SCAN_MB``.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from medres.data.readers.budget import MAX_SCAN_VARIABLE, MemoryPool, ReadingBudget, asked_limit
from medres.planning.fingerprint import Fingerprint
from medres.tracking.mlflow_api import MlflowException

#: Environment variable: most megabytes of the body of one request.
MAX_REQUEST_VARIABLE = "MEDRES_MAX_REQUEST_MB"

TOO_LARGE = (
    "This scan is larger than this server reads, by what its header claims, or unpacks to one value almost everywhere "
    f"({MAX_SCAN_VARIABLE} sets the limit)."
)
BUSY = "The server holds as many scans as it has memory for: send the request again later."

# A scan for a model is like those that it was trained on, or a finer reconstruction of them: half the distance of the
# slices, and twice as long. Small ones are not refused whatever the training was: 512x512x512 voxels of 2 bytes.
_MORE_THAN_TRAINING = 4
_LEAST_SCAN_BYTES = 256 * 2**20

# Of a region of interest the fingerprint knows the size of the region, the client sends the whole scan: a whole-body CT
# of 512x512x2000 voxels of 2 bytes, which is rarely sent in more than a quarter of its size.
_WHOLE_BODY_BYTES = 512 * 512 * 2000 * 2
_PACKED_SHARE = 4

# Two of the largest scans at once, however many requests there are. (Preparing one takes up to four times its bytes.)
_LARGEST_AT_ONCE = 2
#: How long a request waits for others before it is refused; MLflow's own time-out is 60 s.
_WAIT_S = 20.0

_LEAST_REQUEST_BYTES = 64 * 2**20
_BASE64 = 4 / 3


class RefusedRequestError(MlflowException):  # type: ignore[misc]  # MLflow has no types
    """A request that is refused as a whole, with its HTTP status and one sentence.

    MLflow's server would answer with another status, and puts the client's data into the message of an exception.

    Args:
        sentence: For the client.
        status: HTTP status: 413 for too large, 503 for try again.
    """

    def __init__(self, sentence: str, *, status: int) -> None:
        super().__init__(sentence)
        self._sentence, self._status = sentence, status

    def get_http_status_code(self) -> int:
        """Return the status of the answer."""
        return self._status

    def serialize_as_json(self) -> str:
        """Return the body of the answer."""
        code = "REQUEST_TOO_LARGE" if self._status == 413 else "TEMPORARILY_UNAVAILABLE"
        return json.dumps({"error_code": code, "message": self._sentence})


class ServedLimits:
    """The limits of one served model; all requests of the process share its pool of memory.

    Args:
        fingerprint: Of the scans that the model was trained on.

    Raises:
        ConfigError: An environment variable is no number of megabytes.
    """

    def __init__(self, fingerprint: Fingerprint) -> None:
        self.max_scan_bytes = asked_limit() or _scan_bytes(fingerprint)
        self.max_request_bytes = asked_limit(MAX_REQUEST_VARIABLE) or _request_bytes(fingerprint)
        self._pool = MemoryPool(_LARGEST_AT_ONCE * self.max_scan_bytes, wait_s=_WAIT_S)

    def budget(self) -> ReadingBudget:
        """Return the budget of one row, for `medres.data.readers.budget.reading_within`."""
        return ReadingBudget(max_scan_bytes=self.max_scan_bytes, pool=self._pool)


def limit_requests(max_bytes: int) -> None:
    """Let MLflow's scoring server, in this process, refuse larger bodies with status 413 before it parses them."""
    from mlflow.pyfunc import scoring_server

    known = getattr(scoring_server.invocations, "limited", None)
    original, most = known or (scoring_server.invocations, 0)
    scoring_server.invocations = _limited(original, max(most, max_bytes))


def _limited(original: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    @functools.wraps(original)
    def invocations(data: Any, *rest: Any, **more: Any) -> Any:
        if data is not None and len(data) > max_bytes:
            raise RefusedRequestError(
                f"The request has {len(data) / 2**20:,.0f} MB, the limit is {max_bytes / 2**20:,.0f} MB "
                f"({MAX_REQUEST_VARIABLE} at the server sets it).",
                status=413,
            )
        return original(data, *rest, **more)

    invocations.limited = (original, max_bytes)  # type: ignore[attr-defined]
    return invocations


def _scan_bytes(fingerprint: Fingerprint) -> int:
    if fingerprint.num_regions:
        return _WHOLE_BODY_BYTES
    return max(_LEAST_SCAN_BYTES, _MORE_THAN_TRAINING * _largest_bytes(fingerprint))


def _request_bytes(fingerprint: Fingerprint) -> int:
    sent = _WHOLE_BODY_BYTES // _PACKED_SHARE if fingerprint.num_regions else _largest_bytes(fingerprint)
    return max(_LEAST_REQUEST_BYTES, math.ceil(_BASE64 * sent))


def _largest_bytes(fingerprint: Fingerprint) -> int:
    """Return the bytes of the largest scan of the training, at most: all axes and types at their largest."""
    grids = [grid for grid in (fingerprint.images, fingerprint.volumes) if grid is not None]
    voxels = max(math.prod(int(axis.maximum) for axis in grid.size) for grid in grids)
    item_bytes = max(np.dtype(name).itemsize for name in fingerprint.dtypes)
    return voxels * item_bytes * max(map(int, fingerprint.num_channels))
