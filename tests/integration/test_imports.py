"""The layers hold, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import medres
from tests.figures import RecordProperty

HEAVY = ("torch", "monai", "timm", "mlflow", "sklearn", "pandas", "scipy", "matplotlib", "lightning_fabric", "nibabel")
ROOT = Path(__file__).parents[2]
LIGHT = [
    "medres",
    "medres.errors",
    "medres.config",
    "medres.cli",
    "medres.workflows",
    "medres.finetuning.stages",
    "medres.finetuning.recipes",
    "medres.planning.plan",
    *(f"medres.{module.name}" for module in pkgutil.iter_modules(medres.__path__) if module.ispkg),
    *(f"medres.runs.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "medres" / "runs")])),
]


def _loaded(code: str) -> set[str]:
    check = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_the_light_modules_are_walked() -> None:
    assert len(LIGHT) >= 20


def test_light_modules_load_nothing_heavy() -> None:
    assert _loaded("import importlib\nfor name in " + repr(LIGHT) + ": importlib.import_module(name)") == set()


def test_help_loads_nothing_heavy(record_property: RecordProperty) -> None:
    code = (
        "import contextlib, io, sys\n"
        "sys.argv = ['medres', '--help']\n"
        "from medres.__main__ import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
    )
    loaded = _loaded(code)
    record_property("figure", f"{len(loaded)} of {len(HEAVY)} heavy modules loaded")
    assert loaded == set()


def test_every_public_name_exists() -> None:
    for name in medres.__all__:
        assert getattr(medres, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fintune'"):
        medres.fintune  # noqa: B018


def test_the_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout
