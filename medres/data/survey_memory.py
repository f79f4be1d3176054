"""What a survey remembers of scans between runs, by their files, sizes and times, and by the reading rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from medres.data.readers.rules import ReadingRules
from medres.data.sample import scan_files, scan_identity
from medres.data.statistics import ScanStatistics
from medres.data.table import Scan
from medres.runs.atomic import atomic_write_json
from medres.runs.documents import Document
from medres.runs.plain_data import read_json

#: Raised whenever readers, content hash, perceptual hash or statistics give other values for the same file.
SURVEY_VERSION = 3


class Remembered(Document):
    """What is known of one scan.

    Args:
        content_hash: Of its voxels.
        statistics: Of its voxels.
        notes: What the reader had to decide.
        look: Its perceptual hash; empty where it shows nothing.
    """

    content_hash: str
    statistics: ScanStatistics
    notes: tuple[str, ...] = ()
    look: str = ""


@dataclass(frozen=True, kw_only=True)
class SurveyMemory:
    """Entries of a JSON file; a file that is missing, damaged or of another version is an empty memory.

    Args:
        path: The file, or None: nothing is remembered.
        rules: How files become scans; other rules, other entries.
        entries: By key.
    """

    path: Path | None
    rules: ReadingRules
    entries: dict[str, Any]

    @classmethod
    def read(cls, path: Path | None, *, rules: ReadingRules) -> SurveyMemory:
        """Read the memory."""
        return cls(path=path, rules=rules, entries=_entries(path))

    def key(self, scan: Scan) -> str | None:
        """Return what a scan is known by; None where nothing is remembered or its files cannot be looked at.

        To be asked before a scan is read: a file that changes meanwhile is then read again the next time.
        """
        return None if self.path is None else _key(scan, self.rules)

    def get(self, key: str | None) -> Remembered | None:
        """Return what is known of a scan whose files have not changed."""
        if key is None or key not in self.entries:
            return None
        try:
            return Remembered.model_validate(self.entries[key])
        except pydantic.ValidationError:
            return None

    def write(self, known: Iterable[tuple[str | None, Remembered]]) -> None:
        """Write what was known and what is known now; entries of the same scan with another size or time are dropped.

        Raises:
            OutputError: The file cannot be written.
        """
        if self.path is None:
            return
        fresh = {key: entry.to_mapping() for key, entry in known if key is not None}
        replaced = {_place(key) for key in fresh}
        kept = {key: entry for key, entry in self.entries.items() if _place(key) not in replaced}
        document = {"format": 1, "version": SURVEY_VERSION, "scans": {**kept, **fresh}}
        if document["scans"] != self.entries:
            atomic_write_json(self.path, document, private=True)


def _entries(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    try:
        document = read_json(path)
    except (ValueError, OSError):  # a cache: what cannot be read is computed again
        return {}
    valid = isinstance(document, dict) and (document.get("format"), document.get("version")) == (1, SURVEY_VERSION)
    entries = document.get("scans") if valid else None
    return entries if isinstance(entries, dict) else {}


def _key(scan: Scan, rules: ReadingRules) -> str | None:
    try:
        stamps = [[str(file), *_stamp(file)] for file in scan_files(scan)]
    except OSError:  # the reader says it better
        return None
    stamp = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:32]
    return f"{scan_identity(scan, rules=rules)[:32]}:{stamp}"


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _place(key: str) -> str:
    """Return the part of a key that names the scan, without sizes and times."""
    return key.partition(":")[0]
