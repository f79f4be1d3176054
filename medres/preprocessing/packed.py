"""`PackedCache`: prepared scans on disk, shared by all folds, runs and processes that need the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from medres.errors import DataError
from medres.preprocessing.segments import (
    DamagedSegmentError,
    Row,
    read_each,
    read_index,
    read_rows,
    sweep_segments,
    write_index,
    write_segment,
)
from medres.runs.atomic import explained_os_errors, make_private, sweep_parts

#: A segment is closed at 64 MiB (what a writer holds in memory) or after 15 s (what a killed one loses).
SEGMENT_BYTES = 64 * 2**20
SEGMENT_SECONDS = 15.0

T = TypeVar("T")


class PackedCache:
    """Prepared scans of one kind, in ``<folder>/<key>/``.

    Readers need no lock: segments never change, and the index is replaced as a whole. One process writes at a
    time, under a file lock. Nothing is held in memory but the index.

    Args:
        folder: Shared by all plans; each key has a folder of its own in it.
        key: Digest of all that decides a prepared array (`Preprocessor.cache_key`).
        shape: Of one prepared scan, ``(C, *spatial)``.
        dtype: Its type.
        ragged: Whether a scan may be shorter along its first spatial axis: as many slices as it has (2.5D). The index
            holds the shape of each.
        segment_bytes: Size at which a segment is closed.
        segment_seconds: Age at which it is.

    Example:
        >>> import tempfile
        >>> cache = PackedCache(Path(tempfile.mkdtemp()), key="0" * 64, shape=(1, 2), dtype=np.uint8)
        >>> cache.add([("a", np.array([[1, 2]], np.uint8)), ("b", np.array([[3, 4]], np.uint8))])
        >>> cache.read(["b", "a"]).tolist()
        [[[3, 4]], [[1, 2]]]
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        ragged: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> None:
        self.folder = folder / key[:16]
        self.key = key
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self.ragged = ragged
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._lock = FileLock(self.folder / ".lock")
        self._rows = self._load()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def row_bytes(self) -> int:
        """Size of one prepared scan, the longest that can be."""
        return self.dtype.itemsize * int(np.prod(self.shape))

    def contains(self, sample_keys: Iterable[str]) -> bool:
        """Return whether all of them are there."""
        return not self.missing(sample_keys)

    def missing(self, sample_keys: Iterable[str]) -> list[str]:
        """Return those that are not there, each one once, in the order given."""
        return [key for key in dict.fromkeys(sample_keys) if key not in self._rows]

    def refresh(self) -> None:
        """See what another process has written meanwhile."""
        self._rows = self._load()

    def read(self, sample_keys: Sequence[str]) -> npt.NDArray[Any]:
        """Return ``(N, C, *spatial)`` in the order of ``sample_keys``, a copy; of a cache that is not ragged.

        Raises:
            DataError: A key is not in the cache.
            OutputError: A segment is damaged; its scans are taken out of the cache, so that the next run
            heals it.
        """
        return self._read(sample_keys, partial(read_rows, shape=self.shape))

    def read_each(self, sample_keys: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Return one array a scan, each of its own shape; the rest as in `read`.

        Raises:
            DataError: As in `read`.
            OutputError: As in `read`.
        """
        return self._read(sample_keys, read_each)

    def _read(self, sample_keys: Sequence[str], read: Callable[..., T]) -> T:
        absent = self.missing(sample_keys)
        if absent:
            raise DataError(
                f"{len(absent)} of {len(sample_keys)} scans are not in the cache {self.folder}.",
                fix="Prepare them first (prepare_table).",
            )
        rows = [self._rows[key] for key in sample_keys]
        try:
            return read(self.folder, rows, dtype=self.dtype)
        except DamagedSegmentError as error:
            self._drop_segment(error.segment)
            raise

    def add(self, items: Iterable[tuple[str, npt.NDArray[Any]]]) -> None:
        """Write prepared scans; keys that are there already are passed over.

        ``items`` is consumed under the write lock, segment by segment. Where it raises, what came before is
        kept.

        Raises:
            OutputError: The disk is full or cannot be written.
        """
        with self.locked():
            pending: dict[str, npt.NDArray[Any]] = {}
            opened = time.monotonic()
            try:
                for key, array in items:
                    if key not in self._rows:
                        pending[key] = self._checked(array)
                    if self._is_due(pending, opened):
                        full, pending, opened = pending, {}, time.monotonic()
                        self._write(full)
            finally:
                self._write(pending)

    @contextmanager
    def locked(self, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the write lock; on entry, see what others have written and sweep what killed writers left.

        Args:
            on_wait: Called once if another process holds the lock.

        Raises:
            OutputError: The folder cannot be written.
        """
        nested = self._lock.is_locked
        with explained_os_errors(self.folder):
            make_private(self.folder)
            self._acquire(on_wait)
        try:
            if not nested:
                self._rows = self._load()
                sweep_segments(self.folder, keep={row.segment for row in self._rows.values()})
                sweep_parts(self.folder)
            yield
        finally:
            self._lock.release()

    def _acquire(self, on_wait: Callable[[], None] | None) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            self._lock.acquire()

    def _load(self) -> dict[str, Row]:
        return read_index(self.folder, key=self.key, fits=self._fits, dtype=self.dtype)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if not self.ragged:
            return shape == self.shape
        same = len(shape) == len(self.shape) and (shape[0], *shape[2:]) == (self.shape[0], *self.shape[2:])
        return same and 1 <= shape[1] <= self.shape[1]

    def _checked(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not self._fits(array.shape) or array.dtype != self.dtype:
            raise ValueError(f"a scan of {array.dtype}{array.shape} in a cache of {self.dtype}{self.shape}")
        return array

    def _is_due(self, pending: Mapping[str, npt.NDArray[Any]], opened: float) -> bool:
        large = sum(array.nbytes for array in pending.values()) >= self._segment_bytes
        return bool(pending) and (large or time.monotonic() - opened >= self._segment_seconds)

    def _write(self, rows: Mapping[str, npt.NDArray[Any]]) -> None:
        if rows:
            self._publish(self._rows | write_segment(self.folder, rows))

    def _drop_segment(self, name: str) -> None:
        with self.locked():
            self._publish({key: row for key, row in self._rows.items() if row.segment != name})

    def _publish(self, rows: dict[str, Row]) -> None:
        write_index(self.folder, rows, key=self.key, dtype=self.dtype)
        self._rows = rows
