"""Ids of patients and of units: two that may be one, ones that lost digits, words that stand for no id at all.

Of two ids that nobody can have meant as two (`117` and `117.0`, one with an invisible character) the finding is an
error: the scans of one person would stand on two sides of a split. Where two may have been meant (`001` and `1`, `p1`
and `P1`: pseudonyms in base 64 know case) it is a warning, and they stay two.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medres.data.catalogue import Severity, kind_of
from medres.data.findings import Finding
from medres.data.missing_words import placeholder
from medres.data.spelling import differences, lookalike_key, quoted_apart, spelling_key
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of

# Excel shows 123456789012 as 1,23457E+11 and saves what it shows
_ROUNDED = re.compile(r"(?P<whole>\d)(?:[.,](?P<fraction>\d+))?(?P<e>[eE])\+(?P<exponent>\d{2,3})")
_INITIALS = "na"  # the only word for a missing value that may be a person's id
_MAX_NAMED = 10
_ONE_WAY = "Write one id one way (pandas makes 117.0 of 117 in a column with gaps: read ids with dtype=str)."


@dataclass(frozen=True, kw_only=True)
class _Ids:
    """The scans of each id of one kind.

    Args:
        noun: Of what, such as ``patient``.
        lookalike: Code of the finding about two that may be one.
        placeholder: Code of the finding about one that is none.
        scans: By id.
    """

    noun: str
    lookalike: str
    placeholder: str
    scans: Mapping[str, Sequence[Scan]]


def identifier_findings(table: ScanTable) -> Iterator[Finding]:
    """Yield what is doubtful about the ids of patients (where they were given) and of units (where there are any).

    Example:
        >>> from pathlib import Path
        >>> scans = [Scan(sample_id=p, patient_id=p, path=Path(p)) for p in ("117", "117.0", "NA")]
        >>> table = ScanTable(root=Path("."), scans=tuple(scans), classes=(), source="", patients_given=True)
        >>> [(finding.code, finding.severity) for finding in identifier_findings(table)]
        [('id-lookalike', 'error'), ('patient-placeholder', 'warning')]
    """
    told = {finding.code for finding in table.findings}
    if table.patients_given:
        patients = _Ids(noun="patient", lookalike="id-lookalike", placeholder="patient-placeholder",
                        scans=_grouped((scan.patient_id, scan) for scan in table))  # fmt: skip
        yield from (finding for finding in _findings(patients) if finding.code not in told)
        yield from _rounded(patients)
    units = _Ids(noun="unit", lookalike="unit-lookalike", placeholder="unit-placeholder",
                 scans=_grouped((scan.unit or "", scan) for scan in table))  # fmt: skip
    yield from (finding for finding in _findings(units) if finding.code not in told)


def _findings(ids: _Ids) -> Iterator[Finding]:
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in ids.scans:
        by_key[lookalike_key(name)].append(name)
    for names in by_key.values():
        if len(names) > 1:
            yield _lookalike(ids, sorted(names))
    for name in ids.scans:
        if said := placeholder(name, person=True):
            yield _placeholder(ids, name, said)


def _lookalike(ids: _Ids, names: Sequence[str]) -> Finding:
    """Return the finding about ids that may be one: an error where two of them cannot have been meant as two."""
    one = len({spelling_key(name) for name in names}) < len(names)
    shown = [f"{text} ({counted(len(ids.scans[name]), 'scan')})"
             for text, name in zip(quoted_apart(names), names, strict=True)]  # fmt: skip
    value = (
        f"The {ids.noun}s {_listed(shown)} are taken as different; they differ in {_listed(differences(names))} only."
    )
    zeros = " (a spreadsheet drops leading zeros)" if "leading zeros" in differences(names) else ""
    fix = _ONE_WAY if one else f"If they are one{zeros}, write them one way."
    scans = sorted((scan for name in names for scan in ids.scans[name]), key=lambda scan: scan.sample_id)
    return _about(ids.lookalike, scans, value, fix, error=one)


def _placeholder(ids: _Ids, name: str, said: str) -> Finding:
    scans = ids.scans[name]
    share = f"share the {ids.noun} id" if len(scans) > 1 else f"has the {ids.noun} id"
    value = f"{counted(len(scans), 'scan')} {share} {name!r}, {said}."
    fix = f"Fill in the {ids.noun} of each; if it is the id of one, write it another way, such as '{name}1'."
    return _about(ids.placeholder, scans, value, fix, error=name.casefold() != _INITIALS)


def _rounded(ids: _Ids) -> Iterator[Finding]:
    for name, scans in ids.scans.items():
        if _is_rounded(name):
            value = (
                f"Patient {name!r} of {counted(len(scans), 'scan')} is a long number that a program rounded; it may be "
                "several patients."
            )
            fix = "Export the ids as text, or name another column with --patient-column."
            yield _about("id-rounded", scans, value, fix, error=True)


def _is_rounded(text: str) -> bool:
    """Return whether a number lost digits: Excel writes ``1E+11`` for any of that size, R ``1e+11`` for one only."""
    match = _ROUNDED.fullmatch(text)
    if match is None:
        return False
    return match["e"] == "E" or 0 < len(match["fraction"] or "") < int(match["exponent"])


def _about(code: str, scans: Sequence[Scan], value: str, fix: str, *, error: bool) -> Finding:
    severity: Severity = "error" if error else "warning"
    ids = [scan.sample_id for scan in scans]
    return Finding(
        code=code, severity=severity, sample_id=ids[0], file=str(scans[0].path), rule=kind_of(code).rule,
        value=value, fix=fix, others=tuple(ids[1:]),
    )  # fmt: skip


def _grouped(named: Iterable[tuple[str, Scan]]) -> dict[str, list[Scan]]:
    groups: dict[str, list[Scan]] = defaultdict(list)
    for name, scan in sorted(named, key=lambda pair: pair[1].sample_id):
        if name:
            groups[name].append(scan)
    return groups


def _listed(texts: Sequence[str]) -> str:
    """Return texts with commas and an ``and``; of many the first ones."""
    if len(texts) > _MAX_NAMED:
        return first_of(texts, limit=_MAX_NAMED)
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
