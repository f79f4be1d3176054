"""Which MLflow experiment a run belongs to, and which of MLflow's own variables medres does not follow.

Nothing of MLflow is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

DEFAULT_EXPERIMENT = "medres"
ID_VARIABLE, NAME_VARIABLE = "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"


class Experiment(NamedTuple):
    """An experiment, by its name or by its id.

    Args:
        name: Its name; empty where only the id is known.
        experiment_id: Its id in the store; empty where it is found by its name, and made where it is missing.
    """

    name: str = ""
    experiment_id: str = ""


def choose_experiment(given: str | None = None, *, default: str = DEFAULT_EXPERIMENT) -> Experiment:
    """Return the experiment of the option, else of ``MLFLOW_EXPERIMENT_ID``, else ``_NAME``, else the default.

    Args:
        given: Name that the user gave.
        default: Name where nothing says otherwise.

    Example:
        >>> choose_experiment("nodules").name
        'nodules'
    """
    if given:
        return Experiment(name=given)
    if by_id := os.environ.get(ID_VARIABLE, "").strip():
        return Experiment(experiment_id=by_id)
    return Experiment(name=os.environ.get(NAME_VARIABLE, "").strip() or default)


#: Variables that users of MLflow set for their own training code, and why they change nothing here.
_NOT_FOLLOWED = {
    "MLFLOW_RUN_ID": "a run of medres is a run of its own in MLflow (--resume goes on with it)",
    "MLFLOW_RUN_NAME": "a run is named after its folder (--name)",
    "MLFLOW_PARENT_RUN_ID": "a run of medres is the parent of its folds, and has none itself",
    "MLFLOW_NESTED_RUN": "a run of medres is the parent of its folds, and has none itself",
    "MLFLOW_TAGS": "tags are set by medres alone",
    "MLFLOW_REGISTRY_URI": "models are registered where runs are tracked (--tracking-uri)",
    "MLFLOW_ARTIFACT_URI": "files lie where the experiment keeps them",
    "MLFLOW_ARTIFACT_ROOT": "files lie where the experiment keeps them",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "files lie where the experiment keeps them",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "the load of the machine is not recorded",
}


def variables_not_followed(uri: str) -> Iterator[str]:
    """Yield a sentence for each variable of MLflow that is set and changes nothing.

    Args:
        uri: Where runs are tracked.
    """
    for variable, why in _NOT_FOLLOWED.items():
        value = os.environ.get(variable, "").strip()
        if value and value.lower() != "false" and not (variable == "MLFLOW_REGISTRY_URI" and value == uri):
            yield f"{variable} is not followed: {why}"
