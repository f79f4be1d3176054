"""Paths that no file system takes: one sentence for each argument and key that is a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medres import cli
from medres.config import FinetuneConfig
from medres.errors import ConfigError

LONG = "x" * 300
PATHS = [name for name, field in FinetuneConfig.model_fields.items() if "Path" in str(field.annotation)]


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize("path", [LONG, f"a/{LONG}/b.csv", "ä" * 128])
def test_of_the_configuration(key: str, path: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: no file system takes a name of more than 255 bytes") as caught:
        FinetuneConfig.build(**{"data": Path("scans"), "arch": "resnet18", key: Path(path)})
    assert len(str(caught.value)) < 250


def test_the_paths_of_the_configuration_are_walked() -> None:
    assert {"data", "labels", "output", "plan", "cache_dir", "weights_dir"} <= set(PATHS)


ARGUMENTS = {
    "resume": ["finetune", "--resume", LONG], "sync": ["track", "sync", LONG], "collect": ["collect", LONG],
    "inspect": ["inspect", LONG], "compare": ["compare", LONG, LONG], "report": ["inspect", ".", "--labels", LONG],
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_on_the_command_line(case: str) -> None:
    done = CliRunner().invoke(cli.app, ARGUMENTS[case])
    assert done.exit_code in (1, 2)
    assert "did not expect" not in done.output
    assert "\n" not in done.output.strip()
