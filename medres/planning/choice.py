"""`Choice`: a decided value together with the sentence that says why."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Choice(NamedTuple, Generic[T]):
    """A value and the reason for it, with the numbers that led to it.

    Example:
        >>> value, reason = Choice(16, "the largest power of two that leaves 10 steps an epoch")
        >>> value
        16
    """

    value: T
    reason: str


def by_wish(value: T, *, key: str, instead_of: str) -> Choice[T]:
    """Return what the user asked for under ``planning.<key>``, with what would have been chosen otherwise."""
    return Choice(value, f"Set by you (planning.{key}). Without it: {instead_of}")


def times(sizes: tuple[float, ...]) -> str:
    """Return sizes for a sentence.

    Example:
        >>> times((64, 96.0, 95.5))
        '64 x 96 x 95.5'
    """
    return " x ".join(f"{size:g}" for size in sizes)
