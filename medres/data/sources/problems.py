"""How a source words a finding: severity and rule come from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medres.data.catalogue import kind_of
from medres.data.findings import Finding


def found(
    code: str,
    value: str,
    *,
    fix: str = "",
    sample_id: str | None = None,
    file: Path | None = None,
    others: Sequence[str] = (),
) -> Finding:
    """Return a finding.

    Args:
        code: One of `medres.data.catalogue.KINDS`.
        value: What was found, as a sentence.
        fix: What to do.
        sample_id: The scan concerned.
        file: Its file.
        others: Further scans concerned.

    Example:
        >>> found("file-not-listed", "a.png is not in labels.csv.").severity
        'warning'
    """
    kind = kind_of(code)
    return Finding(
        code=code, severity=kind.severity, sample_id=sample_id, file=None if file is None else str(file),
        rule=kind.rule, value=value, fix=fix, others=tuple(others),
    )  # fmt: skip
