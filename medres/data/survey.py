"""`survey_scans`: read every scan once; statistics, hashes and findings; the voxels as long as they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from threadpoolctl import threadpool_limits

from medres.data.checks.recorded import Record, check_recorded
from medres.data.checks.scans import check_scans, unreadable
from medres.data.exclusion import excluded_scans, require_known_codes, without_excluded
from medres.data.findings import Finding, summarise
from medres.data.image import ScanImage
from medres.data.near_duplicates import NearGroup, find_near_duplicates
from medres.data.perceptual import perceptual_hash
from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_sample
from medres.data.statistics import ScanStatistics, scan_statistics
from medres.data.survey_memory import Remembered, SurveyMemory
from medres.data.table import Scan, ScanTable
from medres.data.thumbnails import thumbnail
from medres.data.wording import counted
from medres.errors import DataError
from medres.runs.parallel import map_in_threads
from medres.runs.progress import Progress

#: Voxels that are kept by default, so that a scan is decoded once.
DEFAULT_MEMORY_BYTES = 2 * 2**30

_MAX_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known after every scan was read once.

    Args:
        table: The table with content hashes (empty for scans that cannot be read) and groups of near duplicates filled
            in, without the scans that were left out.
        statistics: By sample id.
        findings: What the source and the check found, one a scan, errors among them where they are not refused.
        images: By sample id, the scans whose voxels are still in memory; identical scans share them.
        known: By sample id, all that is remembered of a scan; its statistics are among it.
        excluded: Scans that were left out as asked, by the code of their finding; none twice.
        thumbnails: By sample id, a small JPEG of the scan's middle, where they were asked for.
    """

    table: ScanTable
    statistics: dict[str, ScanStatistics]
    findings: tuple[Finding, ...]
    images: dict[str, ScanImage]
    known: dict[str, Remembered] = field(default_factory=dict)
    excluded: dict[str, tuple[str, ...]] = field(default_factory=dict)
    thumbnails: dict[str, bytes] = field(default_factory=dict)

    def notes(self) -> Iterator[str]:
        """Yield lines for the terminal: what was left out, then the findings, one line a kind."""
        for code, samples in self.excluded.items():
            yield f"left out for {code}: {counted(len(samples), 'scan')}; {len(self.table)} remain"
        for group in summarise(self.findings):
            yield group.line()


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One scan that was read, remembered, or could not be read."""

    scan: Scan
    key: str | None = None
    known: Remembered | None = None
    image: ScanImage | None = None
    thumbnail: bytes | None = None
    problem: Exception | None = None


def survey_scans(
    table: ScanTable,
    *,
    progress: Progress,
    rules: ReadingRules = ReadingRules(),  # noqa: B008  # frozen
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    remember: Path | None = None,
    refuse: bool = True,
    exclude: Sequence[str] = (),
    record: Record | None = None,
    thumbnails: bool = False,
    group_near: bool = True,
) -> Survey:
    """Read every scan once, on all cores, and check the data set. A scan that cannot be read does not stop the others.

    Args:
        table: The scans.
        progress: Shows how far it is.
        rules: How files become a scan.
        memory_bytes: Voxels kept for the next step.
        remember: JSON file of statistics and hashes by files, sizes and times: a second survey decodes nothing.
            Local only, since it describes scans.
        refuse: Whether errors raise; False returns them as findings, for a report.
        exclude: Codes of findings whose scans are left out; the rest is checked as if they had not been there.
        record: Content hashes of an earlier run, to be compared.
        thumbnails: Whether to make small pictures of the scans that are read.
        group_near: Whether near duplicates are kept together in every split; False only reports them.

    Raises:
        DataError: Findings are errors; one exception for all of them. Or what is left out leaves nothing.
        UsageError: ``exclude`` names a code that does not exist.
        OutputError: ``remember`` cannot be written.
    """
    require_known_codes(exclude)
    memory = SurveyMemory.read(remember, rules=rules)
    collected = _Collected(table=table, images=_ImageStore(memory_bytes))
    readings = map_in_threads(lambda scan: _read(scan, memory, rules, collected.images, thumbnails), table.scans)
    # every core reads a scan: small matrix products that each take all cores as well wait for each other (6 times
    # longer on 2 cores)
    with threadpool_limits(limits=1, user_api="blas"):
        for reading in progress.track(readings, description="reading scans", total=len(table)):
            collected.add(reading)
    memory.write(collected.remembered)
    survey = _survey(collected, exclude, record, group_near)
    if refuse:
        refuse_errors(survey.findings)
    return survey


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Raise one error for all findings that are errors.

    Raises:
        DataError: Naming ten of them, from every kind, and their number.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    if len(errors) == 1:
        raise DataError(errors[0].value, fix=errors[0].fix)
    # a folder of 500 truncated files must not hide the one label that is missing
    in_turn = chain.from_iterable(zip_longest(*(group.findings for group in summarise(errors))))
    shown = [finding for finding in in_turn if finding is not None][:_MAX_LISTED]
    lines = [f"{finding.value} {finding.fix}".strip() for finding in errors if finding in shown]
    if len(errors) > _MAX_LISTED:
        lines.append(f"... and {len(errors) - _MAX_LISTED} more.")
    raise DataError(f"The data has {len(errors)} errors:\n  " + "\n  ".join(lines))


def _read(scan: Scan, memory: SurveyMemory, rules: ReadingRules, images: _ImageStore, thumbnails: bool) -> _Reading:
    key = memory.key(scan)
    remembered = memory.get(key)
    if remembered is not None:
        return _Reading(scan=scan, key=key, known=remembered)
    try:
        image = read_sample(scan, rules=rules)
        known, picture = _described(image), thumbnail(image) if thumbnails else None
    except Exception as error:  # whatever goes wrong with one scan, the others go on; all are named at the end
        return _Reading(scan=scan, problem=error)
    # what will not be kept is let go at once: results may wait for a slow scan before them
    return _Reading(scan=scan, key=key, known=known, image=images.if_it_fits(image), thumbnail=picture)


def _described(image: ScanImage) -> Remembered:
    return Remembered(
        content_hash=image.content_hash,
        statistics=scan_statistics(image),
        notes=image.notes,
        look=perceptual_hash(image),
    )


class _Collected:
    """What was read so far."""

    def __init__(self, *, table: ScanTable, images: _ImageStore) -> None:
        self.table = table
        self.images = images
        self.known: dict[str, Remembered] = {}
        self.problems: list[Finding] = []
        self.thumbnails: dict[str, bytes] = {}
        self.remembered: list[tuple[str | None, Remembered]] = []

    def add(self, reading: _Reading) -> None:
        """Take one scan; in the order of the table."""
        if reading.known is None:
            self.problems.append(unreadable(reading.scan, reading.problem or RuntimeError()))
            return
        sample_id = reading.scan.sample_id
        self.known[sample_id] = reading.known
        self.remembered.append((reading.key, reading.known))
        self.images.add(sample_id, reading.image)
        if reading.thumbnail is not None:
            self.thumbnails[sample_id] = reading.thumbnail


def _survey(collected: _Collected, exclude: Sequence[str], record: Record | None, group_near: bool) -> Survey:
    known = collected.known
    hashed = collected.table.with_content_hashes({scan.sample_id: _hash_of(known, scan) for scan in collected.table})
    near = _near_groups(hashed, known)
    alike = {member: group.members[0] for group in near for member in group.members} if group_near else {}
    table = hashed.with_alike(alike)
    findings = _findings(table, known, collected.problems, near, record)
    excluded = excluded_scans(table, findings, exclude)
    if any(excluded.values()):
        table = without_excluded(table, excluded)
        left = {scan.sample_id: known[scan.sample_id] for scan in table if scan.sample_id in known}
        findings, known = _findings(table, left, collected.problems, near, record), left
    return Survey(
        table=table, statistics={sample_id: entry.statistics for sample_id, entry in known.items()}, known=known,
        findings=findings, images={name: image for name, image in collected.images.by_sample.items() if name in known},
        excluded=excluded, thumbnails=collected.thumbnails,
    )  # fmt: skip


def _near_groups(table: ScanTable, known: Mapping[str, Remembered]) -> tuple[NearGroup, ...]:
    patients = {scan.sample_id: scan.patient_id for scan in table} if table.patients_given else None
    return find_near_duplicates({name: entry.look for name, entry in known.items()}, patients=patients)


def _findings(
    table: ScanTable,
    known: Mapping[str, Remembered],
    problems: Sequence[Finding],
    near: Sequence[NearGroup],
    record: Record | None,
) -> tuple[Finding, ...]:
    """Return the findings about the scans of a table, none twice."""
    ids = {scan.sample_id for scan in table}
    unread = [finding for finding in problems if finding.sample_id in ids]
    recorded = check_recorded(table, record) if record else ()
    found = chain(table.findings, unread, check_scans(table, known, near=near), recorded)
    unique: dict[object, Finding] = {}
    for finding in found:
        # a file that its table names and that is not there is found twice: by the source, and when it is read
        twice = finding.sample_id is not None and finding.severity == "error"
        unique.setdefault((finding.code, finding.sample_id) if twice else finding, finding)
    return tuple(unique.values())


def _hash_of(known: Mapping[str, Remembered], scan: Scan) -> str:
    return known[scan.sample_id].content_hash if scan.sample_id in known else ""


class _ImageStore:
    """Images up to a number of bytes; identical ones (voxels and placement) are counted and kept once."""

    def __init__(self, max_bytes: int) -> None:
        self.by_sample: dict[str, ScanImage] = {}
        self._by_content: dict[object, ScanImage] = {}
        self._bytes_left = max_bytes

    def if_it_fits(self, image: ScanImage) -> ScanImage | None:
        """Return the image if it can be kept; there will not be more room later."""
        return image if _content(image) in self._by_content or image.voxels.nbytes <= self._bytes_left else None

    def add(self, sample_id: str, image: ScanImage | None) -> None:
        """Keep an image, if there is one and it fits."""
        if image is None:
            return
        kept = self._by_content.get(_content(image))
        if kept is None and image.voxels.nbytes <= self._bytes_left:
            self._bytes_left -= image.voxels.nbytes
            kept = self._by_content[_content(image)] = image
        if kept is not None:
            self.by_sample[sample_id] = kept


def _content(image: ScanImage) -> object:
    placement = None if image.affine is None else image.affine.tobytes()
    return image.content_hash, placement, image.spacing_mm, image.region
