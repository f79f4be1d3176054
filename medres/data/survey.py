"""`survey_scans`: read every scan once; statistics, content hashes and findings; the voxels as long as they fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medres.data.findings import Finding
from medres.data.image import ScanImage
from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_sample
from medres.data.statistics import ScanStatistics, scan_statistics
from medres.data.survey_checks import check_scans, unreadable
from medres.data.survey_memory import Remembered, SurveyMemory
from medres.data.table import Scan, ScanTable
from medres.errors import DataError, UnreadableScanError
from medres.runs.parallel import map_in_threads
from medres.runs.progress import Progress

#: Voxels that are kept by default, so that a scan is decoded once.
DEFAULT_MEMORY_BYTES = 2 * 2**30

_MAX_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known after every scan was read once.

    Args:
        table: The table with content hashes filled in (empty for scans that cannot be read).
        statistics: By sample id.
        findings: What the check found.
        images: By sample id, the scans whose voxels are still in memory; identical scans share them.
    """

    table: ScanTable
    statistics: dict[str, ScanStatistics]
    findings: tuple[Finding, ...]
    images: dict[str, ScanImage]


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One scan that was read, remembered, or could not be read."""

    scan: Scan
    known: Remembered | None = None
    image: ScanImage | None = None
    problem: UnreadableScanError | None = None


def survey_scans(
    table: ScanTable,
    *,
    progress: Progress,
    rules: ReadingRules = ReadingRules(),  # noqa: B008  # frozen
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    remember: Path | None = None,
    refuse: bool = True,
) -> Survey:
    """Read every scan once, on all cores, and check the data set.

    Args:
        table: The scans.
        progress: Shows how far it is.
        rules: How files become a scan.
        memory_bytes: Voxels kept for the next step.
        remember: JSON file of statistics and hashes by path, member, size and time: a second survey decodes nothing.
            Local only, since it holds paths.
        refuse: Whether errors raise; False returns them as findings, for a report.

    Raises:
        DataError: Scans cannot be read, are constant, or are 2D and 3D mixed; one error for all of them.
    """
    memory = SurveyMemory.read(remember)
    known: dict[str, Remembered] = {}
    problems: list[Finding] = []
    images = _ImageStore(memory_bytes)
    readings = map_in_threads(lambda scan: _read(scan, memory, rules), table.scans)
    for reading in progress.track(readings, description="reading scans", total=len(table)):
        if reading.known is None:
            problems.append(unreadable(reading.scan, reading.problem))
            continue
        known[reading.scan.sample_id] = reading.known
        images.add(reading.scan.sample_id, reading.image)
    memory.write((scan, known[scan.sample_id]) for scan in table if scan.sample_id in known)
    survey = _survey(table, known, problems, images)
    if refuse:
        refuse_errors(survey.findings)
    return survey


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raise one error for all findings that are errors.

    Raises:
        DataError: Naming the first ten and their number.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    if len(errors) == 1:
        raise DataError(errors[0].value, fix=errors[0].fix)
    lines = [f"{finding.value} {finding.fix}".strip() for finding in errors[:_MAX_LISTED]]
    if len(errors) > _MAX_LISTED:
        lines.append(f"... and {len(errors) - _MAX_LISTED} more.")
    raise DataError(f"The data has {len(errors)} errors:\n  " + "\n  ".join(lines))


def _survey(
    table: ScanTable, known: Mapping[str, Remembered], problems: Iterable[Finding], images: _ImageStore
) -> Survey:
    hashes = {scan.sample_id: _hash_of(known.get(scan.sample_id)) for scan in table}
    hashed = table.with_content_hashes(hashes)
    findings = (*problems, *check_scans(hashed, known))
    statistics = {sample_id: entry.statistics for sample_id, entry in known.items()}
    return Survey(table=hashed, statistics=statistics, findings=findings, images=images.by_sample)


def _hash_of(entry: Remembered | None) -> str:
    return entry.content_hash if entry else ""


def _read(scan: Scan, memory: SurveyMemory, rules: ReadingRules) -> _Reading:
    try:
        remembered = memory.get(scan)
        if remembered is not None:
            return _Reading(scan=scan, known=remembered)
        image = read_sample(scan, rules=rules)
    except UnreadableScanError as error:  # the others go on; all are named at the end
        return _Reading(scan=scan, problem=error)
    entry = Remembered(content_hash=image.content_hash, statistics=scan_statistics(image), notes=image.notes)
    return _Reading(scan=scan, known=entry, image=image)


class _ImageStore:
    """Images up to a number of bytes; identical ones (voxels and placement) are counted and kept once."""

    def __init__(self, max_bytes: int) -> None:
        self.by_sample: dict[str, ScanImage] = {}
        self._by_content: dict[object, ScanImage] = {}
        self._bytes_left = max_bytes

    def add(self, sample_id: str, image: ScanImage | None) -> None:
        """Keep an image, if there is one and it fits."""
        if image is None:
            return
        placement = None if image.affine is None else image.affine.tobytes()
        kept = self._by_content.get((image.content_hash, placement, image.spacing_mm))
        if kept is None and image.voxels.nbytes <= self._bytes_left:
            self._bytes_left -= image.voxels.nbytes
            kept = self._by_content[image.content_hash, placement, image.spacing_mm] = image
        if kept is not None:
            self.by_sample[sample_id] = kept
