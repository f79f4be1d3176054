"""From what a user types to pretrained tensors with the input statistics that they were trained with.

====================  ====================================================================================
``none``              random weights
``imagenet``          the ImageNet weights that timm takes for the architecture (3D: for its 2D namesake)
``medicalnet``        MedicalNet's for the depth (3D only), of 23 data sets where there are such
``auto``              ``imagenet`` where there are such weights, else ``none``
a tag of timm         such as ``resnet50.a1_in1k``
``hf-hub:org/name``   a repository of the Hugging Face hub, ``@revision`` may follow
a path                a file of one of `medres.models.checkpoints.WEIGHTS_SUFFIXES`, or a finished run, a bundle or
                      a bundle's member of medres (`medres.models.trained`)
a name                of a file in the weights folder, with or without its suffix
====================  ====================================================================================

The **weights folder** is looked into before the hub is asked: ``weights_dir``, or else ``$MEDRES_WEIGHTS_DIR``.
There ``imagenet`` finds ``<tag>.<suffix>`` (``resnet50.a1_in1k.safetensors``), the file under the name of timm's
original release (``resnet50_a1_0-14fe96d1.pth``), or ``<arch>.<suffix>`` (``resnet50.pth``), in this order;
``hf-hub:org/name`` finds ``org--name.<suffix>``; ``medicalnet`` finds ``resnet_50_23dataset.pth`` or
``resnet_50.pth`` (see `medres.models.medicalnet`, also for how any file of MedicalNet's is recognised).

The **input statistics** are those that the file's safetensors header states (keys ``mean``, ``std``, ``input_size``,
numbers separated by commas), those of the timm tag or of MedicalNet, or ImageNet's, with a note that they are assumed.
The **architecture** is what the header states (key ``arch``) or the timm tag (`medres.models.stated_arch`): weights of
another one are not loaded, whatever their tensors fit.
The **geometry** of a 3D network (`medres.models.geometry`) is what the header states (key ``geometry``), MedicalNet's
where the tensors are its, or what a network of medres keeps among its tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from medres.errors import ModelError, WeightsError
from medres.models import hub, medicalnet
from medres.models.checkpoints import WEIGHTS_SUFFIXES, Checkpoint, hash_note, read_checkpoint
from medres.models.geometry import Geometry, GeometryName, geometry_in, geometry_of_trained
from medres.models.input_statistics import IMAGENET, read_config, stated_in_config, stated_in_header
from medres.models.names import check_arch, donor_arch, is_builtin
from medres.models.stated_arch import stated_arch
from medres.models.timm_tags import TimmTag, default_tag, download_bytes, tag_of_file, tag_of_repository, tags_of
from medres.models.trained import find_trained, read_trained
from medres.models.typed_path import existing_path, expanded, is_there

#: Names the weights folder.
WEIGHTS_DIR_VARIABLE = "MEDRES_WEIGHTS_DIR"

_HUB_PREFIX = re.compile(r"^hf[-_]hub:")
_HUB_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
#: Names of weights files in repositories of the hub, the first that exists is taken.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")

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
        geometry: That the 3D network was trained in, None where nothing states it.
        arch: Architecture that they state, empty where nothing does.
    """

    tensors: dict[str, torch.Tensor]
    source: str
    sha256: str
    mean: tuple[float, ...] = IMAGENET.mean
    std: tuple[float, ...] = IMAGENET.std
    input_size: int | None = None
    notes: tuple[str, ...] = ()
    geometry: Geometry | None = None
    arch: str = ""

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
    if not weights.strip():
        raise WeightsError("The weights are an empty text.", fix="Use auto, imagenet, none, a file or hf-hub:org/name.")
    if weights == "none" or (weights == "auto" and no_weights_reason(arch, spatial_dims=spatial_dims)):
        return None
    if (path := existing_path(weights)) is not None:
        return _from_path(path, arch, spatial_dims)
    folder = _weights_folder(weights_dir)
    if weights in ("auto", "imagenet"):
        return _imagenet(arch, spatial_dims, folder)
    if weights == "medicalnet":
        return _medicalnet(arch, spatial_dims, folder)
    if (repository := repository_of(weights)) is not None:
        return _from_repository(*repository, folder)
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
    if not is_builtin(arch):
        return f"{arch} is the network of a plug-in, of which medres knows no weights"
    if donor is None:
        return f"{arch} has no 2D namesake whose ImageNet weights could be inflated"
    return "" if default_tag(donor) else f"timm publishes no ImageNet weights of {donor} on the hub"


