"""The code of a logged model (MLflow's "models from code"): no pickle, and nothing but a reference to medres."""

from mlflow.models import set_model

from medres.runs.host import importing_libraries

with importing_libraries():
    from medres.tracking.served_model import ServedModel

set_model(ServedModel())
