"""The MLflow mirror of the event log, its replay, the model registry and the served model."""
