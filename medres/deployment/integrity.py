"""Whether a bundle is whole: only the files that it lists, where it says, with the content that was written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medres.deployment.manifest import MANIFEST, BundleManifest
from medres.errors import BundleError, ConfigError, OutputError
from medres.runs.atomic import PART_PREFIX, explained_os_errors
from medres.runs.documents import sha256_of
from medres.runs.plain_data import PlainDataError, read_json, shortened

_SHOWN = 5
AGAIN = "Get the bundle again from where it was written."


def read_manifest(folder: Path) -> BundleManifest:
    """Read and check ``bundle.json`` alone.

    Raises:
        BundleError: The folder holds no bundle, or the document is damaged or of a newer medres.
    """
    path = folder / MANIFEST
    if path.is_symlink():
        raise BundleError(f"{path} is a link, not a plain file.", fix=AGAIN)
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}.", fix="Give a run folder or its model/.")
    with as_bundle_error():
        manifest = BundleManifest.from_mapping(_json_of(path), source=str(path))
    if manifest.seal != manifest.content_digest():
        raise BundleError(f"{path} was changed after it was written.", fix=AGAIN)
    return manifest


def check_files(folder: Path, manifest: BundleManifest, *, checksums: bool = True) -> None:
    """Prove that a bundle has exactly the files that it lists, and that their content is the one listed.

    Raises:
        BundleError: Naming the first file that is missing, was added, is a link, or was changed.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path} is missing, or is not a plain file.", fix=AGAIN)
        if checksums and sha256_of(path) != expected:
            raise BundleError(f"{path} was changed after it was written.", fix=AGAIN)
    added = sorted({path.name for path in folder.iterdir()} - {*manifest.files, MANIFEST})
    if added:
        shown = ", ".join(map(_shown, added[:_SHOWN])) + (f" and {len(added) - _SHOWN} more") * (len(added) > _SHOWN)
        raise BundleError(
            f"{folder} holds {shown}, which the bundle does not list.",
            fix="Take it out, also where its name begins with a dot; a bundle holds nothing else.",
        )


def _shown(name: str) -> str:
    return shortened(name if name.isprintable() else repr(name))


def _json_of(path: Path) -> Any:
    try:
        return read_json(path)  # not as YAML, which has many ways to write one value
    except PlainDataError as error:
        raise BundleError(f"{path} is not valid JSON: {error}.", fix=AGAIN) from None


@contextmanager
def as_bundle_error() -> Iterator[None]:
    """Turn what a document says of itself inside the block into a `BundleError`."""
    try:
        yield
    except ConfigError as error:
        raise BundleError(error.problem, fix=AGAIN) from None


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """Hand out a temporary folder beside ``folder`` that takes its place when the block ends without an exception.

    Raises:
        OutputError: ``folder`` cannot be written, or holds something else than a bundle.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} holds something else than a bundle.", fix="Move it away; nothing was changed.")
    with explained_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=PART_PREFIX) as outer:
            temporary = Path(outer) / "bundle"
            temporary.mkdir()
            yield temporary
            if folder.exists():
                folder.rename(Path(outer) / "replaced")  # goes with the temporary folder
            temporary.rename(folder)


def can_link(folder: Path) -> bool:
    """Return whether files of a folder can have a second name, so that `link_or_copy` takes no room."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=PART_PREFIX) as temporary:
        first = Path(temporary) / "first"
        first.touch()
        try:
            os.link(first, Path(temporary) / "second")
        except OSError:
            return False
        return True


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file at a second place without writing it twice, where the file system can."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
