"""Closed-form intervals of a proportion."""

from __future__ import annotations

from scipy.stats import beta, norm

from medres.errors import DataError

LEVEL = 0.95


def wilson_interval(successes: float, total: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, JASA 1927).

    Args:
        successes: Between 0 and ``total``.
        total: Independent trials, more than 0.
        level: Nominal coverage.

    Raises:
        DataError: There is no trial, or the successes are not among them.

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(8, 10)]
        [0.49, 0.943]
    """
    _check(successes, total)
    z = float(norm.ppf((1 + level) / 2))
    share = successes / total
    spread = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / spread
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5 / spread
    # exact at the ends, where the difference of two equal numbers leaves 1e-17
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == total else min(1.0, centre + half)


def clopper_pearson_interval(successes: float, total: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of a proportion (Clopper and Pearson, Biometrika 1934).

    Args:
        successes: Between 0 and ``total``; need not be whole.
        total: Independent trials, more than 0.
        level: Smallest coverage.

    Raises:
        DataError: There is no trial, or the successes are not among them.

    Example:
        >>> low, high = clopper_pearson_interval(30, 30)
        >>> round(low, 3), high
        (0.884, 1.0)
    """
    _check(successes, total)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, total - successes + 1))
    high = 1.0 if successes == total else float(beta.ppf(1 - tail, successes + 1, total - successes))
    return low, high


def _check(successes: float, total: float) -> None:
    if total <= 0 or not 0 <= successes <= total:
        raise DataError(
            f"{successes} successes of {total} trials are no proportion.",
            fix="Count successes among at least one trial.",
        )
