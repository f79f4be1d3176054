"""Networks that medres trained, as pretrained weights: from one hospital's run or bundle to another's run.

A bundle holds one network for each fold. Their mean is no network, so one of them is taken: the first, or the one whose
file is named (``model/member_2.safetensors``). Its documents are read as plain data: nothing here needs the part of
medres that serves bundles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medres.errors import ConfigError, WeightsError
from medres.models.checkpoints import Checkpoint, read_checkpoint
from medres.models.input_statistics import InputStatistics
from medres.planning.plan import Plan
from medres.runs.folder import RunFolder
from medres.runs.plain_data import read_json, shortened

_MANIFEST = "bundle.json"
_PLAN = "plan.yaml"
_AGAIN = "Get the bundle again from where it was written."
_MEMBER_FILE = re.compile(r"member_(\d+)\.safetensors")
_FOLD_FOLDER = re.compile(r"fold_(\d+)")


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedMember:
    """One network of a bundle.

    Args:
        checkpoint: Its tensors, classifier included.
        source: First digits of the weights' SHA-256 and the fold; no name, no path.
        statistics: Of the input that it was trained with.
        notes: What a user should know of it.
    """

    checkpoint: Checkpoint
    source: str
    statistics: InputStatistics
    notes: tuple[str, ...]


def find_trained(path: Path) -> tuple[Path, int | None] | None:
    """Return the bundle that a path belongs to, and the fold that it names; None where it belongs to none.

    Args:
        path: A run, a bundle, the file of a bundle's member, or ``fold_<k>/model.safetensors`` of a run.

    Raises:
        WeightsError: It is a folder, but neither a run that finished nor a bundle.
    """
    if path.is_dir():
        bundle = next((folder for folder in (path, path / "model") if (folder / _MANIFEST).is_file()), None)
        if bundle is None:
            raise _no_bundle(path)
        return bundle, None
    member, fold = _MEMBER_FILE.fullmatch(path.name), _FOLD_FOLDER.fullmatch(path.parent.name)
    if member and (path.parent / _MANIFEST).is_file():
        return path.parent, int(member[1])
    if fold and path.name == "model.safetensors" and (path.parents[1] / "model" / _MANIFEST).is_file():
        return path.parents[1] / "model", int(fold[1])
    return None


def read_trained(bundle: Path, *, fold: int | None, arch: str, spatial_dims: int) -> TrainedMember:
    """Read one network of a bundle, after its checksum.

    Args:
        bundle: Folder with ``bundle.json``.
        fold: Which network; None for the first.
        arch: Architecture that it is wanted for.
        spatial_dims: 2 or 3.

    Raises:
        WeightsError: The bundle is damaged or was changed, is of another architecture, or has no such fold.
    """
    manifest = _manifest(bundle)
    _check_arch(bundle, manifest, arch, spatial_dims)
    member = _chosen(bundle, manifest, fold)
    checkpoint = read_checkpoint(bundle / member["file"])
    if checkpoint.sha256 != member["sha256"]:
        raise WeightsError(f"{member['file']} of {_name(bundle)} was changed after it was written.", fix=_AGAIN)
    return TrainedMember(
        # not the folder's name, which somebody elsewhere chose and which goes into bundles and MLflow
        checkpoint=checkpoint, source=f"medres run {checkpoint.sha256[:8]}, fold {member['fold']}",
        statistics=_statistics(bundle), notes=_notes(manifest, fold),
    )  # fmt: skip


def _manifest(bundle: Path) -> dict[str, Any]:
    try:
        manifest = read_json(bundle / _MANIFEST)
        is_known = manifest["format"] == 1
        for member in manifest["members"]:
            # a plain name: nothing outside of the bundle is read
            is_known = (
                is_known and _MEMBER_FILE.fullmatch(member["file"]) is not None and {"fold", "sha256"} <= {*member}
            )
        read = {key: manifest[key] for key in ("arch", "spatial_dims", "members", "weights_source")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"{_MANIFEST} of {_name(bundle)} is damaged ({type(error).__name__}: {shortened(str(error))}).", fix=_AGAIN
        ) from None
    if not is_known or not read["members"]:
        raise WeightsError(
            f"{_MANIFEST} of {_name(bundle)} is not of a kind that this medres reads.", fix="Update medres."
        )
    return manifest  # type: ignore[no-any-return]


def _check_arch(bundle: Path, manifest: dict[str, Any], arch: str, spatial_dims: int) -> None:
    # a 2.5D run reads volumes with a 2D network
    trained, dims = manifest["arch"], 2 if manifest.get("slicewise") else manifest["spatial_dims"]
    if trained != arch:
        raise WeightsError(f"{_name(bundle)} holds a {trained} in {dims}D, not a {arch}.", fix=f"Use --arch {trained}.")
    if dims > spatial_dims:
        raise WeightsError(
            f"{_name(bundle)} holds a {trained} in {dims}D, which cannot be used in {spatial_dims}D.",
            fix=f"Use --dims {dims}, or other weights.",
        )


def _chosen(bundle: Path, manifest: dict[str, Any], fold: int | None) -> dict[str, Any]:
    by_fold: dict[int, dict[str, Any]] = {member["fold"]: member for member in manifest["members"]}
    if fold is not None and fold not in by_fold:
        raise WeightsError(
            f"{_name(bundle)} has no member of fold {fold}.", fix=f"It has those of {', '.join(map(str, by_fold))}."
        )
    return by_fold[min(by_fold) if fold is None else fold]


def _statistics(bundle: Path) -> InputStatistics:
    try:
        plan = Plan.read(bundle / _PLAN)
    except ConfigError as error:
        raise WeightsError(f"{_PLAN} of {_name(bundle)} cannot be read: {error.problem}", fix=_AGAIN) from None
    # the plan of slices (2.5D) has the shape of the volume: what the network saw are its slices
    side = max(plan.shape[-2:] if plan.spatial_dims == 2 or plan.slicewise else plan.shape)
    return InputStatistics(mean=plan.intensity.mean, std=plan.intensity.std, input_size=side)


def _notes(manifest: dict[str, Any], fold: int | None) -> tuple[str, ...]:
    folds = [member["fold"] for member in manifest["members"]]
    taken = f"fold {min(folds)} of {len(folds)} was taken; give the file of another member for another"
    began = manifest["weights_source"]
    return (
        *((taken,) if fold is None and len(folds) > 1 else ()),
        f"itself trained from {'random weights' if began == 'none' else began}",
    )


def _name(bundle: Path) -> str:
    # the folder of a run's bundle is always called model
    folder = bundle.absolute()
    return folder.parent.name if folder.name == "model" else folder.name


def _no_bundle(path: Path) -> WeightsError:
    has_folds = any(_FOLD_FOLDER.fullmatch(child.name) for child in path.iterdir())
    if has_folds:
        return WeightsError(
            f"{path} is a run that did not finish: it has no model/.",
            fix=f"Finish it with: {RunFolder(path).resume_command}",
        )
    return WeightsError(
        f"{path} is a folder, but neither a run nor a bundle of medres.", fix="Give a weights file, a run or a bundle."
    )
