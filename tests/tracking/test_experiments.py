from __future__ import annotations

import pytest

from medres.tracking.experiments import Experiment, choose_experiment, variables_not_followed


def test_the_option_goes_before_the_id_before_the_name_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_experiment() == Experiment(name="medres")
    assert choose_experiment(default="of the run") == Experiment(name="of the run")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert choose_experiment(default="of the run") == Experiment(name="theirs")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    assert choose_experiment() == Experiment(experiment_id="7")
    assert choose_experiment("asked") == Experiment(name="asked")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # set and empty is not set
    assert choose_experiment() == Experiment(name="theirs")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MLFLOW_RUN_ID", "abc", "--resume"), ("MLFLOW_RUN_NAME", "x", "--name"),
        ("MLFLOW_REGISTRY_URI", "http://elsewhere", "--tracking-uri"),
        ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true", "not recorded"),
    ],
)  # fmt: skip
def test_variables_that_change_nothing_are_said(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(variables_not_followed("http://here")) == []
    monkeypatch.setenv(variable, value)
    (note,) = variables_not_followed("http://here")
    assert note.startswith(f"{variable} is not followed")
    assert said in note


def test_a_registry_that_is_the_store_itself_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://here")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    assert list(variables_not_followed("http://here")) == []
