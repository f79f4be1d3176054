"""From what a user types to pretrained tensors with the input statistics that they were trained with.

====================  ====================================================================================
``none``              random weights
``imagenet``          the ImageNet weights that timm takes for the architecture (3D: for its 2D namesake)
``auto``              ``imagenet`` where there are such weights, else ``none``
a tag of timm         such as ``resnet50.a1_in1k``
``hf-hub:org/name``   a repository of the Hugging Face hub, ``@revision`` may follow
a path                a file of one of `medres.models.checkpoints.WEIGHTS_SUFFIXES`
a name                of a file in the weights folder, with or without its suffix
====================  ====================================================================================

The **weights folder** is looked into before the hub is asked: ``weights_dir``, or else ``$MEDRES_WEIGHTS_DIR``.
There ``imagenet`` finds ``<tag>.<suffix>`` (``resnet50.a1_in1k.safetensors``), the file under the name of timm's
original release (``resnet50_a1_0-14fe96d1.pth``), or ``<arch>.<suffix>`` (``resnet50.pth``), in this order;
``hf-hub:org/name`` finds ``org--name.<suffix>``.

The **input statistics** are those that the file's safetensors header states (keys ``mean``, ``std``, ``input_size``,
numbers separated by commas), those of the timm tag, or ImageNet's, with a note that they are assumed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from medres.errors import WeightsError
from medres.models import hub
from medres.models.checkpoints import WEIGHTS_SUFFIXES, hash_note, read_checkpoint
from medres.models.input_statistics import IMAGENET, InputStatistics, stated_in_config, stated_in_header
from medres.models.names import check_arch, donor_arch
from medres.models.timm_tags import TimmTag, default_tag, download_bytes, tag_of_file, tags_of

#: Names the weights folder.
WEIGHTS_DIR_VARIABLE = "MEDRES_WEIGHTS_DIR"

_HUB_PREFIX = re.compile(r"^hf[-_]hub:")
_HUB_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")

#: As MedicalNet names its files: resnet_50.pth, resnet_50_23dataset.pth.
_MEDICALNET_FILE = re.compile(r"resnet_\d+(_23dataset)?\.pth")

#: Licences that set no condition on what a hospital does with the weights.
_FREE_LICENCES = ("", "apache-2.0", "bsd-3-clause", "mit")


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrainedWeights:
    """Pretrained tensors and what belongs to them.

    Args:
        tensors: By timm's names, floating point numbers in float32. 2D kernels, or 3D ones of a 3D network.
        source: What a user may see of where they come from: a file's name or a tag, never a path.
        sha256: Of the weights file.
        mean: Of each input channel (or one for all), on pixels scaled to [0, 1].
        std: The same for the standard deviation.
        input_size: Side of the input that they were trained at, in pixels.
        notes: What a user should know of them.
    """

    tensors: dict[str, torch.Tensor]
    source: str
    sha256: str
    mean: tuple[float, ...] = IMAGENET.mean
    std: tuple[float, ...] = IMAGENET.std
    input_size: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse statistics that do not belong together."""
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise WeightsError(
                f"{self.source} has input statistics that cannot be (mean {self.mean}, std {self.std}).",
                fix="Each needs one number a channel (or one for all), std above 0.",
            )


def resolve_weights(
    weights: str, *, arch: str, spatial_dims: int, weights_dir: Path | None = None
) -> PretrainedWeights | None:
    """Find and read pretrained weights.

    Args:
        weights: See the table above.
        arch: Architecture that they are for.
        spatial_dims: 2 or 3; in 3D the weights of the 2D namesake are read, and inflated when they are loaded.
        weights_dir: Looked into before the hub is asked; None: ``$MEDRES_WEIGHTS_DIR``.

    Returns:
        The weights, or None for random ones (`no_weights_reason` says why ``auto`` came to that).

    Raises:
        ModelError: ``arch`` is not known.
        WeightsError: There are no such weights, they cannot be read, or they cannot be fetched from here.

    Example:
        >>> resolve_weights("none", arch="resnet50", spatial_dims=3) is None
        True
    """
    check_arch(arch, spatial_dims=spatial_dims)
    if weights == "none" or (weights == "auto" and no_weights_reason(arch, spatial_dims=spatial_dims)):
        return None
    if weights == "medicalnet":
        raise _is_medicalnet("The weights 'medicalnet'")
    if weights not in ("auto", "imagenet") and Path(weights).expanduser().is_file():
        return _from_file(Path(weights).expanduser())
    folder = _weights_folder(weights_dir)
    if weights in ("auto", "imagenet"):
        return _imagenet(arch, spatial_dims, folder)
    if _HUB_PREFIX.match(weights):
        return _from_repository(_HUB_PREFIX.sub("", weights), folder)
    path = _in_folder(weights, folder)
    return _tagged(weights, arch, spatial_dims, folder) if path is None else _from_file(path)


