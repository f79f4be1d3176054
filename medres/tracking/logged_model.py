"""A bundle as a folder in MLflow's model format: models from code and safetensors, without pickle or local paths."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from medres.deployment.integrity import link_or_copy, read_manifest
from medres.deployment.manifest import MANIFEST, PLAN, BundleManifest
from medres.planning.plan import Plan
from medres.runs.host_warnings import ignored_warnings
from medres.tracking.mlflow_api import Model, mlflow
from medres.tracking.served_model import model_signature

#: Where the bundle lies inside the model.
BUNDLE_PATH = "artifacts/bundle"
_ENTRY = Path(__file__).with_name("served_entry.py")
#: What a prediction passes through; the versions are part of the result.
_PACKAGES = ("medres", "mlflow", "torch", "torchvision", "timm", "monai", "numpy", "scipy", "nibabel", "pydicom",
             "isal", "pillow", "safetensors", "pandas", "pydantic")  # fmt: skip


def save_model(bundle: Path, folder: Path, *, model_id: str | None = None, run_id: str | None = None) -> None:
    """Write a bundle as an MLflow model.

    The weights are linked, not copied: MLflow itself would copy them through the system's temporary folder.

    Args:
        bundle: The bundle.
        folder: The model, which must not exist; on the same disk as the bundle.
        model_id: Id of the logged model that it will be.
        run_id: The run that it comes from.
    """
    manifest = read_manifest(bundle)
    stand_in = folder.parent / "bundle"
    stand_in.mkdir(parents=True)
    link_or_copy(bundle / MANIFEST, stand_in / MANIFEST)
    # no input example on purpose: MLflow would store it in clear, and a real scan is a patient's
    with ignored_warnings(UserWarning, message=".*input example"):
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(_ENTRY),
            artifacts={"bundle": str(stand_in)},
            signature=model_signature(manifest, Plan.read(bundle / PLAN).reading),
            pip_requirements=requirements(),
            metadata={"medres_format": manifest.format},
        )
    for name in manifest.files:
        link_or_copy(bundle / name, folder / BUNDLE_PATH / name)
    _make_neutral(folder, model_id=model_id, run_id=run_id)


def requirements() -> list[str]:
    """Return the exact versions of the packages that a prediction depends on."""
    # the local part (+cu132) names a build that is not in the public index
    return [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]


def model_params(manifest: BundleManifest) -> dict[str, str]:
    """Return what the model is, for MLflow's model page."""
    return {
        "arch": manifest.arch,
        "spatial_dims": str(manifest.spatial_dims),
        "modality": manifest.modality,
        "classes": ", ".join(manifest.classes),
        "members": str(len(manifest.members)),
        "weights": manifest.weights_source,
        "training_scans": str(manifest.num_training_scans),
    }


def _make_neutral(folder: Path, *, model_id: str | None, run_id: str | None) -> None:
    """Take the paths of this machine out of ``MLmodel``; MLflow reads only their last part."""
    model = Model.load(str(folder))
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = _ENTRY.name
    flavor["artifacts"]["bundle"]["uri"] = BUNDLE_PATH
    model.model_id, model.run_id = model_id, run_id
    model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    model.save(str(folder / "MLmodel"))
