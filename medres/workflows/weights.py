"""`weights fetch`: pretrained weights for machines without internet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medres.models.typed_path import expanded
from medres.models.weights import WEIGHTS_DIR_VARIABLE
from medres.runs.host import independent_of_host


@dataclass(frozen=True, kw_only=True)
class FetchedWeights:
    """A weights file that is ready to be carried.

    Args:
        arch: Architecture that it was proved to fit.
        dims: 2 or 3.
        file: The file.
        sha256: Of the file.
        num_bytes: Its size.
        was_there: Whether nothing had to be fetched.
    """

    arch: str
    dims: int
    file: Path
    sha256: str
    num_bytes: int
    was_there: bool

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "arch": self.arch, "dims": self.dims, "file": str(self.file), "sha256": self.sha256,
            "bytes": self.num_bytes, "was_there": self.was_there,
        }  # fmt: skip

    def screen(self) -> str:
        """Return what the command line prints."""
        verb = "was there already" if self.was_there else "fetched"
        return (
            f"{verb}  {self.file} ({self.num_bytes / 1e6:.1f} MB)\n"
            f"SHA-256  {self.sha256}\n"
            f"It fits {self.arch} in {self.dims}D. Carry the folder over, then: "
            f"export {WEIGHTS_DIR_VARIABLE}={self.file.parent.resolve()}"
        )


@independent_of_host()
def fetch_weights(arch: str, *, to: Path, weights: str = "imagenet", dims: int = 2) -> FetchedWeights:
    """Fetch weights from the hub into a folder, under the name by which a run finds them there.

    Args:
        arch: Architecture.
        to: Folder; made where it is missing.
        weights: ``imagenet``, ``medicalnet`` (3D, whatever ``dims``), a tag of timm, or ``hf-hub:org/name``.
        dims: 2 or 3. Both take the same file of ``imagenet``, where both have the architecture.

    Raises:
        ModelError: The architecture is not known.
        WeightsError: There are no such weights, the hub does not answer, or they do not fit the architecture.
        OutputError: The folder cannot be written.
    """
    from medres.models.fetching import fetch_published

    spatial_dims = 3 if weights == "medicalnet" else dims
    fetched = fetch_published(weights, arch=arch, spatial_dims=spatial_dims, folder=expanded(to))
    return FetchedWeights(
        arch=arch, dims=spatial_dims, file=fetched.path, sha256=fetched.sha256, num_bytes=fetched.num_bytes,
        was_there=fetched.was_there,
    )  # fmt: skip
