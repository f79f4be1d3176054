"""The learning-rate schedule: linear warm-up, then half a cosine to zero, counted in steps."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Return the factor on the learning rate at ``step`` (the first is 0).

    Example:
        >>> [round(warmup_cosine(s, total_steps=5, warmup_steps=1), 2) for s in range(5)]
        [1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
