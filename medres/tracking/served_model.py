"""`ServedModel`: a bundle behind MLflow's pyfunc interface and its HTTP server.

Whatever a client sends, the answer is a row: what cannot be predicted has null probabilities and says why in
``findings``, in sentences of this module. MLflow would put the text of an exception, the client's data and a stack
trace with paths into the HTTP answer.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medres.data.image import ScanImage
from medres.data.readers import read_scan, read_scan_bytes
from medres.deployment.manifest import BundleManifest
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor
from medres.errors import MedresError, UnreadableScanError
from medres.tracking.mlflow_api import ColSpec, ModelSignature, PythonModel, Schema

#: Folder below which a client may name files by `path`; without it, `path` is refused.
ROOT_VARIABLE = "MEDRES_SERVE_ROOT"

NEEDS_ONE = "Give either the column image (the bytes of a file) or the column path."
NO_PATHS = "This server takes no paths: send the bytes of the file in the column image."
BAD_PATH = "This path is not a readable file below the server's folder."
NOT_A_SCAN = "This is not a scan that can be read: it is damaged, or of a format that is not supported."
DOES_NOT_FIT = "This scan does not fit the model: its dimensions, channels or geometry are others than in training."
FAILED = "This scan could not be predicted."

_logger = logging.getLogger(__name__)


class _RefusedError(Exception):
    """A row that cannot be predicted, with the sentence for the client."""


class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """Predict rows of a table: column ``image`` (bytes of a NIfTI, PNG, JPEG or npz file) or column ``path``.

    The answer has the columns ``predicted``, ``prob_<class>``, ``decision`` and ``findings`` (empty, or sentences).
    """

    def load_context(self, context: Any) -> None:
        """Load the bundle and verify it, golden case included."""
        self._predictor = Predictor(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row a scan, in the order of the request."""
        del context, params
        rows = [_read_row(content, path) for content, path in _records(model_input)]
        images = [row for row in rows if isinstance(row, ScanImage)]
        predictions = iter(self._answers(images))
        answers = [next(predictions) if isinstance(row, ScanImage) else self._refusal(row) for row in rows]
        return pd.DataFrame(answers, columns=output_columns(self._predictor.classes), dtype=object)

    def _answers(self, images: Sequence[ScanImage]) -> list[dict[str, Any]]:
        try:
            predictions = self._predictor.predict_images(images)
        except Exception as error:  # the client must not see it, see above; the operator finds its kind in the log
            _logger.error("a request failed with %s", type(error).__name__)
            return [self._refusal(FAILED) for _ in images]
        return [self._answer(predictions, index) for index in range(len(images))]

    def _answer(self, predictions: Predictions, index: int) -> dict[str, Any]:
        if predictions.errors[index] is not None:
            return self._refusal(DOES_NOT_FIT)
        probabilities = predictions.probabilities[index]
        return {
            "predicted": predictions.predicted[index],
            **{f"prob_{name}": float(value) for name, value in zip(predictions.classes, probabilities, strict=True)},
            "decision": predictions.decision[index],
            "findings": " ".join(predictions.findings[index]),
        }

    def _refusal(self, finding: str) -> dict[str, Any]:
        return {**dict.fromkeys(output_columns(self._predictor.classes)), "findings": finding}


def output_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of an answer."""
    return ["predicted", *(f"prob_{name}" for name in classes), "decision", "findings"]


def model_signature(manifest: BundleManifest) -> ModelSignature:
    """Return the explicit signature of a bundle's served model."""
    inputs = [ColSpec("binary", "image", required=False), ColSpec("string", "path", required=False)]
    numbers = {f"prob_{name}" for name in manifest.classes}
    outputs = [
        ColSpec("double" if name in numbers else "string", name, required=False)
        for name in output_columns(manifest.classes)
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _records(model_input: pd.DataFrame) -> list[tuple[Any, Any]]:
    """Return (image, path) of each row; a column that is not there is empty."""
    columns = model_input.reindex(columns=["image", "path"])
    return list(columns.itertuples(index=False, name=None))


def _read_row(content: Any, path: Any) -> ScanImage | str:
    """Return the scan of a row, or the sentence that says why there is none."""
    has_content = isinstance(content, (bytes, bytearray, str)) and len(content) > 0
    has_path = isinstance(path, str) and path != ""
    if has_content == has_path:
        return NEEDS_ONE
    try:
        return read_scan_bytes(_file_bytes(content)) if has_content else read_scan(allowed_path(path))
    except _RefusedError as refusal:
        return str(refusal)
    except UnreadableScanError:
        return NOT_A_SCAN
    except MedresError:
        return FAILED
    except Exception as error:  # a decoder's surprise: the client must not see it, the operator finds its kind
        _logger.error("a scan could not be read: %s", type(error).__name__)
        return NOT_A_SCAN


def _file_bytes(content: bytes | str) -> bytes:
    """Undo base64 where MLflow left it: it does so for ``dataframe_split``, not for ``inputs`` and ``instances``."""
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:  # the bytes of a file: no format of scans consists of letters and digits alone
        return content if isinstance(content, bytes) else content.encode()


def allowed_path(path: str) -> Path:
    """Return the file that a client named, if it lies below ``$MEDRES_SERVE_ROOT`` after all links are followed.

    One sentence for all refusals: a client must not learn which files exist elsewhere.
    """
    root = os.environ.get(ROOT_VARIABLE)
    if not root:
        raise _RefusedError(NO_PATHS)
    try:
        base = Path(root).resolve(strict=True)
        file = (base / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise _RefusedError(BAD_PATH) from None
    if not file.is_relative_to(base) or not file.is_file():
        raise _RefusedError(BAD_PATH)
    return file
