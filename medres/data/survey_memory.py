"""What a survey remembers of scans between runs: statistics and content hash, by path, member, size and time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from medres.data.statistics import ScanStatistics
from medres.data.table import Scan
from medres.runs.atomic import atomic_write_json
from medres.runs.documents import Document

#: Raised whenever readers, content hash or statistics give other values for the same file.
SURVEY_VERSION = 1


class Remembered(Document):
    """What is known of one scan.

    Args:
        content_hash: Of its voxels.
        statistics: Of its voxels.
        notes: What the reader had to decide.
    """

    content_hash: str
    statistics: ScanStatistics
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SurveyMemory:
    """Entries of a JSON file; a file that is missing, damaged or of another version is an empty memory.

    Args:
        path: The file, or None: nothing is remembered.
        entries: By key.
    """

    path: Path | None
    entries: dict[str, Any]

    @classmethod
    def read(cls, path: Path | None) -> SurveyMemory:
        """Read the memory."""
        if path is None or not path.is_file():
            return cls(path=path, entries={})
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError):  # a cache: what cannot be read is computed again
            return cls(path=path, entries={})
        valid = isinstance(document, dict) and (document.get("format"), document.get("version")) == (1, SURVEY_VERSION)
        entries = document.get("scans") if valid else None
        return cls(path=path, entries=entries if isinstance(entries, dict) else {})

    def get(self, scan: Scan) -> Remembered | None:
        """Return what is known of a scan whose file has not changed."""
        key = _key(scan)
        if key is None or key not in self.entries:
            return None
        try:
            return Remembered.model_validate(self.entries[key])
        except pydantic.ValidationError:
            return None

    def write(self, known: Iterable[tuple[Scan, Remembered]]) -> None:
        """Write what was known and what is known now; entries of the same scan with another size or time are dropped.

        Raises:
            OutputError: The file cannot be written.
        """
        if self.path is None:
            return
        fresh = {key: entry.to_mapping() for scan, entry in known if (key := _key(scan))}
        replaced = {_place(key) for key in fresh}
        kept = {key: entry for key, entry in self.entries.items() if _place(key) not in replaced}
        document = {"format": 1, "version": SURVEY_VERSION, "scans": {**kept, **fresh}}
        if document["scans"] != self.entries:
            atomic_write_json(self.path, document)


def _key(scan: Scan) -> str | None:
    try:
        status = scan.path.stat()
    except OSError:  # the reader says it better
        return None
    return json.dumps([str(scan.path), scan.member, status.st_size, status.st_mtime_ns])


def _place(key: str) -> str:
    """Return the part of a key that names the scan, without size and time."""
    return key.rsplit(",", 2)[0]
