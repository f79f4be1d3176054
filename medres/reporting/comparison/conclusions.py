"""What can and what cannot be concluded from a comparison, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from medres.evaluation.comparison import COMPARED_SCORES, LOWER_IS_BETTER
from medres.reporting.comparison.costs import Cost
from medres.reporting.wording import score_title

Verdict = Literal["better", "worse", "not shown", "no interval"]
SIGNIFICANCE = 0.05


def verdict(name: str, difference: Mapping[str, Any]) -> Verdict:
    """Return what the interval of a difference says of the contender, against the reference.

    Example:
        >>> verdict("brier", {"value": -0.02, "low": -0.03, "high": -0.01})
        'better'
        >>> verdict("auroc", {"value": 0.02, "low": -0.01, "high": 0.05})
        'not shown'
    """
    if difference["low"] is None:
        return "no interval"
    if difference["low"] <= 0 <= difference["high"]:
        return "not shown"
    return "better" if (difference["value"] > 0) != (name in LOWER_IS_BETTER) else "worse"


def signed(value: float | None, *, digits: int = 3) -> str:
    """Return a difference with its sign; a dash where there is none.

    Example:
        >>> signed(0.0121), signed(-0.3), signed(-0.0004), signed(None)
        ('+0.012', '-0.300', '0.000', '-')
    """
    if value is None:
        return "-"
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"


def interval_words(difference: Mapping[str, Any]) -> str:
    """Return the interval of a difference, or why there is none."""
    if difference["low"] is None:
        return f"none: {difference.get('reason', 'not computed')}"
    return f"{signed(difference['low'])} to {signed(difference['high'])}"


def conclusions(document: Mapping[str, Any], costs: Mapping[str, Cost]) -> dict[str, list[str]]:
    """Return sentences about each contender against the reference.

    Args:
        document: What `compare_predictions` returns, with ``reference``.
        costs: Of each contender.
    """
    reference = document["reference"]
    seeds = {name: len(scores["auroc"]["seed_values"]) for name, scores in document["scores"].items()}
    return {
        name: [
            _main_sentence(name, reference, differences["auroc"]),
            *_test_sentence(document["delong"][name], differences["auroc"], len(document["differences"])),
            *_seed_sentence(differences, min(seeds[name], seeds[reference])),
            *_other_scores(name, differences),
            *_cost_sentence(name, costs[name], costs[reference], reference),
        ]
        for name, differences in document["differences"].items()
    }


def remarks(document: Mapping[str, Any]) -> list[str]:
    """Return what has to be known to read all of it: several comparisons, selection, what the intervals hold."""
    number = len(document["differences"])
    several = (
        f"{number} contenders are compared with {document['reference']}. Each 95 % interval stands for itself and is "
        f"not adjusted: of {number} differences that are truly 0, one interval or more misses 0 in up to "
        f"{100 * (1 - 0.95**number):.0f} % of studies like this one, were they independent. p-values are adjusted "
        "(Holm)."
    )
    return [
        *([several] if number > 1 else []),
        "Intervals are over patients, who are drawn once for all runs: they hold the noise of who was scanned, not "
        "that of training, which the spread between seeds shows. They are about these runs as they were trained, on "
        "this data set, and not about architectures as such.",
        "Whoever now picks the best contender picks on scored scans: its score is then too good. Confirm it on a test "
        "split or on other data.",
    ]


def _main_sentence(name: str, reference: str, difference: Mapping[str, Any]) -> str:
    if difference["value"] is None:
        return f"{name} against {reference}: the AUROC has no value ({difference['reason']})."
    begin = (
        f"{name} against {reference}: AUROC {signed(difference['value'])}, 95 % interval {interval_words(difference)}."
    )
    said = verdict("auroc", difference)
    if said == "no interval":
        return f"{begin} Nothing can be concluded about which is better."
    if said == "not shown":
        return (
            f"{begin} The interval contains 0: neither is shown to be better. That is no proof that they are equal; "
            "any difference within the interval remains possible."
        )
    return f"{begin} The interval does not contain 0: {name} ranks {'better' if said == 'better' else 'worse'}."


def _test_sentence(test: Mapping[str, Any], difference: Mapping[str, Any], number: int) -> list[str]:
    if test["p"] is None:
        return [f"No p-value: {test['reason']}."]
    adjusted = f", adjusted for {number} comparisons {p_text(test['p_holm'])} (Holm)" if number > 1 else ""
    text = f"DeLong's paired test: p {p_text(test['p'])}{adjusted}."
    if verdict("auroc", difference) in ("better", "worse") and test["p_holm"] >= SIGNIFICANCE:
        text += " By the test the difference is not shown; take it for open."
    return [text]


def p_text(p: float | None) -> str:
    """Return a p-value with its sign of relation.

    Example:
        >>> p_text(0.0314), p_text(1e-9), p_text(None)
        ('= 0.031', '< 0.001', '-')
    """
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _seed_sentence(differences: Mapping[str, Any], fewest: int) -> list[str]:
    difference = differences["auroc"]
    if fewest < 2:
        return ["One side has a single seed: how much another seed would change is not known; three or more show it."]
    if difference["seed_low"] is None:
        return []
    bounds = f"{signed(difference['seed_low'])} to {signed(difference['seed_high'])}"
    if difference["seed_low"] <= 0 <= difference["seed_high"] and difference["seed_standard_error"]:
        return [f"The seeds alone allow AUROC differences of {bounds}, 0 among them: more seeds are needed to tell."]
    return [f"The spread between seeds allows {bounds} (95 %, Welch)."]


def _other_scores(name: str, differences: Mapping[str, Any]) -> list[str]:
    said: dict[Verdict, list[str]] = {}
    for score in COMPARED_SCORES[1:]:
        said.setdefault(verdict(score, differences[score]), []).append(score_title(score))
    order: Sequence[tuple[Verdict, str]] = (
        ("better", f"{name} is better in"), ("worse", f"{name} is worse in"), ("not shown", "Not shown to differ:"),
        ("no interval", "Without an interval:"),
    )  # fmt: skip
    return [" ".join(f"{begin} {', '.join(said[key])}." for key, begin in order if key in said)]


def _cost_sentence(name: str, cost: Cost, other: Cost, reference: str) -> list[str]:
    parts = []
    if cost.macs and other.macs:
        parts.append(f"{times_text(cost.macs / other.macs)} the multiply-adds a scan (counted)")
    if cost.train_seconds and other.train_seconds:
        parts.append(f"{times_text(cost.train_seconds / other.train_seconds)} the training time (measured)")
    return [f"{name} takes {' and '.join(parts)} of {reference}."] if parts else []


def times_text(ratio: float) -> str:
    """Return a ratio in words.

    Example:
        >>> times_text(2.345), times_text(0.0123), times_text(120.4)
        ('2.3 times', '0.012 times', '120 times')
    """
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.2g} times"
