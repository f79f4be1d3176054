"""Whether a scan is of the modality that a model was trained on: what headers say, else what the voxels look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from medres.data.checks.content import looks_like, modality_evidence
from medres.data.statistics import ScanStatistics
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan

#: Share of the training scans from which on a kind is usual. One in twenty: fewer are the mix-ups that `medres inspect`
#: names one by one.
LEAST_USUAL = 0.05

_TOLD_BY_VOXELS = frozenset({"CT", "MR"})


class Deviation(NamedTuple):
    """One way in which a scan differs.

    Args:
        code: One of `medres.data.catalogue.KINDS`.
        sentence: What was found, and what was usual.
        certain: Whether the scan is no input of the model for this reason alone.
    """

    code: str
    sentence: str
    certain: bool = False


def match_modality(scan: ScanStatistics, fingerprint: Fingerprint, plan: Plan) -> Deviation | None:
    """Return what is wrong with a scan's modality, or None.

    Certain where two headers contradict each other, where Hounsfield units meet a model that never saw any, or anything
    else a model that reads Hounsfield units. What grey values of another scale show cannot be told.

    Args:
        scan: Its statistics.
        fingerprint: Of the training scans.
        plan: What was decided about them; its modality may be what the user knew.
    """
    headers, looks = _usual(fingerprint.header_modalities), _usual(fingerprint.modalities)
    looks |= {plan.modality} & _TOLD_BY_VOXELS
    return _by_header(scan, headers, looks) or _by_values(scan, looks, plan)


def _usual(counts: Mapping[str, int]) -> frozenset[str]:
    return frozenset(name for name, count in counts.items() if count >= LEAST_USUAL * sum(counts.values()))


def _by_header(scan: ScanStatistics, headers: frozenset[str], looks: frozenset[str]) -> Deviation | None:
    said = scan.header_modality
    if said is None or said in headers | looks:
        return None
    evidence = modality_evidence(scan)
    if headers or "other" not in looks:
        return Deviation("mixed-modality", f"It {evidence}; the training scans are {_named(headers or looks)}.", True)
    if said == "CT":
        return None  # Hounsfield units are told by the values
    return Deviation(
        "mixed-modality", f"It {evidence}; what the training scans are, their files and voxels did not say.", False
    )


def _by_values(scan: ScanStatistics, looks: frozenset[str], plan: Plan) -> Deviation | None:
    if scan.modality in looks:
        return None
    if plan.intensity.scheme == "hu_windows" and scan.header_modality == "CT":
        return Deviation("not-hounsfield", "It is CT by its header, but its values are no Hounsfield units.", True)
    if plan.intensity.scheme == "hu_windows":
        told = f"It {looks_like(scan)}, unless it is a CT whose values are no Hounsfield units; the model reads those."
        return Deviation("mixed-modality", told, True)
    certain = scan.modality == "CT"
    return Deviation("mixed-modality", f"It {looks_like(scan)}; the training scans look like {_named(looks)}.", certain)


def _named(modalities: frozenset[str]) -> str:
    return " or ".join("neither CT nor MR" if name == "other" else name for name in sorted(modalities))
