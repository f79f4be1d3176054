"""Dividing groups into parts so that every class is in every part and the parts are balanced.

scikit-learn's `StratifiedGroupKFold` balances, but promises nothing: with 3 positive patients of 12 it returned folds
without a positive, without a word. Here a part without a class is the first thing to be avoided, and said where it
cannot be.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Starts from several orders cost milliseconds for hundreds of groups; thousands of groups balance by themselves.
_NUM_STARTS = 8
_MANY_GROUPS = 5000

# More starts only while a class is missing somewhere, which takes groups of three and more classes.
_MAX_STARTS = 64
_MAX_PASSES = 10

# Where moving single groups finds nothing, all divisions of few groups are tried (12 groups in 2 parts: 4096).
_MAX_DIVISIONS = 5000


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Groups that must stay whole.

    Args:
        keys: One text a group, different; with the seed they decide the order, and nothing else does.
        counts: Scans of each class, ``(G, C)``.
    """

    keys: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    def num_with_class(self) -> npt.NDArray[np.int64]:
        """Return how many groups hold each class, ``(C,)``."""
        numbers: npt.NDArray[np.int64] = np.count_nonzero(self.counts, axis=0).astype(np.int64)
        return numbers


def allocate(groups: Groups, *, shares: Sequence[float], seed: int) -> npt.NDArray[np.int64] | None:
    """Return the part of every group, or None where a class that occurs cannot be in every part.

    Greedy from several seeded orders, each refined by moving single groups; the best balance of scans and groups of
    each class wins. With groups of one class, or with two classes, a class of as many groups as there are parts always
    gets into each of them; with more classes that share groups it may be impossible.

    Args:
        groups: To be divided.
        shares: Wanted share of the scans of each part; their sum is 1.
        seed: Of the order.

    Returns:
        Part of each group, ``(G,)``; independent of the order in which the groups are given.

    Example:
        >>> groups = Groups(keys=("a", "b", "c", "d"), counts=np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))
        >>> sorted(allocate(groups, shares=(0.5, 0.5), seed=0).tolist())
        [0, 0, 1, 1]
    """
    if (groups.num_with_class()[groups.counts.any(axis=0)] < len(shares)).any():
        return None
    best: _Allocation | None = None
    few = len(groups.keys) <= _MANY_GROUPS
    num_starts = _NUM_STARTS if few else 1
    for start in range(_MAX_STARTS):
        if start >= num_starts and best is not None and best.num_missing == 0:
            break
        candidate = _Allocation(groups, shares)
        order = _order(groups, seed=seed, start=start)
        candidate.fill(order)
        if few or candidate.num_missing:
            candidate.refine(order)
        if best is None or candidate.objective() < best.objective():
            best = candidate
    if best is not None and best.num_missing:
        best = _best_of_all(groups, shares)
    return best.parts if best is not None and best.num_missing == 0 else None


def _best_of_all(groups: Groups, shares: Sequence[float]) -> _Allocation | None:
    """Return the best of all divisions, or None where there are too many to try."""
    if len(shares) ** len(groups.keys) > _MAX_DIVISIONS:
        return None
    by_key = sorted(range(len(groups.keys)), key=lambda index: groups.keys[index])
    divisions = itertools.product(range(len(shares)), repeat=len(by_key))
    return min((_divided(groups, shares, by_key, parts) for parts in divisions), key=_Allocation.objective)


def _divided(groups: Groups, shares: Sequence[float], order: Sequence[int], parts: Sequence[int]) -> _Allocation:
    allocation = _Allocation(groups, shares)
    allocation.place(order, parts)
    return allocation


def _order(groups: Groups, *, seed: int, start: int) -> list[int]:
    """Return groups of several classes first, then (in the first start) large ones; ties by the seed."""
    sizes = groups.counts.sum(axis=1)
    num_classes = np.count_nonzero(groups.counts, axis=1)

    def rank(index: int) -> tuple[int, int, str]:
        draw = hashlib.sha256(f"{seed}:{start}:{groups.keys[index]}".encode()).hexdigest()
        if start >= _NUM_STARTS and start % 2:  # a class is still missing: half of the further starts take any order
            return 0, 0, draw
        return -int(num_classes[index]), -int(sizes[index]) if start == 0 else 0, draw

    return sorted(range(len(groups.keys)), key=rank)


