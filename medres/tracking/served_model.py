"""`ServedModel`: a bundle behind MLflow's pyfunc interface and its HTTP server.

Whatever a client sends, the answer is a row: what cannot be predicted has null probabilities and says why in
``findings``, in sentences of this module. MLflow would put the text of an exception, the client's data and a stack
trace with paths into the HTTP answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medres.data.image import ScanImage
from medres.data.readers.rules import ReadingRules
from medres.deployment.manifest import BundleManifest
from medres.deployment.predictions import Predictions
from medres.deployment.predictor import Predictor
from medres.errors import UsageError
from medres.tracking.mlflow_api import ColSpec, ModelSignature, ParamSchema, ParamSpec, PythonModel, Schema
from medres.tracking.served_inputs import FAILED, input_columns, input_schema, read_row

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
        """Load the bundle and verify it, golden case included."""
        self._predictor = Predictor(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row a scan, in the order of the request; ``params`` may hold ``on_mismatch``."""
        del context
        rules = self._predictor.bundle.plan.reading
        # a column that is not there is empty
        records = model_input.reindex(columns=list(input_columns(rules))).to_dict("records")
        rows = [read_row({str(name): value for name, value in record.items()}, rules) for record in records]
        images = [row for row in rows if isinstance(row, ScanImage)]
        predictions = iter(self._answers(images, (params or {}).get("on_mismatch", "withhold")))
        answers = [next(predictions) if isinstance(row, ScanImage) else self._refusal(row) for row in rows]
        return pd.DataFrame(answers, columns=output_columns(self._predictor.classes), dtype=object)

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
