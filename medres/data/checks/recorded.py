"""Whether voxels are those that an earlier run recorded: plain NIfTI and raw files have no checksum of their own."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medres.data.catalogue import kind_of
from medres.data.checks.about import about
from medres.data.findings import Finding
from medres.data.table import Scan, ScanTable
from medres.errors import DataError
from medres.runs.csv_files import read_csv

_COLUMNS = ("path", "content_hash")

Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a ``scans.csv`` says of its scans.

    Args:
        path: The file.
        hashes: Content hashes by path (as it is written there) and member.
    """

    path: Path
    hashes: Mapping[Key, str]


def read_record(path: Path) -> Record:
    """Read the ``scans.csv`` of an earlier run.

    Raises:
        DataError: It cannot be read, or is no such table.
    """
    try:
        rows = read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no table in UTF-8"
        raise DataError(f"{path} cannot be read: {reason}.", fix="Give the scans.csv of a run.") from error
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise DataError(
            f"{path} is no scans.csv: it has no columns {' and '.join(_COLUMNS)}, or no rows.",
            fix="Give the scans.csv that medres wrote into a run folder.",
        )
    hashes = {(row["path"] or "", row.get("member") or ""): row["content_hash"] or "" for row in rows}
    return Record(path=path, hashes=hashes)


def check_recorded(table: ScanTable, record: Record) -> Iterator[Finding]:
    """Yield a finding for each scan whose voxels changed, and for those that came or went.

    Args:
        table: With content hashes; scans that could not be read have none, and a finding of their own.
        record: What was recorded.
    """
    there = {_key(scan, table.root): scan for scan in table}
    for key, scan in there.items():
        recorded = record.hashes.get(key, "")
        if recorded and scan.content_hash and recorded != scan.content_hash:
            value = f"has other voxels than when {record.path.name} was written."
            yield about(scan, "content-changed", value, fix="Restore the file, or train anew on what it is now.")
        elif not recorded:
            yield about(scan, "not-recorded", f"is not in {record.path.name}.")
    gone = kind_of("recorded-gone")
    for path, member in sorted(set(record.hashes) - set(there)):
        value = f"{path}{f' ({member})' if member else ''} is in {record.path.name}, but not in the data."
        yield Finding(code="recorded-gone", severity=gone.severity, file=path, rule=gone.rule, value=value)


def _key(scan: Scan, root: Path) -> Key:
    path = scan.path.relative_to(root) if scan.path.is_relative_to(root) else scan.path
    return path.as_posix(), scan.member or ""
