"""What an answer depends on: the model, how it is asked, and the files of the scan. Equal keys, equal answers."""

from __future__ import annotations

import os
from pathlib import Path

from medres.data.readers.rules import ReadingRules
from medres.data.sample import scan_files, scan_identity
from medres.data.sources import GivenScan
from medres.runs.documents import digest_of


def answer_key(row: GivenScan, *, predictor: str, rules: ReadingRules) -> str:
    """Return the key of a row's answer as 64 hexadecimal digits; empty for a row whose answer is not to be kept.

    A file counts as the same while its size, its number on the disk and both its times are: the time of the last
    change cannot be set back, so that a file that was written over in place is another one. Rows that are refused are
    not kept: the file may be there the next time.

    Args:
        row: Before it is read: a file that changes meanwhile is another one the next time.
        predictor: `Predictor.identity`.
        rules: How files become scans.
    """
    if row.problem is not None:
        return ""
    try:
        files = [[str(file), *_stamp(file)] for file in scan_files(row.scan)]
    except OSError:  # the reader says it better
        return ""
    return digest_of([predictor, scan_identity(row.scan, rules=rules), files, row.said])


def _stamp(file: Path) -> tuple[int, ...]:
    status = os.stat(file)
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