def no_weights_reason(arch: str, *, spatial_dims: int) -> str:
    """Return why there are no ImageNet weights for an architecture; empty where there are.

    Example:
        >>> no_weights_reason("resnet10", spatial_dims=3)
        'resnet10 has no 2D namesake whose ImageNet weights could be inflated'
        >>> no_weights_reason("resnet50", spatial_dims=3)
        ''
    """
    donor = donor_arch(arch, spatial_dims=spatial_dims)
    if donor is None:
        return f"{arch} has no 2D namesake whose ImageNet weights could be inflated"
    return "" if default_tag(donor) else f"timm publishes no ImageNet weights of {donor}"


def _weights_folder(given: Path | None) -> Path | None:
    folder = given or (Path(value) if (value := os.environ.get(WEIGHTS_DIR_VARIABLE)) else None)
    if folder is not None and not folder.expanduser().is_dir():
        origin = "weights_dir" if given else f"${WEIGHTS_DIR_VARIABLE}"
        raise WeightsError(f"The weights folder {folder} ({origin}) is not a folder.", fix="Make it or mend its name.")
    return folder.expanduser() if folder else None


def _imagenet(arch: str, spatial_dims: int, folder: Path | None) -> PretrainedWeights:
    tag = default_tag(donor_arch(arch, spatial_dims=spatial_dims) or "")
    if tag is None:
        reason = no_weights_reason(arch, spatial_dims=spatial_dims)
        raise WeightsError(f"There are no ImageNet weights: {reason}.", fix="Give a file, or use --weights none.")
    path = _find(folder, [tag.name, tag.release_file, tag.arch])
    return _download(tag, folder) if path is None else _from_file(path, tag=tag_of_file(path.name) or tag)


def _tagged(weights: str, arch: str, spatial_dims: int, folder: Path | None) -> PretrainedWeights:
    tag = tag_of_file(weights)
    donor = donor_arch(arch, spatial_dims=spatial_dims)
    if tag is not None and tag.arch != donor:
        raise WeightsError(f"{weights} are weights of {tag.arch}, not of {arch}.", fix=f"Use --arch {tag.arch}.")
    if tag is None or tag.name != weights:
        known = f" Tags of {arch}: {', '.join(tags_of(donor))}." if donor and tags_of(donor) else ""
        raise WeightsError(
            f"Weights {weights!r} are neither a file, nor one in the weights folder ({_show(folder)}), "
            "nor known to timm.",
            fix=f"Use auto, imagenet, none, a file or hf-hub:org/name.{known}",
        )
    path = _find(folder, [tag.release_file])
    return _download(tag, folder) if path is None else _from_file(path, tag=tag)


def _in_folder(weights: str, folder: Path | None) -> Path | None:
    given = Path(weights).expanduser()
    if given.is_dir():
        raise WeightsError(f"{given} is a folder.", fix=f"Give one file ({', '.join(WEIGHTS_SUFFIXES)}).")
    path = _find(folder, [weights])
    if path is None and (given.suffix in WEIGHTS_SUFFIXES or len(given.parts) > 1):
        raise WeightsError(
            f"The weights file {given} does not exist, nor does it in the weights folder ({_show(folder)}).",
            fix="Check the path, or use --weights none.",
        )
    return path


def _find(folder: Path | None, names: Iterable[str]) -> Path | None:
    suffixes = ("", *WEIGHTS_SUFFIXES)
    candidates = (folder / f"{name}{suffix}" for name in names if name for suffix in suffixes) if folder else ()
    return next((path for path in candidates if path.is_file()), None)


