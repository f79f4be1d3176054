"""`Finding`: what the check of the data found, with the rule, the value and the way out; many of them in few lines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from medres.data.catalogue import Severity
from medres.data.wording import counted, first_of
from medres.runs.atomic import atomic_write_json
from medres.runs.documents import Document
from medres.runs.printable import one_line

_ORDER: tuple[Severity, ...] = ("error", "warning", "info")


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
        others: Further scans concerned, by sample id: the other members of a group of copies, the other scans of a
            patient.
    """

    code: str
    severity: Severity
    sample_id: str | None = None
    file: str | None = None
    rule: str
    value: str
    fix: str = ""
    others: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[str, ...]:
        """All scans concerned, by sample id."""
        return self.others if self.sample_id is None else (self.sample_id, *self.others)


@dataclass(frozen=True, kw_only=True)
class FindingGroup:
    """All findings of one kind, to be shown in one line.

    Args:
        code: Of all of them.
        severity: Of all of them.
        rule: What should hold.
        findings: In the order given.
        samples: The scans concerned, each once.
        fix: What to do: what most of them say.
    """

    code: str
    severity: Severity
    rule: str
    findings: tuple[Finding, ...]
    samples: tuple[str, ...]
    fix: str

    @property
    def count(self) -> int:
        """Number of findings."""
        return len(self.findings)

    def sentence(self, *, limit: int = 3) -> str:
        """Return what was found: one value as it is, of many the number and the first ones.

        Example:
            >>> found = [
            ...     Finding(code="constant", severity="error", sample_id=f"s{n}", rule="", value=f"s{n} is 0.")
            ...     for n in range(200)
            ... ]
            >>> summarise(found)[0].sentence(limit=2)
            '200 scans: is 0. (s0, s1 and 198 more)'
        """
        if len(self.findings) == 1:
            return self.findings[0].value
        said = {_without_name(finding) for finding in self.findings}
        if len(said) == 1 and self.samples:
            names = first_of([finding.sample_id for finding in self.findings], limit=limit)
            return f"{self.extent()}: {said.pop()} ({names})"
        values = list(dict.fromkeys(finding.value for finding in self.findings))
        more = f" (and {len(values) - limit:,} more)" if len(values) > limit else ""
        return f"{self.extent()}: {' '.join(values[:limit])}{more}"

    def extent(self) -> str:
        """Return how much it concerns: scans, or groups of them."""
        if not self.samples:
            return counted(self.count, "finding")
        if any(finding.others and finding.sample_id for finding in self.findings):
            extra = sum(len(finding.others) for finding in self.findings)
            return f"{counted(self.count, 'group')} of {len(self.samples):,} scans, {extra:,} beside the first of each"
        return counted(len(self.samples), "scan")

    def line(self) -> str:
        """Return one line for the terminal: severity, code, what was found, and what to do."""
        return one_line(f"{self.severity} {self.code}: {self.sentence()} Expected: {self.rule} {self.fix}".strip())


def summarise(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Return the findings by kind: errors first, then warnings; within a severity those of many scans first.

    Example:
        >>> summarise([])
        []
    """
    kinds: dict[tuple[Severity, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.severity, finding.code].append(finding)
    groups = [_group(members) for members in kinds.values()]
    return sorted(groups, key=lambda group: (_ORDER.index(group.severity), -group.count, group.code))


def _without_name(finding: Finding) -> str:
    """Return what was found without the scan or file it begins with."""
    for name in (finding.sample_id, finding.file):
        if name and finding.value.startswith(name):
            return finding.value.removeprefix(name).lstrip(": ")
    return finding.value


def _group(members: list[Finding]) -> FindingGroup:
    fixes = Counter(finding.fix for finding in members if finding.fix)
    return FindingGroup(
        code=members[0].code,
        severity=members[0].severity,
        rule=members[0].rule,
        findings=tuple(members),
        samples=tuple(dict.fromkeys(sample for finding in members for sample in finding.samples)),
        fix=fixes.most_common(1)[0][0] if fixes else "",
    )


def write_findings(
    path: Path, findings: Iterable[Finding], *, excluded: Mapping[str, tuple[str, ...]] | None = None
) -> None:
    """Write ``findings.json``, errors first; within a severity in the order given.

    Args:
        path: The file.
        findings: All of them, one a scan.
        excluded: Scans that were left out, by the code of the finding they were left out for.

    Raises:
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "findings.json"
        >>> write_findings(target, [Finding(code="mixed-modality", severity="warning", rule="One kind.", value="2")])
        >>> read_findings(target)[0].code
        'mixed-modality'
    """
    ranked = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
    left_out = {code: list(samples) for code, samples in (excluded or {}).items()}
    document = {"format": 1, "findings": [finding.to_mapping() for finding in ranked], "excluded": left_out}
    atomic_write_json(path, document, private=True)  # it names patients and files


class _FindingsFile(Document):
    format: Literal[1] = 1
    findings: tuple[Finding, ...] = ()
    excluded: dict[str, tuple[str, ...]] = pydantic.Field(default_factory=dict)


def read_findings(path: Path) -> tuple[Finding, ...]:
    """Return the findings of a ``findings.json``.

    Raises:
        ConfigError: The file is missing or not valid.
    """
    return _FindingsFile.read(path).findings
