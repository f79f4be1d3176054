"""The verbs, wiring and nothing else; the command line has them under the same names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from medres.runs.host import importing_libraries

_HOMES = {
    "finetune": "medres.workflows.finetuning",
    "run_finetune": "medres.workflows.finetuning",
    "check_places": "medres.workflows.preflight",
    "run_fold": "medres.workflows.finetuning",
    "resume": "medres.workflows.finetuning",
    "together": "medres.workflows.processes",
    "leave_together": "medres.workflows.processes",
    "collect": "medres.workflows.finetuning",
    "predict": "medres.workflows.prediction",
    "run_predict": "medres.workflows.prediction",
    "load_predictor": "medres.workflows.prediction",
    "compare": "medres.workflows.comparison",
    "parse_groups": "medres.workflows.comparison",
    "register": "medres.workflows.registry",
    "track_sync": "medres.workflows.registry",
    "inspect": "medres.workflows.inspection",
    "run_inspect": "medres.workflows.inspection",
    "preview": "medres.workflows.previewing",
    "run_preview": "medres.workflows.previewing",
    "fetch_weights": "medres.workflows.weights",
    "archs": "medres.workflows.catalogue",
    "parse_shape": "medres.workflows.catalogue",
    "phantoms": "medres.workflows.catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with importing_libraries():
        return getattr(import_module(_HOMES[name]), name)
