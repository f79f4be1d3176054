"""What the scored and the training scans look like, in rows of (what, value)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medres.planning.fingerprint import Fingerprint, Grid
from medres.planning.spread import Spread

Row = tuple[str, str]


def class_rows(metrics: dict[str, Any], events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Return (class, scans in the data set, scored patients, scored units) of each class."""
    from medres.finetuning.scoring import main_block  # loads torch, which `medres inspect` does not need

    data: Mapping[str, Any] = next((event for event in reversed(events) if event.get("kind") == "data"), {})
    counts: Mapping[str, int] = data.get("classes", {})
    per_class = main_block(metrics)[1]["per_class"]
    return [
        (name, str(counts.get(name, "not recorded")), scores["n_patients"], scores["n_units"])
        for name, scores in per_class.items()
    ]


def fingerprint_rows(fingerprint: Fingerprint | None) -> list[Row]:
    """Return the aggregates of the training scans; none without a fingerprint."""
    if fingerprint is None:
        return []
    kinds = [("image", "images", fingerprint.images), ("volume", "volumes", fingerprint.volumes)]
    grids = [row for one, many, grid in kinds if grid for row in _grid_rows(one, many, grid)]
    return [
        ("training scans", str(fingerprint.num_scans)),
        ("modality", fingerprint.modality),
        ("evidence", fingerprint.evidence),
        *([("modality by the headers", _counts(headers))] if (headers := fingerprint.header_modalities) else []),
        *grids,
        ("channels", _counts(fingerprint.num_channels)),
        ("stored type", _counts(fingerprint.dtypes)),
        ("smallest value of a scan", _spread(fingerprint.minimum)),
        ("largest value of a scan", _spread(fingerprint.maximum)),
        *((f"{tissue} share".replace("_", " "), _spread(one)) for tissue, one in fingerprint.tissue_shares.items()),
    ]


def _grid_rows(one: str, many: str, grid: Grid) -> list[Row]:
    rows = [(many, str(grid.num_scans)), (f"{one} size in voxels", _spreads(grid.size))]
    if grid.spacing_mm is None:
        rows.append(("spacing", "the files do not say"))
    else:
        known = "" if grid.num_with_spacing == grid.num_scans else f" ({grid.num_with_spacing} of {grid.num_scans} say)"
        rows.append(("spacing in mm", _spreads(grid.spacing_mm) + known))
        rows.append(("field of view in mm", _spreads(grid.extent_mm or ())))
    if grid.orientations:
        rows.append(("orientation of the files", _counts(grid.orientations)))
    return [*rows, ("foreground share of the voxels", _spread(grid.foreground_fraction))]


def _spreads(spreads: Sequence[Spread]) -> str:
    return " × ".join(_spread(spread) for spread in spreads)


def _spread(spread: Spread) -> str:
    """Return the median, and the range where there is one."""
    if spread.minimum == spread.maximum:
        return f"{spread.median:g}"
    return f"{spread.median:g} ({spread.minimum:g} to {spread.maximum:g})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