def known_weights(arch: str, *, spatial_dims: int) -> tuple[str, ...]:
    """Return what may be given as weights of an architecture: ``imagenet``, ``medicalnet``, tags of timm.

    Example:
        >>> known_weights("resnet10", spatial_dims=3), known_weights("resnetv2_50", spatial_dims=2)
        (('medicalnet',), ('imagenet', 'resnetv2_50.a1h_in1k'))
    """
    if not is_builtin(arch):
        return ()
    donor = donor_arch(arch, spatial_dims=spatial_dims)
    imagenet = () if no_weights_reason(arch, spatial_dims=spatial_dims) else ("imagenet",)
    return (*imagenet, *(("medicalnet",) if spatial_dims == 3 else ()), *(sorted(tags_of(donor)) if donor else ()))


def repository_of(weights: str) -> tuple[str, str | None] | None:
    """Return the repository and revision that ``hf-hub:org/name@revision`` names, None for other weights.

    Raises:
        WeightsError: It begins with ``hf-hub:``, but names no repository.

    Example:
        >>> repository_of("hf-hub:timm/resnet50.a1_in1k"), repository_of("imagenet")
        (('timm/resnet50.a1_in1k', None), None)
    """
    if not _HUB_PREFIX.match(weights):
        return None
    found = _HUB_REPOSITORY.fullmatch(repository := _HUB_PREFIX.sub("", weights))
    if found is None:
        raise WeightsError(f"hf-hub:{repository} does not name a repository.", fix="Write hf-hub:organisation/name.")
    return found[1], found[2]


def _weights_folder(given: Path | None) -> Path | None:
    named = given or (Path(value) if (value := os.environ.get(WEIGHTS_DIR_VARIABLE)) else None)
    folder = expanded(named) if named else None
    if folder is not None and not (is_there(folder) and folder.is_dir()):
        origin = "weights_dir" if given else f"${WEIGHTS_DIR_VARIABLE}"
        raise WeightsError(f"The weights folder {folder} ({origin}) is not a folder.", fix="Make it or mend its name.")
    return folder


def _imagenet(arch: str, spatial_dims: int, folder: Path | None) -> PretrainedWeights:
    tag = default_tag(donor_arch(arch, spatial_dims=spatial_dims) or "")
    if tag is None:
        reason = no_weights_reason(arch, spatial_dims=spatial_dims)
        raise WeightsError(f"There are no ImageNet weights: {reason}.", fix="Give a file, or use --weights none.")
    path = in_weights_folder(folder, [tag.name, tag.release_file, tag.arch])
    return _download(tag, folder) if path is None else _from_file(path, tag=tag_of_file(path.name) or tag)


def _medicalnet(arch: str, spatial_dims: int, folder: Path | None) -> PretrainedWeights:
    medicalnet.require_released(arch, spatial_dims=spatial_dims)
    files = medicalnet.release_files(arch)
    if (path := in_weights_folder(folder, [Path(name).stem for name in files])) is not None:
        return _from_file(path)
    repo_id = medicalnet.repository(arch)
    try:
        path = _fetch_first(repo_id, files)
    except hub.NotFetchedError as error:
        what = f"weights {files[0]} (MedicalNet, about {medicalnet.download_bytes(arch) / 1e6:.0f} MB)"
        raise _offline(what, hub.file_url(repo_id, files[0]), files[0], folder, error) from None
    return _from_file(path)


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
    path = in_weights_folder(folder, [tag.release_file])
    return _download(tag, folder) if path is None else _from_file(path, tag=tag)


def _in_folder(weights: str, folder: Path | None) -> Path | None:
    given = Path(weights)
    path = in_weights_folder(folder, [weights])
    if path is None and (given.suffix in WEIGHTS_SUFFIXES or len(given.parts) > 1):
        raise WeightsError(
            f"The weights file {given} does not exist, nor does it in the weights folder ({_show(folder)}).",
            fix="Check the path, or use --weights none.",
        )
    return path


def in_weights_folder(folder: Path | None, names: Iterable[str]) -> Path | None:
    """Return the first file of one of these names, with or without a suffix of weights files; None without any."""
    suffixes = ("", *WEIGHTS_SUFFIXES)
    candidates = (folder / f"{name}{suffix}" for name in names if name for suffix in suffixes) if folder else ()
    return next((path for path in candidates if is_there(path) and path.is_file()), None)


def _from_path(path: Path, arch: str, spatial_dims: int) -> PretrainedWeights:
    if (trained := find_trained(path)) is None:
        return _from_file(path)
    bundle, fold = trained
    member = read_trained(bundle, fold=fold, arch=arch, spatial_dims=spatial_dims)
    return PretrainedWeights(
        tensors=member.checkpoint.tensors, source=member.source, sha256=member.checkpoint.sha256,
        mean=member.statistics.mean, std=member.statistics.std, input_size=member.statistics.input_size,
        notes=member.notes, geometry=geometry_of_trained(member.checkpoint.tensors), arch=arch,
    )  # fmt: skip