class _Allocation:
    """Parts that are being filled. Plain Python: a group has few classes, and there are few parts."""

    def __init__(self, groups: Groups, shares: Sequence[float]) -> None:
        self.parts = np.full(len(groups.keys), -1, dtype=np.int64)
        self._shares = [float(share) for share in shares]
        classes = [np.flatnonzero(row) for row in groups.counts]
        self._contents = [
            [(int(c), int(row[c])) for c in present] for row, present in zip(groups.counts, classes, strict=True)
        ]
        totals = groups.counts.sum(axis=0)
        self._weights = [1.0 / float(total) ** 2 if total else 0.0 for total in totals]
        self._size_weight = 1.0 / float(groups.counts.sum()) ** 2
        self._scarcity = [1.0 / max(int(number), 1) for number in groups.num_with_class()]
        self._holder_weights = [scarcity**2 for scarcity in self._scarcity]
        self._filled = [[0] * groups.counts.shape[1] for _ in shares]
        self._holders = [[0] * groups.counts.shape[1] for _ in shares]
        self._sizes = [0] * len(self._shares)
        self.num_missing = int((totals > 0).sum()) * len(self._shares)

    def fill(self, order: Sequence[int]) -> None:
        """Put each group where it brings the scarcest missing classes, then where it balances best."""
        for group in order:
            parts = range(len(self._shares))
            part = min(parts, key=lambda part: (-self._newly(group, part), self._cost_of_adding(group, part), part))
            self._put(group, part)

    def place(self, order: Sequence[int], parts: Sequence[int]) -> None:
        """Put each group of ``order`` into the part at its place in ``parts``."""
        for group, part in zip(order, parts, strict=True):
            self._put(group, part)

    def refine(self, order: Sequence[int]) -> None:
        """Move single groups as long as that brings a missing class or a better balance."""
        for _ in range(_MAX_PASSES):
            num_moved = sum(self._move_if_better(group) for group in order)
            if num_moved == 0:
                return

    def objective(self) -> tuple[int, float]:
        """Return (classes missing in parts, imbalance); smaller is better."""
        imbalance = 0.0
        for part, share in enumerate(self._shares):
            squares = sum(w * n * n for w, n in zip(self._weights, self._filled[part], strict=True))
            squares += sum(w * n * n for w, n in zip(self._holder_weights, self._holders[part], strict=True))
            imbalance += (squares + self._size_weight * self._sizes[part] ** 2) / share
        return self.num_missing, round(imbalance, 12)  # rounded: the order of additions must not decide

    def _move_if_better(self, group: int) -> bool:
        home = int(self.parts[group])
        self._take(group)
        lost = self._newly(group, home)
        cost = self._cost_of_adding(group, home)
        options = [
            (-self._newly(group, part), self._cost_of_adding(group, part), part)
            for part in range(len(self._shares))
            if part != home
        ]
        gain, new_cost, part = min(options, default=(0.0, cost, home))
        better = (gain, new_cost) < (-lost, cost * (1 - 1e-9))
        self._put(group, part if better else home)
        return better

    def _newly(self, group: int, part: int) -> float:
        holders = self._holders[part]
        return sum(self._scarcity[c] for c, _ in self._contents[group] if holders[c] == 0)

    def _cost_of_adding(self, group: int, part: int) -> float:
        # The change of sum((n - share * total)^2) / share, up to a constant that is the same for all parts; n are
        # the scans of each class, the groups of each class, and all scans. Without the groups a part could be filled
        # with many small ones: patients with few scans are not like the others.
        filled, holders, size, cost = self._filled[part], self._holders[part], 0, 0.0
        for c, number in self._contents[group]:
            cost += self._weights[c] * (2 * filled[c] + number) * number
            cost += self._holder_weights[c] * (2 * holders[c] + 1)
            size += number
        cost += self._size_weight * (2 * self._sizes[part] + size) * size
        return cost / self._shares[part]

    def _put(self, group: int, part: int) -> None:
        self.parts[group] = part
        self._change(group, part, +1)

    def _take(self, group: int) -> None:
        self._change(group, int(self.parts[group]), -1)

    def _change(self, group: int, part: int, sign: int) -> None:
        for c, number in self._contents[group]:
            was_missing = self._holders[part][c] == 0
            self._holders[part][c] += sign
            self._filled[part][c] += sign * number
            self._sizes[part] += sign * number
            self.num_missing += int(self._holders[part][c] == 0) - int(was_missing)
