"""`prepare_table`: every scan of a table is prepared once and kept in a packed cache."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy.typing as npt

from medres.data.image import ScanImage
from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_sample
from medres.data.table import Scan, ScanTable
from medres.errors import DataError, MedresError
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.preprocessor import Preprocessor
from medres.preprocessing.segments import require_space
from medres.runs.parallel import map_in_threads
from medres.runs.progress import Progress

__all__ = ["PackedCache", "prepare_table"]


_NAMED_FAILURES = 10


def prepare_table(
    table: ScanTable,
    *,
    preprocessor: Preprocessor,
    cache_dir: Path,
    images: Mapping[str, ScanImage],
    progress: Progress,
    keys: Sequence[str] | None = None,
) -> PackedCache:
    """Prepare all scans of a table that are not in the cache yet, on all cores.

    Scans with the same key are prepared and stored once. At most two scans a core are under way, so that memory
    does not grow with the table.

    Args:
        table: Scans with their content hashes.
        preprocessor: How to prepare them.
        cache_dir: Shared by all runs.
        images: Scans that are decoded already, by sample id; all others are read from their files.
        progress: Shows a bar.
        keys: Key of each scan, ``(N,)``: what its prepared array depends on, voxels and placement
            (`medres.data.content.placed_hash`); None = the content hash alone.

    Returns:
        The cache; ``cache.read(keys)``.

    Raises:
        DataError: Scans that cannot be read or do not fit the plan, ten of them by name; the others are kept.
        OutputError: The disk is full or cannot be written.
    """
    cache = _cache_of(preprocessor, cache_dir)
    scans = _by_key(table, keys)
    if cache.contains(scans):
        return cache
    waiting = f"Waiting for another process that fills {cache.folder}."
    with cache.locked(on_wait=lambda: progress.note(waiting)):
        absent = {key: scans[key] for key in cache.missing(scans)}
        require_space(cache.folder, len(absent) * cache.row_bytes)
        _fill(cache, absent, lambda scan: _prepared(scan, preprocessor, images), progress)
    return cache


def bytes_to_prepare(keys: Iterable[str], *, preprocessor: Preprocessor, cache_dir: Path) -> int:
    """Return how many bytes `prepare_table` would write at most.

    Args:
        keys: Of the scans.
        preprocessor: How they are prepared.
        cache_dir: Shared by all runs.
    """
    cache = _cache_of(preprocessor, cache_dir)
    return len(cache.missing(keys)) * cache.row_bytes


def _cache_of(preprocessor: Preprocessor, cache_dir: Path) -> PackedCache:
    return PackedCache(
        cache_dir,
        key=preprocessor.cache_key,
        shape=preprocessor.stored_shape,
        dtype=preprocessor.storage_dtype,
        ragged=preprocessor.plan.slicewise,
    )


def _by_key(table: ScanTable, keys: Sequence[str] | None) -> dict[str, Scan]:
    unknown = next((scan for scan in table if not scan.content_hash), None)
    if unknown is not None:
        raise DataError(
            f"{unknown.path} has no content hash: its table was not surveyed.",
            fix="Give the table of survey_scans(table).table.",
        )
    first: dict[str, Scan] = {}
    for key, scan in zip(keys or [scan.content_hash for scan in table], table, strict=True):
        first.setdefault(key, scan)
    return first


def _fill(
    cache: PackedCache,
    scans: Mapping[str, Scan],
    prepare: Callable[[Scan], npt.NDArray[Any] | MedresError],
    progress: Progress,
) -> None:
    failures: list[MedresError] = []

    def prepared() -> Generator[tuple[str, npt.NDArray[Any]]]:
        made = map_in_threads(prepare, scans.values())
        shown = progress.track(zip(scans, made, strict=True), description="preparing scans", total=len(scans))
        for key, result in shown:
            if isinstance(result, MedresError):
                failures.append(result)
            else:
                yield key, result

    with closing(prepared()) as items:
        cache.add(items)
    if failures:
        raise _summary(failures, len(scans))


def _prepared(
    scan: Scan, preprocessor: Preprocessor, images: Mapping[str, ScanImage]
) -> npt.NDArray[Any] | MedresError:
    try:
        image = images.get(scan.sample_id)
        stored, _ = preprocessor.prepare(_read(scan, preprocessor.plan.reading) if image is None else image)
    except MedresError as error:
        named = error.problem if str(scan.path) in error.problem else f"{scan.path}: {error.problem}"
        return type(error)(named, fix=error.fix)
    return stored


def _read(scan: Scan, rules: ReadingRules) -> ScanImage:
    image = read_sample(scan, rules=rules)
    if image.content_hash != scan.content_hash:
        raise DataError(f"{scan.path} has changed since it was surveyed.", fix="Run the same command again.")
    return image


def _summary(failures: Sequence[MedresError], num_scans: int) -> DataError:
    lines = [f"{error.problem} {error.fix}".strip() for error in failures[:_NAMED_FAILURES]]
    more = f" ... and {len(failures) - len(lines)} more." if len(failures) > len(lines) else ""
    return DataError(f"{len(failures)} of {num_scans} scans cannot be prepared. " + " ".join(lines) + more)