def _from_file(
    path: Path, *, tag: TimmTag | None = None, source: str = "", config: Path | None = None
) -> PretrainedWeights:
    tag = tag or tag_of_file(path.name)
    checkpoint = read_checkpoint(path)
    is_medicalnet = medicalnet.is_medicalnet(path.name, checkpoint.names, checkpoint.tensors)
    own = medicalnet.STATISTICS if is_medicalnet else tag.statistics if tag else None
    statistics = (
        stated_in_header(checkpoint.metadata, path.name) or (stated_in_config(config) if config else None) or own
    )
    notes = [
        hash_note(path, checkpoint.sha256),
        *checkpoint.notes,
        medicalnet.NOTE if is_medicalnet else "",
        "" if statistics else "their input statistics are not stated: ImageNet's are assumed",
        f"licence {tag.licence}" if tag and tag.licence not in _FREE_LICENCES else "",
    ]
    statistics = statistics or IMAGENET
    return PretrainedWeights(
        tensors=checkpoint.tensors, source=source or path.name, sha256=checkpoint.sha256, mean=statistics.mean,
        std=statistics.std, input_size=statistics.input_size, notes=tuple(filter(None, notes)),
        geometry=_geometry(checkpoint, path, is_medicalnet=is_medicalnet),
        arch=stated_arch(checkpoint.metadata, read_config(config) if config else {}, tag),
    )  # fmt: skip


def _geometry(checkpoint: Checkpoint, path: Path, *, is_medicalnet: bool) -> Geometry | None:
    try:
        if stated := checkpoint.metadata.get("geometry"):
            return Geometry(cast(GeometryName, stated))
        return Geometry("medicalnet") if is_medicalnet else geometry_in(checkpoint.tensors)
    except ModelError as error:
        raise WeightsError(f"{path.name} states its geometry: {error.problem}", fix=error.fix) from None


def _download(tag: TimmTag, folder: Path | None) -> PretrainedWeights:
    try:
        path = hub.fetch(tag.repo_id, HUB_FILES[0])
    except (hub.NotFetchedError, FileNotFoundError) as error:
        what = f"weights {tag.name} (about {download_bytes(tag) / 1e6:.0f} MB)"
        url = hub.file_url(tag.repo_id, HUB_FILES[0])
        raise _offline(what, url, f"{tag.name}.safetensors", folder, error) from None
    return _from_file(path, tag=tag, source=tag.name)


def _from_repository(repo_id: str, revision: str | None, folder: Path | None) -> PretrainedWeights:
    name = f"hf-hub:{repo_id}" + (f"@{revision}" if revision else "")
    save_as = repo_id.replace("/", "--")
    tag = tag_of_repository(repo_id)
    if (path := in_weights_folder(folder, [save_as])) is not None:
        return _from_file(path, tag=tag)
    try:
        path = _fetch_first(repo_id, (*HUB_FILES, *medicalnet.files_in(repo_id)), revision)
    except hub.NotFetchedError as error:
        url = hub.file_url(repo_id, HUB_FILES[0], revision=revision)
        raise _offline(f"weights {name}", url, f"{save_as}.safetensors", folder, error) from None
    return _from_file(path, tag=tag, source=name, config=_config_of(repo_id, revision))


def _fetch_first(repo_id: str, files: Iterable[str], revision: str | None = None) -> Path:
    files = tuple(files)
    for file_name in files:
        try:
            return hub.fetch(repo_id, file_name, revision=revision)
        except FileNotFoundError:
            continue
    raise WeightsError(
        f"The hub repository {repo_id} has neither {' nor '.join(files)}.",
        fix="Fetch its weights file yourself and give the path.",
    )


def _config_of(repo_id: str, revision: str | None) -> Path | None:
    try:
        return hub.fetch(repo_id, "config.json", revision=revision)
    except (hub.NotFetchedError, FileNotFoundError):
        return None  # `_from_file` says that the statistics are assumed


def _offline(what: str, url: str, save_as: str, folder: Path | None, error: Exception) -> WeightsError:
    return WeightsError(
        f"The {what} are not on this machine and could not be fetched ({error}).",
        fix=f"On a machine with internet: `curl -L -o {save_as} {url}`. Put the file into the weights "
        f"folder (${WEIGHTS_DIR_VARIABLE}, {_show(folder)}) or give its path as --weights. "
        "Or begin with random weights: --weights none.",
    )


def _show(folder: Path | None) -> str:
    return f"now {folder}" if folder else "not set"
