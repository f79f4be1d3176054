"""The parts of MLflow that medres uses, imported in this one place so that telemetry is off before."""

from __future__ import annotations

from medres.runs.host import importing_libraries
from medres.tracking.settings import mlflow_settings

with mlflow_settings(), importing_libraries():
    import mlflow.artifacts
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
    from mlflow.entities import Experiment as MlflowExperiment
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, ModelSignature
    from mlflow.protos.databricks_pb2 import BAD_REQUEST
    from mlflow.pyfunc import PythonModel
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

__all__ = [
    "BAD_REQUEST", "CodeDatasetSource", "ColSpec", "Dataset", "DatasetInput", "InputTag", "Metric", "MlflowClient",
    "MlflowException", "MlflowExperiment", "Model", "ModelSignature", "ModelVersion", "Param", "ParamSchema",
    "ParamSpec", "PythonModel", "Run", "RunTag", "Schema", "mlflow",
]  # fmt: skip
