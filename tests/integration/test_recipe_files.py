"""Every file in configs/ and pipelines/, and every command of the tutorial, runs as it stands (on small phantoms)."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from medres.config import FinetuneConfig
from medres.data.phantoms import write_phantoms
from medres.errors import WeightsError
from medres.runs.progress import Silent
from medres.workflows.finetuning import run_finetune
from tests.integration.conftest import ARCH, inside

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PIPELINES = sorted((ROOT / "pipelines").glob("*.py"))
TUTORIAL = (ROOT / "docs" / "tutorials" / "first-classifier.md").read_text()
#: What makes a command of the documentation small enough for a test, appended to it.
SMALLER = {
    "phantoms": "--scans 12 --size 24",
    "finetune": "--folds 2 --epochs 1 --recipe linear-probe --no-tracking",
}


def test_every_recipe_file_and_program_is_walked() -> None:
    assert len(CONFIGS) >= 3
    assert len(PIPELINES) >= 1
    tested = {"ct-3d.yaml", "mri-2d.yaml", "cpu-linear-probe.yaml"}
    assert {path.name for path in CONFIGS} == tested


@pytest.mark.parametrize(
    ("name", "spatial_dims", "arch"), [("ct-3d", 3, "resnet10"), ("mri-2d", 2, ARCH), ("cpu-linear-probe", 2, ARCH)]
)
def test_a_recipe_file_runs(name: str, spatial_dims: int, arch: str, tmp_path: Path) -> None:
    modality = "CT" if spatial_dims == 3 else "MR"
    write_phantoms(tmp_path / "scans", modality=modality, spatial_dims=spatial_dims, num_scans=8, size=24)  # type: ignore[arg-type]
    config = FinetuneConfig.build(
        file=ROOT / "configs" / f"{name}.yaml", data=tmp_path / "scans", arch=arch, weights="none", folds=2, epochs=1,
        output=tmp_path / "runs", name="x", tracking=False,
    )  # fmt: skip
    run = run_finetune(config, progress=Silent())
    assert run.metrics["pooled"]["scores"]["auroc"]["value"] is not None
    if name == "ct-3d":
        assert run.plan.in_channels == 3


def test_the_pipeline_registers_a_model(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ROOT / "pipelines" / "finetune_and_register.py"
    assert len(program.read_text().splitlines()) <= 80
    line = [str(program), str(phantoms), "--arch", ARCH, "--weights", "none", "--name", "phantoms", "--epochs", "1",
            "--output", str(tmp_path)]  # fmt: skip
    for least, code, said in [("0", 0, "registered models:/phantoms@candidate"), ("1.1", 1, "not registered")]:
        monkeypatch.setattr(sys, "argv", [*line, "--least-auroc", least])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(program), run_name="__main__")
        assert ended.value.code == code
        assert said in capsys.readouterr().out


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines() if line.startswith("medres ")]


def test_the_commands_and_the_snippet_of_the_tutorial_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    commands = _commands(TUTORIAL)
    kinds = ["phantoms", "finetune", "phantoms", "predict", "predict", "register"]
    assert [command.split()[1] for command in commands] == kinds
    for command in commands:
        line = shlex.split(command)[1:] + shlex.split(SMALLER.get(command.split()[1], ""))
        done = inside(*line)
        assert done.exit_code == 0, f"{command}\n{done.output}"
    assert "training" in (tmp_path / "demo" / "known.csv").read_text()
    snippet = re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    assert len(snippet) == 1
    capsys.readouterr()
    exec(compile(snippet[0], "snippet", "exec"), {})  # a page of this project, as its reader runs it
    assert capsys.readouterr().out.startswith("AUROC ")


def test_the_tutorial_has_the_commands_of_make_demo() -> None:
    makefile = (ROOT / "Makefile").read_text()
    target = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert target
    typed = target[1].replace("$(DEMO)", "demo").replace("$(BIN)/", "")
    made = [line.strip() for line in typed.splitlines() if line.strip().startswith("medres ")]
    assert len(made) == 2
    assert _commands(TUTORIAL)[:2] == made


@pytest.mark.parametrize(
    "page", ["README.md", "docs/tutorials/first-classifier.md", "docs/how-to/register-and-serve.md"]
)
def test_where_a_model_is_served_its_registry_and_the_environment_are_said(page: str) -> None:
    lines = [line.strip() for line in (ROOT / page).read_text().splitlines()]
    served = [number for number, line in enumerate(lines) if line.startswith("mlflow models serve")]
    assert served
    for number in served:
        assert lines[number - 1].startswith("export MLFLOW_TRACKING_URI=sqlite:///")
        assert "PATH=$PWD/.venv/bin:$PATH" in lines[number - 1]


def test_without_internet_the_page_on_weights_is_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MEDRES_WEIGHTS_DIR", raising=False)
    write_phantoms(tmp_path / "scans", spatial_dims=2, num_scans=8, size=24)
    config = FinetuneConfig.build(
        data=tmp_path / "scans", arch="resnet50", folds=2, output=tmp_path / "runs", name="x", tracking=False
    )
    with pytest.raises(WeightsError, match=r"resnet50.*MEDRES_WEIGHTS_DIR.*--weights none"):
        run_finetune(config, progress=Silent())
    assert not (tmp_path / "runs" / "x").exists()
