"""Bundles in MLflow: logged as a model, registered under a name with an alias, fetched again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from medres.deployment.integrity import read_manifest
from medres.deployment.manifest import MANIFEST
from medres.errors import TrackingError
from medres.runs.atomic import PART_PREFIX, explained_os_errors
from medres.tracking.logged_model import BUNDLE_PATH, model_params, save_model
from medres.tracking.lookup import location_of
from medres.tracking.mlflow_api import MlflowClient, MlflowException, ModelVersion, mlflow
from medres.tracking.names import DEFAULT_ALIAS, check_names
from medres.tracking.settings import mlflow_settings, patient_requests
from medres.tracking.store import explained, open_client

__all__ = [
    "DEFAULT_ALIAS", "RegisteredVersion", "check_names", "fetch_model", "is_model_uri", "log_bundle", "register_bundle",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A version in the model registry.

    Args:
        name: Name of the registered model.
        version: Number of the version.
        alias: The alias that points to it.
        model_id: The logged model behind it.
    """

    name: str
    version: int
    alias: str
    model_id: str

    @property
    def uri(self) -> str:
        """What to give to ``medres predict``."""
        return f"models:/{self.name}@{self.alias}"


def log_bundle(
    client: MlflowClient,
    bundle: Path,
    *,
    experiment_id: str,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Upload a bundle as a logged model and return its id.

    Args:
        client: Of the store.
        bundle: The bundle.
        experiment_id: Where the model goes.
        run_id: The run that it comes from.
        tags: Of the model.

    Raises:
        BundleError: It is none.
        MlflowException: The store refuses or does not answer; the model is then marked as failed.
    """
    manifest = read_manifest(bundle)
    with mlflow_settings(), patient_requests():
        model = client.create_logged_model(
            experiment_id,
            name=f"medres-{manifest.arch}",
            source_run_id=run_id,
            params=model_params(manifest),
            tags={"medres.version": manifest.medres_version, "medres.seal": manifest.seal, **(tags or {})},
            model_type="classifier",
        )
        try:
            _upload(client, bundle, model_id=model.model_id, run_id=run_id)
        except Exception:
            with suppress(MlflowException):  # the first failure is the one to tell
                client.finalize_logged_model(model.model_id, "FAILED")
            raise
        client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)


def register_bundle(
    client: MlflowClient,
    bundle: Path,
    *,
    name: str,
    experiment_id: str,
    run_id: str | None = None,
    model_id: str | None = None,
    alias: str = DEFAULT_ALIAS,
) -> RegisteredVersion:
    """Make a version of the registered model ``name`` and let the alias point to it.

    Args:
        client: Of the store.
        bundle: The bundle.
        name: Name in the registry; made where it is new.
        experiment_id: Where the model is logged if it is not yet.
        run_id: The run that it comes from.
        model_id: The logged model, if the bundle was logged already (`MirrorSummary.model_id`).
        alias: Alias of the version.

    Raises:
        TrackingError: The name or the alias is unusable, or the store refuses or does not answer.
        BundleError: It is no bundle.
    """
    check_names(name, alias)
    with mlflow_settings(), patient_requests(), explained(client.tracking_uri):
        if model_id is None:
            model_id = log_bundle(client, bundle, experiment_id=experiment_id, run_id=run_id)
        _make_registered_model(client, name)
        made = _make_version(client, name, model_id)
        client.set_registered_model_alias(name, alias, made.version)
        return RegisteredVersion(name=name, version=int(made.version), alias=alias, model_id=model_id)


def is_model_uri(model: str) -> bool:
    """Return whether a MODEL argument is an address in MLflow, not a folder."""
    return model.startswith(("models:/", "runs:/"))


def fetch_model(uri: str, *, tracking_uri: str, cache: Path) -> Path:
    """Return the bundle behind an address in MLflow; where it is not on this machine, it is downloaded once.

    Nothing of it is executed, and `medres.deployment.bundle.load_bundle` still proves that it is whole.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-<id>`` or ``runs:/RUN_ID``.
        tracking_uri: Resolved address of the store.
        cache: Folder that downloads are kept in.

    Raises:
        TrackingError: There is no such model, it is no model of medres, or the store does not answer.
        OutputError: The cache cannot be written.
    """
    client = open_client(tracking_uri, make=False)
    with mlflow_settings(), patient_requests(), explained(tracking_uri):
        location = f"{location_of(client, uri)}/{BUNDLE_PATH}"
        folder = _local_folder(location) or _download(location, tracking_uri, cache)
    if not (folder / MANIFEST).is_file():
        raise TrackingError(f"{uri} was not logged by medres.", fix="Give a model that medres registered.")
    return folder


def _upload(client: MlflowClient, bundle: Path, *, model_id: str, run_id: str | None) -> None:
    # beside the bundle: the weights can be linked there, and the system's temporary folder may be small
    with (
        explained_os_errors(bundle.parent),
        tempfile.TemporaryDirectory(dir=bundle.parent, prefix=PART_PREFIX) as temporary,
    ):
        folder = Path(temporary) / "model"
        save_model(bundle, folder, model_id=model_id, run_id=run_id)
        client.log_model_artifacts(model_id, str(folder))


def _make_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _make_version(client: MlflowClient, name: str, model_id: str) -> ModelVersion:
    model = client.get_logged_model(model_id)
    run_id = model.source_run_id
    # without a run, MLflow would look the model up in its global store, and make one in the current folder
    linked = model_id if run_id else None
    return client.create_model_version(name, source=model.artifact_location, run_id=run_id, model_id=linked)


def _local_folder(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(location) if parts.scheme == "" else None


def _download(location: str, tracking_uri: str, cache: Path) -> Path:
    # the address holds the random id of the logged model, so that it never stands for another content
    target = cache / hashlib.sha256(f"{tracking_uri} {location}".encode()).hexdigest()[:16]
    if (target / MANIFEST).is_file():
        return target
    with explained_os_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=PART_PREFIX) as temporary:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=location, dst_path=temporary, tracking_uri=tracking_uri
            )
            if not target.exists():
                Path(found).rename(target)
    return target
