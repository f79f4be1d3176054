"""`ServedModel`: a bundle behind MLflow's pyfunc interface and its HTTP server.

Whatever a client sends, the answer is a row: what cannot be predicted has null probabilities and says why in
``findings``, in sentences of this module. MLflow would put the text of an exception, the client's data and a stack
trace with paths into the HTTP answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medres.data.image import ScanImage
from medres.data.readers.budget import reading_within
from medres.data.readers.rules import ReadingRules
from medres.deployment.manifest import BundleManifest
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor
from medres.errors import UsageError
from medres.runs.host import independent_of_host
from medres.tracking.mlflow_api import ColSpec, ModelSignature, ParamSchema, ParamSpec, PythonModel, Schema
from medres.tracking.sent_rows import keep_rows, rows_of_table, unknown_columns
from medres.tracking.served_inputs import FAILED, input_columns, input_schema, read_row
from medres.tracking.served_limits import BUSY, RefusedRequestError, ServedLimits, limit_requests

DOES_NOT_FIT = "This scan does not fit the model: its dimensions, channels or geometry are others than in training."
UNLIKE = "This scan was refused: it is unlike those that the model was trained on."
BAD_POLICY = "The parameter on_mismatch is none of warn, withhold and refuse."

_logger = logging.getLogger(__name__)


class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """Predict rows of a table: column ``image`` (the bytes of a file, or of a zipped DICOM series) or column ``path``.

    Models of several sequences or of a region of interest take more columns: `medres.tracking.served_inputs`.
    The answer has the columns ``predicted``, ``prob_<class>``, ``decision`` and ``findings`` (empty, or sentences). The
    parameter ``on_mismatch`` says what is done about a scan unlike those of training: by default ``withhold``.
    """

    def load_context(self, context: Any) -> None:
        """Load the bundle and verify it, golden case included; requests then keep their rows (`sent_rows`)."""
        keep_rows()
        self._predictor = Predictor(Path(context.artifacts["bundle"]))
        self._limits = ServedLimits(self._predictor.bundle.fingerprint)
        limit_requests(self._limits.max_request_bytes)

    @independent_of_host()
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row for each row of the request, in its order; ``params`` may hold ``on_mismatch``.

        Raises:
            RequestError: Nothing that was sent is a column of the model, and MLflow kept no row.
            RefusedRequestError: Other requests hold the memory for scans.
        """
        del context
        policy = (params or {}).get("on_mismatch", "withhold")
        rules = self._predictor.bundle.plan.reading
        columns = list(input_columns(rules))
        sent = rows_of_table(model_input, columns)
        answers = [_with_finding(self._answered(row, rules, policy), unknown_columns(row, columns)) for row in sent]
        return pd.DataFrame(answers, columns=output_columns(self._predictor.classes), dtype=object)

    def _answered(self, row: Mapping[str, Any], rules: ReadingRules, on_mismatch: str) -> dict[str, Any]:
        """Read and predict one row: what it holds in memory is given back before the next one is read."""
        with reading_within(self._limits.budget()) as budget:
            image = read_row(row, rules)
            if budget.was_busy:
                raise RefusedRequestError(BUSY, status=503)
            return self._answers([image], on_mismatch)[0] if isinstance(image, ScanImage) else self._refusal(image)

    def _answers(self, images: Sequence[ScanImage], on_mismatch: str) -> list[dict[str, Any]]:
        try:
            predictions = self._predictor.with_policy(on_mismatch).predict_images(images)
        except UsageError:
            return [self._refusal(BAD_POLICY) for _ in images]
        except Exception as error:  # the client must not see it, see above; the operator finds its kind in the log
            _logger.error("a request failed with %s", type(error).__name__)
            return [self._refusal(FAILED) for _ in images]
        return [self._answer(predictions, index) for index in range(len(images))]

    def _answer(self, predictions: Predictions, index: int) -> dict[str, Any]:
        error = predictions.errors[index]
        if error is not None:
            known = [finding for finding in predictions.findings[index] if str(error) not in finding]
            return self._refusal(" ".join([UNLIKE if predictions.withheld[index] else DOES_NOT_FIT, *known]))
        probabilities = predictions.probabilities[index]
        return {
            "predicted": predictions.predicted[index],
            **{f"prob_{name}": float(value) for name, value in zip(predictions.classes, probabilities, strict=True)},
            "decision": predictions.decision[index],
            "findings": " ".join(predictions.findings[index]),
        }

    def _refusal(self, finding: str) -> dict[str, Any]:
        return {**dict.fromkeys(output_columns(self._predictor.classes)), "findings": finding}


def _with_finding(answer: dict[str, Any], finding: str) -> dict[str, Any]:
    return {**answer, "findings": f"{answer['findings']} {finding}".strip()}


def output_columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of an answer."""
    return ["predicted", *(f"prob_{name}" for name in classes), "decision", "findings"]


def model_signature(manifest: BundleManifest, reading: ReadingRules) -> ModelSignature:
    """Return the explicit signature of a bundle's served model; ``reading`` is that of its plan."""
    numbers = {f"prob_{name}" for name in manifest.classes}
    outputs = [
        ColSpec("double" if name in numbers else "string", name, required=False)
        for name in output_columns(manifest.classes)
    ]
    policy = ParamSpec("on_mismatch", "string", "withhold")
    return ModelSignature(inputs=input_schema(reading), outputs=Schema(outputs), params=ParamSchema([policy]))
