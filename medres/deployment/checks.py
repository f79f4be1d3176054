"""What a user should know about a scan before trusting its prediction."""

from __future__ import annotations

from collections.abc import Sequence

from medres.data.catalogue import KINDS, kind_of
from medres.data.image import ScanImage
from medres.deployment.bundle import Bundle
from medres.planning.axes import DEFAULT_ORIENTATION, anatomical_axes
from medres.planning.fingerprint import Grid
from medres.preprocessing.geometry import Geometry

#: Rounding of headers, and of the fingerprint (four digits), is no finding.
_SLACK = 0.01


def scan_findings(image: ScanImage, geometry: Geometry, bundle: Bundle) -> tuple[str, ...]:
    """Return what stands between a scan and the training scans, as sentences without path, name or voxel value."""
    findings = [_training_finding(image, bundle), *_spacing_findings(image, geometry, bundle), *_reader_findings(image)]
    return tuple(finding for finding in findings if finding)


def _training_finding(image: ScanImage, bundle: Bundle) -> str:
    used = {member.manifest.fold for member in bundle.members}
    folds = [fold for fold in bundle.training_hashes.folds_with(image.content_hash) if fold in used]
    if not folds:
        return ""
    names = ", ".join(map(str, folds))
    return f"This scan was in the training data of member {names}: its probability is too confident."


def _reader_findings(image: ScanImage) -> list[str]:
    """Return what the reader had to decide and a person should know.

    The catalogue's sentence, not the reader's: the answer may go to a client over the network, and a reader's sentence
    tells what stands in a header.
    """
    codes = dict.fromkeys(note.partition(":")[0] for note in image.notes)
    return [
        f"Warning {code}: expected is that {_lowered(kind_of(code).rule)}"
        for code in codes
        if code in KINDS and kind_of(code).severity == "warning"
    ]


def _lowered(sentence: str) -> str:
    """Return a sentence to stand after other words; its first word stays if it is an abbreviation (NIfTI, CT)."""
    first = sentence.split(" ", 1)[0]
    return sentence if any(letter.isupper() for letter in first[1:]) else sentence[0].lower() + sentence[1:]


def _spacing_findings(image: ScanImage, geometry: Geometry, bundle: Bundle) -> list[str]:
    fingerprint = bundle.fingerprint
    grid = fingerprint.volumes if image.spatial_dims == 3 else fingerprint.images
    if grid is None or grid.spacing_mm is None:
        return []
    if image.spacing_mm is None:
        return ["The size of its voxels is unknown; that of the training scans was known."]
    spacing = [image.spacing_mm[axis] for axis in _axes_of_the_fingerprint(geometry)]
    return _out_of_range(spacing, grid)


def _out_of_range(spacing: Sequence[float], grid: Grid) -> list[str]:
    names = "DHW"[-len(spacing) :]
    return [
        f"Its spacing along {name} is {size:.3g} mm; in training it was {trained.minimum:g} to {trained.maximum:g} mm."
        for name, size, trained in zip(names, spacing, grid.spacing_mm or (), strict=True)
        if not trained.minimum * (1 - _SLACK) <= size <= trained.maximum * (1 + _SLACK)
    ]


def _axes_of_the_fingerprint(geometry: Geometry) -> tuple[int, ...]:
    """Return the scan's axes in the order of the fingerprint: `DEFAULT_ORIENTATION`, whatever the plan's."""
    if geometry.orientation is None or len(geometry.axes) == 2:
        return geometry.axes
    planned = anatomical_axes(geometry.orientation)
    return tuple(geometry.axes[planned.index(axis)] for axis in anatomical_axes(DEFAULT_ORIENTATION))
