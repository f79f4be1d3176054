"""The model behind an address in MLflow; where there is none: which models, aliases and versions there are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from medres.errors import TrackingError
from medres.tracking.mlflow_api import MlflowClient, MlflowException, ModelVersion
from medres.tracking.reach import without_password

_MODEL_ID = re.compile(r"models:/(m-[0-9a-f]+)")
_BY_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_BY_VERSION = re.compile(r"models:/([^/@]+)/(\d+)")
_BY_RUN = re.compile(r"runs:/([0-9a-f]{32})(?:/.*)?")
_BY_NAME = re.compile(r"models:/([^/@]+)(?:[/@][^/@]*)?")
#: Names that a message holds at most.
_SHOWN = 10
#: MLflow's words for: it is not there. An alias that is missing counts as a wrong parameter.
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


def location_of(client: MlflowClient, uri: str) -> str:
    """Return the storage address of a logged model, without MLflow's global registry address.

    For use inside `medres.tracking.store.explained`.

    Args:
        client: Of the store.
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-<id>`` or ``runs:/RUN_ID``.

    Raises:
        TrackingError: There is no such model, and which there are.
        MlflowException: The store does not answer.
    """
    try:
        if match := _MODEL_ID.fullmatch(uri):
            return str(client.get_logged_model(match[1]).artifact_location)
        if match := _BY_RUN.fullmatch(uri):
            return _location_of_run(client, match[1])
        found = _version(client, uri)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        raise _absent(client, uri) from error
    source = str(client.get_model_version_download_uri(found.name, found.version))
    return location_of(client, source) if source.startswith("models:/") else source


def _version(client: MlflowClient, uri: str) -> ModelVersion:
    if match := _BY_ALIAS.fullmatch(uri):
        return client.get_model_version_by_alias(*match.groups())
    if match := _BY_VERSION.fullmatch(uri):
        return client.get_model_version(*match.groups())
    # a name without alias or version is told what there is
    if match := _BY_NAME.fullmatch(uri):
        raise _incomplete(client, match[1], uri)
    raise TrackingError(
        f"{uri!r} is not the address of a model.", fix="Write models:/NAME@ALIAS, models:/NAME/3 or runs:/RUN_ID."
    )


def _location_of_run(client: MlflowClient, run_id: str) -> str:
    experiment_id = client.get_run(run_id).info.experiment_id
    query = f"source_run_id = '{run_id}'"
    models = client.search_logged_models([experiment_id], filter_string=query)
    ready = [model for model in models if str(model.status) == "READY"]
    if not ready:
        raise TrackingError(f"The run {run_id} has no model.", fix="Give a run that finished.")
    return str(max(ready, key=lambda model: model.creation_timestamp).artifact_location)


def _absent(client: MlflowClient, uri: str) -> TrackingError:
    store = without_password(str(client.tracking_uri))
    if _MODEL_ID.fullmatch(uri) or _BY_RUN.fullmatch(uri):
        kind = "run" if uri.startswith("runs:") else "logged model"
        return TrackingError(
            f"{uri}: MLflow at {store} has no such {kind}; it was not found.",
            fix="Give a registered model, such as models:/NAME@champion, or name another store with --tracking-uri.",
        )
    name = (_BY_ALIAS.fullmatch(uri) or _BY_VERSION.fullmatch(uri) or _BY_NAME.fullmatch(uri) or ["", uri])[1]
    return _incomplete(client, name, uri)


def _incomplete(client: MlflowClient, name: str, uri: str) -> TrackingError:
    """Return what there is of a registered model, or which models there are."""
    store = without_password(str(client.tracking_uri))
    try:
        aliases: dict[str, str] = dict(client.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return _no_such_name(client, name, store)
    quote = '"' if "'" in name else "'"
    found = client.search_model_versions(f"name={quote}{name}{quote}", max_results=1000)
    versions = sorted((int(version.version) for version in found), reverse=True)
    by_alias = _shown(f"{alias} (version {version})" for alias, version in sorted(aliases.items()))
    problem = f"{uri}: there is no such version of {name} in MLflow at {store}. "
    problem += f"Its aliases: {by_alias or 'none'}; its versions: {_shown(map(str, versions)) or 'none'}."
    example = f"@{min(aliases)}" if aliases else f"/{versions[0]}" if versions else "@ALIAS"
    command = f"medres register RUN {name} --alias ALIAS"
    return TrackingError(problem, fix=f"Give one of them, such as models:/{name}{example}; {command} makes another.")


def _no_such_name(client: MlflowClient, name: str, store: str) -> TrackingError:
    names = [str(model.name) for model in client.search_registered_models(max_results=1000)]
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    return TrackingError(
        f"There is no registered model {name!r} in MLflow at {store}; there are: {_shown(names) or 'none'}.",
        fix=f"{hint}medres register RUN {name} makes it; --tracking-uri and --output name another store.",
    )


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
