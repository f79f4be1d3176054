"""`Finding`: what the check of the data found, with the rule, the value and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from medres.data.catalogue import Severity
from medres.runs.atomic import atomic_write_json
from medres.runs.documents import Document


class Finding(Document):
    """One thing that the check of the data found. Local only: it may name samples and files.

    Args:
        code: What kind of finding, stable, such as ``unreadable`` or ``identical-scans``.
        severity: ``error``: training is refused; ``warning``: a person should look; ``info``: good to know.
        sample_id: The scan concerned, or None where it is about the data set.
        file: Its file, or None.
        rule: What should hold, as a sentence.
        value: What was found instead.
        fix: What to do, or empty.
    """

    code: str
    severity: Severity
    sample_id: str | None = None
    file: str | None = None
    rule: str
    value: str
    fix: str = ""


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write ``findings.json``, errors first; within a severity in the order given.

    Raises:
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "findings.json"
        >>> write_findings(target, [Finding(code="mixed-modality", severity="warning", rule="One kind.", value="2")])
        >>> read_findings(target)[0].code
        'mixed-modality'
    """
    order = ("error", "warning", "info")
    ranked = sorted(findings, key=lambda finding: order.index(finding.severity))
    atomic_write_json(path, {"format": 1, "findings": [finding.to_mapping() for finding in ranked]})


class _FindingsFile(Document):
    format: Literal[1] = 1
    findings: tuple[Finding, ...] = ()


def read_findings(path: Path) -> tuple[Finding, ...]:
    """Return the findings of a ``findings.json``.

    Raises:
        ConfigError: The file is missing or not valid.
    """
    return _FindingsFile.read(path).findings
