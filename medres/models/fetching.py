"""Pretrained weights into a folder that is then carried to machines without internet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from medres.errors import WeightsError
from medres.models import hub, medicalnet
from medres.models.factory import backbone_facts
from medres.models.names import check_arch, donor_arch
from medres.models.timm_tags import default_tag, download_bytes, tag_of_file, tags_of
from medres.models.weights import (
    HUB_FILES,
    WEIGHTS_DIR_VARIABLE,
    in_weights_folder,
    no_weights_reason,
    repository_of,
    resolve_weights,
)
from medres.runs.atomic import atomic_write, require_writable


@dataclass(frozen=True)
class Published:
    """Where weights are had, and how their file is called in a weights folder.

    Args:
        name: For messages.
        repo_id: Repository on the Hugging Face hub.
        files: Names there, the first that exists is taken.
        save_as: Name in the folder without suffix; empty for the file's own name.
        revision: Branch, tag or commit of the repository.
        num_bytes: Returns about how large the file is, which takes seconds to know; None where nobody knows.
    """

    name: str
    repo_id: str
    files: tuple[str, ...]
    save_as: str = ""
    revision: str | None = None
    num_bytes: Callable[[], int] | None = None

    def file_name(self, file: str) -> str:
        """Return how ``file`` of the repository is called in the folder."""
        return f"{self.save_as}{PurePosixPath(file).suffix}" if self.save_as else file


@dataclass(frozen=True)
class Fetched:
    """A file in a weights folder that was proved to fit its architecture.

    Args:
        path: The file.
        sha256: Of the file.
        num_bytes: Its size.
        was_there: Whether nothing had to be fetched.
    """

    path: Path
    sha256: str
    num_bytes: int
    was_there: bool


def published(weights: str, *, arch: str, spatial_dims: int) -> Published:
    """Return where published weights are had.

    Args:
        weights: ``imagenet`` or ``auto``, ``medicalnet``, a tag of timm, or ``hf-hub:org/name``.
        arch: Architecture that they are for.
        spatial_dims: 2 or 3.

    Raises:
        ModelError: The architecture is not known.
        WeightsError: There are no such weights.

    Example:
        >>> published("imagenet", arch="resnet50", spatial_dims=3).repo_id
        'timm/resnet50.a1_in1k'
        >>> published("medicalnet", arch="resnet50", spatial_dims=3).files
        ('resnet_50_23dataset.pth', 'resnet_50.pth')
    """
    check_arch(arch, spatial_dims=spatial_dims)
    if weights == "medicalnet":
        medicalnet.require_released(arch, spatial_dims=spatial_dims)
        files = medicalnet.release_files(arch)
        return Published(
            f"{files[0]} (MedicalNet)", medicalnet.repository(arch), files,
            num_bytes=partial(medicalnet.download_bytes, arch),
        )  # fmt: skip
    if (found := repository_of(weights)) is not None:
        repo_id, revision = found
        files = (*HUB_FILES, *medicalnet.files_in(repo_id))
        return Published(weights, repo_id, files, repo_id.replace("/", "--"), revision)
    return _of_timm(weights, arch, spatial_dims)


def fetch_published(weights: str, *, arch: str, spatial_dims: int, folder: Path) -> Fetched:
    """Fetch weights from the hub into a folder, under the name by which they are found there.

    Args:
        weights: As in `published`.
        arch: Architecture that they are for, and are proved to fit.
        spatial_dims: 2 or 3.
        folder: Made where it is missing.

    Raises:
        ModelError: The architecture is not known.
        WeightsError: There are no such weights, the hub does not answer, or they do not fit.
        OutputError: The folder cannot be written.
    """
    source = published(weights, arch=arch, spatial_dims=spatial_dims)
    require_writable(folder)
    names = [source.save_as] if source.save_as else [PurePosixPath(name).stem for name in source.files]
    path = in_weights_folder(folder, names)
    target = path or _copied(source, folder)
    try:
        # found as a run will find it: in the folder, without asking the hub
        found = resolve_weights(weights, arch=arch, spatial_dims=spatial_dims, weights_dir=folder)
        backbone_facts(arch, spatial_dims=spatial_dims, weights=found)
    except WeightsError:
        if path is None:
            target.unlink()
        raise
    return Fetched(target, found.sha256 if found else "", target.stat().st_size, was_there=path is not None)


def _of_timm(weights: str, arch: str, spatial_dims: int) -> Published:
    donor = donor_arch(arch, spatial_dims=spatial_dims)
    tag = default_tag(donor) if donor and weights in ("imagenet", "auto") else tag_of_file(weights)
    if tag is None and weights in ("imagenet", "auto"):
        raise WeightsError(
            f"There are no ImageNet weights: {no_weights_reason(arch, spatial_dims=spatial_dims)}.",
            fix="Nothing need be fetched: use --weights none.",
        )
    if tag is None or tag.arch != donor:
        known = f" Tags of {arch}: {', '.join(tags_of(donor))}." if donor and tags_of(donor) else ""
        raise WeightsError(
            f"Weights {weights!r} of {arch} are not published.",
            fix=f"Give imagenet, medicalnet, a tag of timm or hf-hub:org/name.{known}",
        )
    return Published(tag.name, tag.repo_id, HUB_FILES, tag.name, num_bytes=partial(download_bytes, tag))


def _copied(source: Published, folder: Path) -> Path:
    file, cached = _downloaded(source)
    target = folder / source.file_name(file)
    with cached.open("rb") as original, atomic_write(target) as copy:
        shutil.copyfileobj(original, copy)
    return target


def _downloaded(source: Published) -> tuple[str, Path]:
    for file in source.files:
        try:
            return file, hub.fetch(source.repo_id, file, revision=source.revision)
        except FileNotFoundError:
            continue
        except hub.NotFetchedError as error:
            url = hub.file_url(source.repo_id, file, revision=source.revision)
            size = f", about {source.num_bytes() / 1e6:.0f} MB," if source.num_bytes else ""
            raise WeightsError(
                f"The weights {source.name}{size} could not be fetched ({error}).",
                fix=f"Run this on a machine with internet, or there: `curl -L -o {source.file_name(file)} {url}`. "
                f"Carry the file over and set ${WEIGHTS_DIR_VARIABLE} to its folder, or give its path as --weights.",
            ) from None
    raise WeightsError(
        f"The hub repository {source.repo_id} has neither {' nor '.join(source.files)}.",
        fix="Fetch its weights file yourself and put it into the folder.",
    )
