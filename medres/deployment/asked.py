"""What a predictor is asked: paths or tables become rows, and each row gets its answer, in order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from medres.data.findings import Finding
from medres.data.sources import GivenScan, scans_as_given
from medres.data.table import ScanTable
from medres.errors import UsageError
from medres.planning.plan import Plan

#: A path, paths, or a table.
Asked: TypeAlias = ScanTable | Path | str | Iterable[Path | str]

Answer = TypeVar("Answer")

_FIX = "Give a path, a list of paths, or the path of a table (CSV) with a column 'path'."


def as_asked(
    scans: Asked, plan: Plan, *, tell: Callable[[Finding], object] = lambda finding: None
) -> tuple[GivenScan, ...]:
    """Return a row for each thing asked, in order: see `scans_as_given`; a table stands for its rows.

    Args:
        scans: What is to be predicted.
        plan: How files become scans, and whether they are single images.
        tell: Called with each finding about files in folders that are no scans.

    Raises:
        UsageError: It is neither paths nor a table.
    """
    if isinstance(scans, ScanTable):
        return tuple(GivenScan(scan=scan, given=scan.sample_id, file=str(scan.path)) for scan in scans)
    rules = plan.reading
    return scans_as_given(
        _paths(scans), series=rules.series, sequences=rules.sequences, stacks=plan.spatial_dims == 3, tell=tell
    )


def answered_in_order(keys: Sequence[Hashable], answers: Iterator[Answer]) -> Iterator[Answer]:
    """Yield the answer of each key; what is asked twice is computed once.

    Args:
        keys: One a row.
        answers: One for each different key, in the order in which they first occur; taken as they are needed.

    Example:
        >>> list(answered_in_order(["a", "b", "a"], iter([1, 2])))
        [1, 2, 1]
    """
    left, kept = Counter(keys), dict[Hashable, Answer]()
    for key in keys:
        left[key] -= 1
        answer = kept.pop(key) if key in kept else next(answers)
        if left[key]:
            kept[key] = answer
        yield answer


def _paths(scans: Path | str | Iterable[Path | str]) -> list[Path | str]:
    if isinstance(scans, (str, os.PathLike)):
        return [scans]
    # of a data frame or a dictionary, Python would go through the names of columns
    if not isinstance(scans, Iterable) or isinstance(scans, (bytes, Mapping)) or hasattr(scans, "columns"):
        raise UsageError(f"What is to be predicted is a {type(scans).__name__}, not paths.", fix=_FIX)
    paths = list(scans)
    for number, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"Item {number} of what is to be predicted is a {type(path).__name__}.", fix=_FIX)
    return paths
