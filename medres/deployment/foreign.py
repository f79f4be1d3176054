"""Whether a scan is one that a model can decide about: compared with the training scans, and what follows.

``warn``: the findings are told, the decision is made. ``withhold``: the probabilities stay visible, there is no
decision. ``refuse``: the scan is an error, without probabilities.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from medres.data.image import ScanImage
from medres.data.statistics import scan_statistics
from medres.deployment.bundle import Bundle
from medres.deployment.checks import scan_findings
from medres.errors import DataError, UsageError
from medres.planning.deviations import find_deviations, foreign_codes

#: What is done about a scan that the model cannot decide about.
OnMismatch = Literal["warn", "withhold", "refuse"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of a scan before the networks see it.

    Args:
        findings: ``code: sentence``, without path, name or voxel value.
        withheld: Codes for which there is no decision; empty where there is one.
        error: Why the scan is refused, or None.
    """

    findings: tuple[str, ...]
    withheld: tuple[str, ...] = ()
    error: DataError | None = None


def parse_on_mismatch(text: str) -> OnMismatch:
    """Return a policy by its name.

    Raises:
        UsageError: There is no such policy.

    Example:
        >>> parse_on_mismatch("warn")
        'warn'
    """
    for policy in get_args(OnMismatch):
        if text == policy:
            return policy  # type: ignore[no-any-return]
    raise UsageError(f"on_mismatch is {text!r}.", fix=f"Choose one of {', '.join(get_args(OnMismatch))}.")


def judge(image: ScanImage, bundle: Bundle, *, on_mismatch: OnMismatch) -> Verdict:
    """Compare a scan in memory with the training scans of a bundle.

    Args:
        image: The scan as it is prepared.
        bundle: The model.
        on_mismatch: What is done where it is no input of this model.
    """
    deviations = find_deviations(scan_statistics(image), bundle.fingerprint, bundle.plan)
    told = (*(f"{one.code}: {one.sentence}" for one in deviations), *scan_findings(image, bundle))
    codes = foreign_codes(deviations, bundle.fingerprint) if on_mismatch != "warn" else ()
    if not codes:
        return Verdict(findings=told)
    if on_mismatch == "refuse":
        return Verdict(findings=told, withheld=codes, error=_refusal(told, codes))
    return Verdict(findings=told, withheld=codes)


def withheld_finding(codes: Sequence[str]) -> tuple[str, ...]:
    """Return the finding that there is no decision, and why; none without codes.

    Example:
        >>> withheld_finding(["constant"])
        ('decision-withheld: No decision because of constant; for such a scan the probabilities mean nothing.',)
    """
    why = ", ".join(codes)
    told = f"decision-withheld: No decision because of {why}; for such a scan the probabilities mean nothing."
    return (told,) if codes else ()


def withholding_codes(findings: str) -> tuple[str, ...]:
    """Return the codes of `withheld_finding` in the findings of a row that was written.

    Example:
        >>> withholding_codes(" ".join(withheld_finding(["constant", "mixed-modality"])))
        ('constant', 'mixed-modality')
    """
    said = re.search(r"decision-withheld: No decision because of ([a-z0-9, -]+);", findings)
    return tuple(said[1].split(", ")) if said else ()


def _refusal(told: Sequence[str], codes: Sequence[str]) -> DataError:
    reasons = " ".join(finding for finding in told if finding.partition(":")[0] in codes)
    return DataError(
        f"The scan is unlike those that the model was trained on. {reasons}",
        fix="Use a model of such scans, or on_mismatch=withhold (--on-mismatch withhold) to see probabilities.",
    )