def _from_file(
    path: Path, *, tag: TimmTag | None = None, source: str = "", stated: InputStatistics | None = None
) -> PretrainedWeights:
    tag = tag or tag_of_file(path.name)
    checkpoint = read_checkpoint(path)
    if _MEDICALNET_FILE.fullmatch(path.name) and any(tensor.ndim == 5 for tensor in checkpoint.tensors.values()):
        raise _is_medicalnet(f"The weights {path.name} are MedicalNet's: they")
    statistics = stated_in_header(checkpoint.metadata, path.name) or stated or (tag.statistics if tag else None)
    notes = [
        hash_note(path, checkpoint.sha256),
        "" if statistics else "their input statistics are not stated: ImageNet's are assumed",
        f"licence {tag.licence}" if tag and tag.licence not in _FREE_LICENCES else "",
    ]
    statistics = statistics or IMAGENET
    return PretrainedWeights(
        tensors=checkpoint.tensors, source=source or path.name, sha256=checkpoint.sha256, mean=statistics.mean,
        std=statistics.std, input_size=statistics.input_size, notes=tuple(filter(None, notes)),
    )  # fmt: skip


def _download(tag: TimmTag, folder: Path | None) -> PretrainedWeights:
    try:
        path = hub.fetch(tag.repo_id, _HUB_FILES[0])
    except (hub.NotFetchedError, FileNotFoundError) as error:
        what = f"weights {tag.name} (about {download_bytes(tag) / 1e6:.0f} MB)"
        raise _offline(what, hub.file_url(tag.repo_id, _HUB_FILES[0]), tag.name, folder, error) from None
    return _from_file(path, tag=tag, source=tag.name)


def _from_repository(repository: str, folder: Path | None) -> PretrainedWeights:
    found = _HUB_REPOSITORY.fullmatch(repository)
    if found is None:
        raise WeightsError(f"hf-hub:{repository} does not name a repository.", fix="Write hf-hub:organisation/name.")
    repo_id, revision = found.groups()
    save_as = repo_id.replace("/", "--")
    if (path := _find(folder, [save_as])) is not None:
        return _from_file(path)
    try:
        path = _fetch_weights(repo_id, revision)
    except hub.NotFetchedError as error:
        url = hub.file_url(repo_id, _HUB_FILES[0], revision=revision)
        raise _offline(f"weights hf-hub:{repository}", url, save_as, folder, error) from None
    return _from_file(path, source=f"hf-hub:{repository}", stated=_stated_in_repository(repo_id, revision))


def _fetch_weights(repo_id: str, revision: str | None) -> Path:
    for file_name in _HUB_FILES:
        try:
            return hub.fetch(repo_id, file_name, revision=revision)
        except FileNotFoundError:
            continue
    raise WeightsError(
        f"The hub repository {repo_id} has neither {' nor '.join(_HUB_FILES)}.",
        fix="Fetch its weights file yourself and give the path.",
    )


def _stated_in_repository(repo_id: str, revision: str | None) -> InputStatistics | None:
    try:
        return stated_in_config(hub.fetch(repo_id, "config.json", revision=revision))
    except (hub.NotFetchedError, FileNotFoundError):
        return None  # `_from_file` says that the statistics are assumed


def _is_medicalnet(subject: str) -> WeightsError:
    return WeightsError(
        f"{subject} are not available in this version: their network is dilated, and this one would give "
        "other features than those that were pretrained.",
        fix="Use imagenet (inflated in 3D), another file, or none.",
    )


def _offline(what: str, url: str, save_as: str, folder: Path | None, error: Exception) -> WeightsError:
    return WeightsError(
        f"The {what} are not on this machine and could not be fetched ({error}).",
        fix=f"On a machine with internet: `curl -L -o {save_as}.safetensors {url}`. Put the file into the weights "
        f"folder (${WEIGHTS_DIR_VARIABLE}, {_show(folder)}) or give its path as --weights. "
        "Or begin with random weights: --weights none.",
    )


def _show(folder: Path | None) -> str:
    return f"now {folder}" if folder else "not set"
