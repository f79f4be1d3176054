"""`ScanTable`: which scans there are, whose they are, and how they are labelled. No voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from medres.data.findings import Finding
from medres.runs.csv_files import write_csv

Split = Literal["train", "val", "test"]
COLUMNS = ("sample_id", "patient_id", "path", "member", "label", "split", "unit", "content_hash")
#: Columns of ``scans.csv`` that are written where a scan has them; those of sequences are called ``path_<name>``.
OPTIONAL_COLUMNS = ("num_files", "mask", "center_x_mm", "center_y_mm", "center_z_mm", "alike")
#: Names that no column of metadata has.
RESERVED_COLUMNS = frozenset((*COLUMNS, *OPTIONAL_COLUMNS))


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One row: a file (or one member of an ``.npz``), its patient and its label.

    Args:
        sample_id: Unique in its table; text.
        patient_id: Text; ``001`` is not ``1``. Equal to `sample_id` where the data names no patients.
        path: Absolute path of the file; of a DICOM series, the folder (or zip file) in which its files lie.
        member: Which image inside the file, such as ``train_images:17`` in an ``.npz``.
        files: The files of a DICOM series, absolute; empty where `path` is the whole scan.
        sequences: Further images of the same scan that become channels: name (``t1``, ``flair``) to path, in the
            order of the channels; `path` is that of the first one. Empty for a scan of one image.
        mask: Image of the region of interest, on the scan's or its own grid, or None.
        center_ras_mm: Centre (x, y, z) of the region of interest in RAS millimetres, or None.
        label: Class, or None where it is unknown (prediction).
        split: Given split, or None.
        unit: What is scored as one (a lesion, a patient), or None for the scan itself.
        content_hash: SHA-256 of voxels, type and shape of the whole scan; empty until the scan was read.
        alike: Group of near duplicates (rescaled, re-encoded, flipped copies); empty where there are none.
        metadata: All other columns that came, as text.
    """

    sample_id: str
    patient_id: str
    path: Path
    member: str | None = None
    files: tuple[Path, ...] = ()
    sequences: Mapping[str, Path] = field(default_factory=dict)
    mask: Path | None = None
    center_ras_mm: tuple[float, float, float] | None = None
    label: str | None = None
    split: Split | None = None
    unit: str | None = None
    content_hash: str = ""
    alike: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScanTable:
    """All scans of a data set, in the order of their sample ids.

    Args:
        root: Folder that was given, or in which the given file lies; paths are written relative to it.
        scans: The rows.
        classes: Labels in sorted order; with two, the last one is the positive class.
        source: What was understood, such as ``class folders`` or ``labels.csv``.
        notes: Sentences about how the data was understood, for the user.
        patients_given: False where each file was taken as a patient of its own.
        unit_column: Name of the column that units came from, or None.
        findings: What the source found wrong with single rows and files; those rows are in the table all the same
            (with label None where the label is the problem), for the check of the data to report them together.
    """

    root: Path
    scans: tuple[Scan, ...]
    classes: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    patients_given: bool = False
    unit_column: str | None = None
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.scans)

    def __iter__(self) -> Iterator[Scan]:
        return iter(self.scans)

    @property
    def class_indices(self) -> npt.NDArray[np.int64]:
        """Index into `classes` of every scan, shape ``(N,)``; -1 where the label is unknown."""
        position = {label: index for index, label in enumerate(self.classes)}
        return np.array([position.get(scan.label or "", -1) for scan in self.scans], dtype=np.int64)

    @property
    def splits(self) -> frozenset[Split]:
        """The given splits that occur."""
        return frozenset(scan.split for scan in self.scans if scan.split)

    @property
    def num_patients(self) -> int:
        """Number of different patients."""
        return len({scan.patient_id for scan in self.scans})

    def class_counts(self) -> dict[str, int]:
        """Return the number of scans of each class."""
        counts = Counter(scan.label for scan in self.scans)
        return {label: counts[label] for label in self.classes}

    def subset(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> ScanTable:
        """Return the rows at ``indices``, with the classes of the whole."""
        return replace(self, scans=tuple(self.scans[int(index)] for index in indices))

    def where_split(self, *splits: Split) -> ScanTable:
        """Return the rows of the given splits."""
        return replace(self, scans=tuple(scan for scan in self.scans if scan.split in splits))

    def without_splits(self) -> ScanTable:
        """Return the table as if no splits had been given."""
        return replace(self, scans=tuple(replace(scan, split=None) for scan in self.scans))

    def with_content_hashes(self, hashes: Mapping[str, str]) -> ScanTable:
        """Return the table with the hashes filled in, by sample id."""
        scans = tuple(replace(scan, content_hash=hashes[scan.sample_id]) for scan in self.scans)
        return replace(self, scans=scans)

    def with_alike(self, groups: Mapping[str, str]) -> ScanTable:
        """Return the table with the groups of near duplicates filled in, by sample id; scans in none are alone."""
        scans = tuple(replace(scan, alike=groups.get(scan.sample_id, "")) for scan in self.scans)
        return replace(self, scans=scans)

    def write_csv(self, path: Path) -> None:
        """Write ``scans.csv`` (it holds paths and patient ids: for its owner only), with the metadata that came.

        Of a DICOM series it names the folder and, as ``member``, the series; `load_scans` takes the file as labels.
        """
        rows = [self._cells(scan) for scan in self.scans]
        used = {column for row in rows for column, cell in row.items() if cell}
        optional = [column for column in dict.fromkeys(name for row in rows for name in row) if column not in COLUMNS]
        extra = sorted({key for scan in self.scans for key in scan.metadata})
        header = [*COLUMNS, *(column for column in optional if column in used)]
        pairs = zip(self.scans, rows, strict=True)
        cells = (
            [*(row.get(name, "") for name in header), *(scan.metadata.get(key, "") for key in extra)]
            for scan, row in pairs
        )
        write_csv(path, [*header, *extra], cells, private=True)

    def _cells(self, scan: Scan) -> dict[str, str]:
        values = (scan.sample_id, scan.patient_id, self._written(scan.path), scan.member, scan.label, scan.split,
                  scan.unit, scan.content_hash)  # fmt: skip
        center = [repr(value) for value in scan.center_ras_mm] if scan.center_ras_mm else [""] * 3
        mask = self._written(scan.mask) if scan.mask else ""
        optional = (str(len(scan.files) or ""), mask, *center, scan.alike)
        cells = {name: "" if value is None else value for name, value in zip(COLUMNS, values, strict=True)}
        cells |= dict(zip(OPTIONAL_COLUMNS, optional, strict=True))
        return cells | {f"path_{name}": self._written(path) for name, path in scan.sequences.items()}

    def _written(self, path: Path) -> str:
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()
