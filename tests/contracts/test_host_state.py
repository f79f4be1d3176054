"""The law of the host's state: whatever state the program around it is in, a job gives the numbers that it gives alone.

And what belongs to the host is afterwards as it was before.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medres
from medres.data.phantoms import write_phantoms
from medres.data.readers import read_scan
from medres.deployment.predictor import Predictor
from tests.deployment.tiny import Tiny, make_tiny
from tests.hosts import STATES, all_at_once, state_of_host

ARCH = "test_resnet"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"), "images 2D")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_phantoms(folder, modality="MR", spatial_dims=2, num_scans=10, size=32, seed=1)
    return folder


def _predict(tiny: Tiny, scans: Path, place: Path) -> Any:
    found = Predictor(tiny.bundle).predict([scan.path for scan in tiny.table])
    return found.logits.tolist(), found.probabilities.tolist(), found.findings


def _prepare(tiny: Tiny, scans: Path, place: Path) -> Any:
    preprocessor = medres.Preprocessor(tiny.plan)
    stored = [preprocessor.prepare(read_scan(scan.path))[0] for scan in tiny.table]
    return preprocessor.inputs(stored, device=torch.device("cpu")).scans.numpy()


def _predict_images(tiny: Tiny, scans: Path, place: Path) -> Any:
    return Predictor(tiny.bundle).predict_images([read_scan(scan.path) for scan in tiny.table]).logits.tolist()


def _serve(tiny: Tiny, scans: Path, place: Path) -> Any:
    import pandas as pd

    from medres.tracking.served_model import ServedModel

    class Context:
        artifacts = {"bundle": str(tiny.bundle)}  # noqa: RUF012

    served = ServedModel()
    served.load_context(Context())
    return served.predict(None, pd.DataFrame({"image": [scan.path.read_bytes() for scan in tiny.table]})).to_dict()


def _inspect(tiny: Tiny, scans: Path, place: Path) -> Any:
    found = medres.inspect(scans).summary()
    return found, [str(path) for path in place.iterdir()]


def _finetune(tiny: Tiny, scans: Path, place: Path) -> Any:
    run = medres.finetune(
        scans, arch=ARCH, weights="none", epochs=1, folds=2, output=place, name="run", tracking=False,
        optimisation={"dropout": 0.3, "drop_path": 0.2},
    )  # fmt: skip
    return run.metrics["pooled"], (run.path / "fold_0" / "model.safetensors").read_bytes()


def _preview(tiny: Tiny, scans: Path, place: Path) -> Any:
    preview = medres.preview(scans, arch=ARCH, weights="none")
    return [[view.numbers for view in scan.views] for scan in preview.scans]


DOORS: dict[str, Callable[[Tiny, Path, Path], Any]] = {
    "prepare": _prepare, "predict": _predict, "predict_images": _predict_images, "serve": _serve, "inspect": _inspect,
    "preview": _preview, "finetune": _finetune,
}  # fmt: skip
SLOW = ("preview", "finetune")


@pytest.fixture(scope="module")
def alone(tiny: Tiny, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def answer(door: str) -> Any:
        if door not in known:
            known[door] = DOORS[door](tiny, scans, tmp_path_factory.mktemp("alone"))
        return known[door]

    return answer


def _assert_independent(door: str, state: Callable[[], Any], alone: Any, tiny: Tiny, scans: Path, place: Path) -> None:
    expected = alone(door)
    with state():
        before = state_of_host()
        found = DOORS[door](tiny, scans, place)
        after = state_of_host()
    for name, value in before.items():
        assert after[name] == value, f"{name} is not as it was"
    np.testing.assert_equal(found, expected)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("door", [door for door in DOORS if door not in SLOW])
def test_no_state_of_the_host_changes_an_answer(
    door: str, state: str, alone: Any, tiny: Tiny, scans: Path, tmp_path: Path
) -> None:
    _assert_independent(door, STATES[state], alone, tiny, scans, tmp_path)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("door", SLOW)
def test_all_states_together_change_no_run(door: str, alone: Any, tiny: Tiny, scans: Path, tmp_path: Path) -> None:
    _assert_independent(door, all_at_once, alone, tiny, scans, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("state", STATES)
def test_no_state_of_the_host_changes_a_run(state: str, alone: Any, tiny: Tiny, scans: Path, tmp_path: Path) -> None:
    _assert_independent("finetune", STATES[state], alone, tiny, scans, tmp_path)


def test_importing_leaves_no_trace_in_a_fresh_process() -> None:
    script = (
        "import random, warnings, logging; import numpy as np; random.seed(5)\n"
        "def state(): return random.getstate(), str(np.random.get_state()), logging.root.level, "
        "logging.root.handlers[:], "
        "[one for one in warnings.filters if 'PIL' in str(one) or 'medres' in str(one)]\n"
        "before = state(); import medres; medres.inspect; medres.finetune; medres.predict; medres.register\n"
        "assert state() == before, (before, state())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
