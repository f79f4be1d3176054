"""Labels that are doubtful as they stand: two that are one class, and words for a label that is not known."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from medres.data.findings import Finding
from medres.data.missing_words import placeholder
from medres.data.sources.problems import found
from medres.data.spelling import differences, lookalike_key, quoted_apart
from medres.data.table import Scan
from medres.data.wording import counted

_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_OPPOSITES = {"-": "+", "+": "-"}


def label_findings(scans: Sequence[Scan], source: str) -> Iterator[Finding]:
    """Yield what is doubtful about the labels of a source.

    Args:
        scans: With their labels.
        source: What to call it.
    """
    by_label: dict[str, list[str]] = defaultdict(list)
    for scan in sorted(scans, key=lambda scan: scan.sample_id):
        if scan.label is not None:
            by_label[scan.label].append(scan.sample_id)
    for group in lookalike_labels(by_label):
        yield _lookalike(group, by_label, source)
    for label, samples in sorted(by_label.items()):
        if said := _placeholder(label, by_label):
            yield _stands_in(label, said, samples, Counter(scan.label for scan in scans).total(), source)


def lookalike_labels(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of labels that are as good as surely one class, written in several ways.

    Example:
        >>> lookalike_labels(["benign", "Benign", "grade  2", "grade_2", "1", "1.0", "10"])
        [('1', '1.0'), ('Benign', 'benign'), ('grade  2', 'grade_2')]
    """
    by_key: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        by_key[lookalike_key(label)].add(label)
    return sorted(tuple(sorted(group)) for group in by_key.values() if len(group) > 1)


def _lookalike(group: Sequence[str], by_label: Mapping[str, Sequence[str]], source: str) -> Finding:
    pairs = zip(quoted_apart(group), group, strict=True)
    names = " and ".join(f"{text} ({counted(len(by_label[label]), 'scan')})" for text, label in pairs)
    rarest = min(group, key=lambda label: len(by_label[label]))
    first, *others = by_label[rarest]
    text = f"{source} has labels that differ in {' and '.join(differences(group))} only: {names}."
    return found("label-lookalike", text, fix="Write them one way.", sample_id=first, others=others)


def _placeholder(label: str, labels: Iterable[str]) -> str:
    others = [other for other in labels if other != label]
    if label in _OPPOSITES and _OPPOSITES[label] in others:  # - and + are negative and positive
        return ""
    return placeholder(label, number=bool(others) and all(map(_WHOLE_NUMBER.fullmatch, others)))


def _stands_in(label: str, said: str, samples: Sequence[str], total: int, source: str) -> Finding:
    read = "reads" if len(samples) == 1 else "read"
    text = f"{source}: {len(samples):,} of {counted(total, 'label')} {read} {label!r}, {said}; it was taken as a class."
    fix = (
        "Nothing to do if it is one. Else fill the labels in, or --exclude-findings label-placeholder leaves them out."
    )
    return found("label-placeholder", text, fix=fix, sample_id=samples[0], others=samples[1:])
