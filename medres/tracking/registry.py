"""Bundles in MLflow: logged as a model, registered under a name with an alias, fetched again."""

from __future__ import annotations

import hashlib
import re
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
from medres.tracking.mlflow_api import MlflowClient, MlflowException, ModelVersion, mlflow
from medres.tracking.settings import mlflow_settings, patient_requests
from medres.tracking.store import explained, open_client

#: `champion` only after somebody has signed it off.
DEFAULT_ALIAS = "candidate"

_NAME = re.compile(r"[^/:@\\\x00-\x1f]{1,200}")
_ALIAS = re.compile(r"(?!latest$)(?!v\d+$)[A-Za-z0-9_-]{1,100}")
_MODEL_ID = re.compile(r"models:/(m-[0-9a-f]+)")
_BY_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_BY_VERSION = re.compile(r"models:/([^/@]+)/(\d+)")
_BY_RUN = re.compile(r"runs:/([0-9a-f]{32})(?:/.*)?")


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


def check_names(name: str, alias: str = DEFAULT_ALIAS) -> None:
    """Refuse, before any work, names that the registry cannot hold or a URI cannot express.

    Raises:
        TrackingError: Naming the rule.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise TrackingError(
            f"{name!r} is not usable as the name of a registered model.",
            fix="Use a name without '/', ':', '@' and '\\', such as --register ct-nodules.",
        )
    if not _ALIAS.fullmatch(alias):
        raise TrackingError(
            f"{alias!r} is not usable as an alias.",
            fix="Use letters, digits, '_' and '-', not 'latest' or 'v3', such as champion.",
        )


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
    client = open_client(tracking_uri)
    with mlflow_settings(), patient_requests(), explained(tracking_uri):
        location = f"{_location(client, uri)}/{BUNDLE_PATH}"
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


def _location(client: MlflowClient, uri: str) -> str:
    """Return the storage address of a logged model, without MLflow's global registry address."""
    if match := _MODEL_ID.fullmatch(uri):
        return str(client.get_logged_model(match[1]).artifact_location)
    if match := _BY_ALIAS.fullmatch(uri):
        found = client.get_model_version_by_alias(*match.groups())
    elif match := _BY_VERSION.fullmatch(uri):
        found = client.get_model_version(*match.groups())
    elif match := _BY_RUN.fullmatch(uri):
        return _location_of_run(client, match[1])
    else:
        raise TrackingError(
            f"{uri!r} is not the address of a model.", fix="Write models:/NAME@ALIAS, models:/NAME/3 or runs:/RUN_ID."
        )
    source = str(client.get_model_version_download_uri(found.name, found.version))
    return _location(client, source) if source.startswith("models:/") else source


def _location_of_run(client: MlflowClient, run_id: str) -> str:
    experiment_id = client.get_run(run_id).info.experiment_id
    query = f"source_run_id = '{run_id}'"
    models = client.search_logged_models([experiment_id], filter_string=query)
    ready = [model for model in models if str(model.status) == "READY"]
    if not ready:
        raise TrackingError(f"The run {run_id} has no model.", fix="Give a run that finished.")
    return str(max(ready, key=lambda model: model.creation_timestamp).artifact_location)


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
