"""Number 13: a file that would run code when it is unpickled, or write elsewhere when it is unpacked, does neither."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medres.data.phantoms import write_phantoms
from medres.errors import MedresError
from medres.finetuning.checkpoints import Checkpoint
from medres.tracking.logged_model import save_model
from tests.deployment.tiny import Tiny
from tests.figures import RecordProperty
from tests.integration.conftest import ARCH, inside

Attack = Callable[[Path, Tiny, Any], str]


class Executed:
    """Makes a file when it is unpickled: as harmless as it is clear."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (str(self.mark), "w")


def _refused(*arguments: str | Path) -> str:
    """Return what a command says that must not work."""
    done = inside(*arguments)
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.stderr
    return done.stderr


def _finetune(folder: Path, *more: str | Path) -> str:
    scans = write_phantoms(folder / "scans", modality="MR", spatial_dims=2, num_scans=8, num_classes=2, size=32)
    return _refused(
        "finetune", "--data", scans, "--arch", ARCH, "--folds", "2", "--no-tracking", "--output", folder / "runs",
        *more,
    )  # fmt: skip


def _weights(name: str, *, legacy: bool = False) -> Attack:
    def attack(folder: Path, tiny: Tiny, evil: Any) -> str:
        content = {"state_dict": {"conv1.weight": torch.zeros(2), "more": evil}}
        torch.save(content, folder / name, _use_new_zipfile_serialization=not legacy)
        return _finetune(folder, "--weights", folder / name)

    return attack


def _pickled_weights(folder: Path, tiny: Tiny, evil: Any) -> str:
    (folder / "weights.pth").write_bytes(pickle.dumps(evil))
    return _finetune(folder, "--weights", folder / "weights.pth")


def _exported_program(folder: Path, tiny: Tiny, evil: Any) -> str:
    with zipfile.ZipFile(folder / "model.pt2", "w") as archive:
        for name in ("archive_format", "version"):
            archive.writestr(f"model/{name}", "pt2")
        for name in ("data/sample_inputs/model.pt", "data/weights/model.pt", "data.pkl"):
            archive.writestr(f"model/{name}", pickle.dumps(evil))
    return _finetune(folder, "--weights", folder / "model.pt2")


def _scan(name: str) -> Attack:
    def attack(folder: Path, tiny: Tiny, evil: Any) -> str:
        pickled = io.BytesIO()
        # the attack itself: medres must refuse the pickle that numpy writes here
        np.save(pickled, np.array([evil], dtype=object), allow_pickle=True)
        for label in "ab":
            (folder / "bad" / label).mkdir(parents=True)
            path = folder / "bad" / label / name
            path.write_bytes(pickled.getvalue())
            if name.endswith(".npz"):
                with zipfile.ZipFile(path, "w") as archive:
                    archive.writestr("image.npy", pickled.getvalue())
        return _refused("inspect", folder / "bad") + str(_predict(tiny.bundle, folder / "bad" / "a" / name))

    return attack


def _predict(model: Path, scan: Path) -> str:
    done = inside("predict", model, scan, "-o", model.parent / "predictions.csv")
    assert done.exit_code == 1, done.output
    return done.stderr


def _checkpoint(folder: Path, tiny: Tiny, evil: Any) -> str:
    torch.save(evil, folder / "last.ckpt")
    with pytest.raises(MedresError) as refused:
        Checkpoint.read(folder / "last.ckpt")
    return str(refused.value)


def _copy(tiny: Tiny, folder: Path) -> Path:
    return Path(shutil.copytree(tiny.bundle, folder / "model"))


def _member_of_bundle(folder: Path, tiny: Tiny, evil: Any) -> str:
    bundle = _copy(tiny, folder)
    (bundle / "member_0.safetensors").write_bytes(pickle.dumps(evil))
    return _predict(bundle, tiny.table.scans[0].path)


def _plan_of_bundle(folder: Path, tiny: Tiny, evil: Any) -> str:
    bundle = _copy(tiny, folder)
    (bundle / "plan.yaml").write_text(f"!!python/object/apply:builtins.open ['{evil.mark}', 'w']\n")
    return _predict(bundle, tiny.table.scans[0].path)


def _names_of_bundle(folder: Path, tiny: Tiny, evil: Any) -> str:
    """A manifest whose names lead out of the bundle: what unpacking it would write or read elsewhere."""
    bundle = _copy(tiny, folder)
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"][f"../{evil.mark.name}"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    return _predict(bundle, tiny.table.scans[0].path)


def _zip_with_names_that_lead_out(folder: Path, tiny: Tiny, evil: Any) -> str:
    path = folder / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (f"../{evil.mark.name}", str(evil.mark), f"a/../../{evil.mark.name}"):
            archive.writestr(name, "written by a zip")
    return _predict(tiny.bundle, path)


def _python_model(folder: Path, tiny: Tiny, evil: Any) -> str:
    """A model in MLflow's format whose entry was replaced by a pickle and by code."""
    model = folder / "logged" / "model"
    save_model(tiny.bundle, model)
    (model / "python_model.pkl").write_bytes(pickle.dumps(evil))
    described = yaml.safe_load((model / "MLmodel").read_text())
    described["flavors"]["python_function"]["python_model"] = "python_model.pkl"
    described["flavors"]["python_function"].pop("model_code_path")
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    member = model / "artifacts" / "bundle" / "member_0.safetensors"
    member.unlink()  # it is a link: the bundle that all tests share must not change
    member.write_bytes(pickle.dumps(evil))
    return _predict(model / "artifacts" / "bundle", tiny.table.scans[0].path) + _predict(
        model, tiny.table.scans[0].path
    )


def _yaml(option: str) -> Attack:
    def attack(folder: Path, tiny: Tiny, evil: Any) -> str:
        path = folder / "file.yaml"
        path.write_text(f"seed: !!python/object/apply:builtins.open ['{evil.mark}', 'w']\n")
        return _finetune(folder, "--weights", "none", option, path)

    return attack


ATTACKS: dict[str, Attack] = {
    ".pt": _weights("weights.pt"),
    ".pt of the old format": _weights("weights.pt", legacy=True),
    ".ckpt": _weights("weights.ckpt"),
    ".pth that is a pickle": _pickled_weights,
    ".pt2": _exported_program,
    ".npy": _scan("scan.npy"),
    ".npz": _scan("scan.npz"),
    "last.ckpt": _checkpoint,
    "member of a bundle": _member_of_bundle,
    "plan of a bundle": _plan_of_bundle,
    "names of a bundle": _names_of_bundle,
    "names in a zip": _zip_with_names_that_lead_out,
    "pyfunc pickle": _python_model,
    "config.yaml": _yaml("--config"),
    "plan.yaml": _yaml("--plan"),
    "recipe.yaml": _yaml("--recipe"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTACKS)
def test_nothing_is_executed_and_nothing_written_elsewhere(
    kind: str, tmp_path: Path, tiny: Tiny, record_property: RecordProperty
) -> None:
    mark = tmp_path / "executed"
    folder = tmp_path / "work"
    folder.mkdir()
    assert ATTACKS[kind](folder, tiny, Executed(mark)).strip()
    executed = [path.name for path in tmp_path.rglob("executed")]
    assert executed == []
    record_property("figure", f"{len(ATTACKS)} kinds of file, each refused without being executed")


def test_the_attack_would_be_seen(tmp_path: Path) -> None:
    # on purpose, and of no file: the attacks above prove nothing unless unpickling this object does leave its mark
    pickle.loads(pickle.dumps(Executed(tmp_path / "executed"))).close()
    assert (tmp_path / "executed").exists()
