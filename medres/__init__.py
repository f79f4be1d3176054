"""medres: honest CT/MRI classifiers from pretrained 2D and 3D ResNets.

    run = medres.finetune("scans/", arch="resnet50")
    run.metrics["pooled"]["scores"]["auroc"]
    run.model.predict(["new_scan.nii.gz"])

Every name is loaded when it is first used: ``import medres`` loads neither torch nor MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medres._version import __version__
from medres.runs.host import importing_libraries

if TYPE_CHECKING:
    from medres.deployment.predictor import Predictor as Predictor
    from medres.finetuning.freezing import freeze_to as freeze_to
    from medres.models.factory import create_model as create_model
    from medres.planning.plan import Plan as Plan
    from medres.preprocessing.preprocessor import Preprocessor as Preprocessor
    from medres.reporting.result import Run as Run
    from medres.workflows.comparison import compare as compare
    from medres.workflows.finetuning import collect as collect
    from medres.workflows.finetuning import finetune as finetune
    from medres.workflows.finetuning import resume as resume
    from medres.workflows.inspection import inspect as inspect
    from medres.workflows.prediction import predict as predict
    from medres.workflows.previewing import preview as preview
    from medres.workflows.registry import register as register

_HOMES = {
    "Plan": "medres.planning.plan",
    "Predictor": "medres.deployment.predictor",
    "Preprocessor": "medres.preprocessing.preprocessor",
    "Run": "medres.reporting.result",
    "collect": "medres.workflows.finetuning",
    "compare": "medres.workflows.comparison",
    "create_model": "medres.models.factory",
    "finetune": "medres.workflows.finetuning",
    "freeze_to": "medres.finetuning.freezing",
    "inspect": "medres.workflows.inspection",
    "predict": "medres.workflows.prediction",
    "preview": "medres.workflows.previewing",
    "register": "medres.workflows.registry",
    "resume": "medres.workflows.finetuning",
}

__all__ = [
    "Plan",
    "Predictor",
    "Preprocessor",
    "Run",
    "__version__",
    "collect",
    "compare",
    "create_model",
    "finetune",
    "freeze_to",
    "inspect",
    "predict",
    "preview",
    "register",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medres' has no attribute {name!r}")
    with importing_libraries():
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
