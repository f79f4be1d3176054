"""Near duplicates: scans that are rescaled, re-encoded, flipped or rotated copies of each other.

Two scans are compared by the correlation of their perceptual hashes, the best over all flips and quarter turns. How
much is enough depends on the data: pictures of one organ on one grid are alike without being copies. So each scan is
compared with a sample of the scans of other patients first, and a copy must stand out far above them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.csgraph

from medres.data.perceptual import coefficients_of

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

#: Least correlation of two copies, where other scans are not alike; docs/concepts/leakage.md has the error rates.
LEAST_SIMILARITY = 0.9

# A copy lies this many standard deviations above the scans of other patients, on Fisher's scale (atanh), where
# correlations are about normal. From the median and the upper fifth: up to a fifth of the scans may be copies of one.
_DEVIATIONS = 7.0
_UPPER = 0.8
_UPPER_DEVIATIONS = 0.8416
_NUM_OTHERS = 128

# A deviation from few scans is uncertain: at least 0.3 from 20 or fewer (that of heads is 0.17), 0.1 from 60. With
# fewer than three there is nothing to stand out from, and only what is the same to the last digit is a copy.
_LEAST_DEVIATION = 0.3
_TRUSTED_DEVIATION = 6.0
_FEWEST_OTHERS = 3
_SAME = 0.999

# Single precision: nothing can be asked to be more equal than this.
_EQUAL = 1 - 2e-6

# 512 x 512 products are 1 MB, which stays in the cache of a core.
_TILE = 512


@dataclass(frozen=True, kw_only=True)
class NearGroup:
    """Scans that are copies of each other, directly or through a third one.

    Args:
        members: Sample ids, sorted.
        similarity: Correlation of the least similar pair that links them.
        turned: Whether a link is a flipped or rotated copy.
    """

    members: tuple[str, ...]
    similarity: float
    turned: bool


class _Link(NamedTuple):
    left: int
    right: int
    similarity: float
    turned: bool


def find_near_duplicates(
    hashes: Mapping[str, str], *, patients: Mapping[str, str] | None = None, similarity: float = LEAST_SIMILARITY
) -> tuple[NearGroup, ...]:
    """Return the groups of scans that look the same; exact copies are among them.

    Args:
        hashes: Perceptual hashes by sample id; empty ones are alike to nothing, images and volumes are never alike.
        patients: Patient ids by sample id. Scans of one patient are then not compared with each other: they stay
            together anyway, and neighbouring slices of one scan look alike.
        similarity: Least correlation of two copies; where scans of other patients are alike, more is asked for.

    Returns:
        In the order of their first members; the same for any order of ``hashes``.

    Example:
        >>> import base64
        >>> noise = np.random.default_rng(0).integers(-99, 99, (3, 14, 14)).astype(np.int8)
        >>> noise[1] = noise[0].T  # as if its axes were exchanged
        >>> hashes = {name: f"2:{base64.b64encode(v.tobytes()).decode()}" for name, v in zip("abc", noise)}
        >>> [(group.members, group.turned) for group in find_near_duplicates(hashes)]
        [(('a', 'b'), True)]
    """
    groups: list[NearGroup] = []
    for dims in (2, 3):
        ids = sorted(sample for sample, text in hashes.items() if text.startswith(f"{dims}:"))
        if len(ids) > 1:
            vectors = _unit_vectors([hashes[sample] for sample in ids])
            owners = _numbered([patients[sample] for sample in ids]) if patients else np.arange(len(ids))
            groups.extend(_joined(ids, list(_links(vectors, owners, dims, similarity))))
    return tuple(sorted(groups, key=lambda group: group.members))


def _unit_vectors(texts: Sequence[str]) -> Floats:
    vectors = np.stack([coefficients_of(text).ravel() for text in texts]).astype(np.float32)
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _numbered(names: Sequence[str]) -> Indices:
    numbers: Indices = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return numbers


class _Comparison:
    """Products of vectors, the largest over all flips and exchanges of axes of the second one."""

    def __init__(self, dims: int, length: int) -> None:
        self._dims = dims
        number = round(length ** (1 / dims))
        positions = np.arange(length).reshape((number,) * dims)
        self._orders = [positions.transpose(axes).ravel() for axes in itertools.permutations(range(dims))]
        frequencies = np.indices(positions.shape).reshape(dims, -1)
        parity = frequencies.T % 2 @ (1 << np.arange(dims))
        self._classes = [np.flatnonzero(parity == index) for index in range(2**dims)]
        orbits = np.sort(frequencies, axis=0)
        _, orbit = np.unique(orbits, axis=1, return_inverse=True)
        self._orbits = [np.flatnonzero(orbit == index) for index in range(int(orbit.max()) + 1)]

    def best(self, left: Floats, right: Floats) -> Floats:
        """Return the largest product of each pair, ``(L, R)``.

        A flip changes the signs of the odd frequencies of its axis only. So the products are summed by parity once,
        and the sums are added and subtracted in all ways (a Hadamard transform): 8 flips for the price of one.
        """
        largest: Floats | None = None
        for order in self._orders:
            turned = right[:, order]
            sums = [left[:, members] @ turned[:, members].T for members in self._classes]
            for _ in range(self._dims):
                pairs = list(zip(sums[::2], sums[1::2], strict=True))
                sums = [a + b for a, b in pairs] + [a - b for a, b in pairs]
            for total in sums:
                largest = total if largest is None else np.maximum(largest, total)
        assert largest is not None  # there is at least one order
        return largest

    def invariant(self, vectors: Floats) -> Floats:
        """Return vectors whose plain product is at least the best one: absolute values, sorted within each orbit.

        No sign makes a sum of products larger than that of the absolute values, and of all orders of two sequences
        the sorted ones have the largest sum of products.
        """
        sizes = np.abs(vectors)
        return np.concatenate([np.sort(sizes[:, members], axis=1) for members in self._orbits], axis=1)


def _links(vectors: Floats, owners: Indices, dims: int, similarity: float) -> Iterator[_Link]:
    """Yield the pairs of different owners that are copies, tile by tile; what the bound excludes is not looked at."""
    comparison = _Comparison(dims, vectors.shape[1])
    needed = _needed(vectors, owners, comparison, similarity)
    bounds = comparison.invariant(vectors)
    starts = range(0, len(vectors), _TILE)
    for top, left in itertools.combinations_with_replacement(starts, 2):
        rows, columns = np.arange(top, min(top + _TILE, len(vectors))), np.arange(left, min(left + _TILE, len(vectors)))
        asked = np.maximum(needed[rows, None], needed[columns])
        asked[(owners[rows, None] == owners[columns]) | (rows[:, None] >= columns)] = np.inf
        possible = bounds[rows] @ bounds[columns].T >= asked - 1e-4
        i, j = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
        if len(i) == 0:
            continue
        found = comparison.best(vectors[rows[i]], vectors[columns[j]])
        for a, b in np.argwhere(found >= asked[np.ix_(i, j)]):
            one, other = int(rows[i[a]]), int(columns[j[b]])
            as_it_is = float(vectors[one] @ vectors[other])
            turned = as_it_is < float(found[a, b]) - 0.05  # a symmetric picture is its own mirror image
            yield _Link(one, other, min(1.0, float(found[a, b])), turned)


def _needed(vectors: Floats, owners: Indices, comparison: _Comparison, similarity: float) -> Floats:
    """Return the correlation from which another scan is a copy of each scan, ``(N,)``."""
    others = np.random.default_rng(0).permutation(len(vectors))[:_NUM_OTHERS]
    needed = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _TILE):
        rows = slice(start, start + _TILE)
        scale = _fisher(comparison.best(vectors[rows], vectors[others]))
        for row, values, foreign in zip(
            range(start, len(vectors)), scale, owners[rows, None] != owners[others], strict=False
        ):
            needed[row] = max(similarity, _outstanding(values[foreign]))
    return needed


def _outstanding(values: Floats) -> float:
    """Return the correlation that stands out from others, given on Fisher's scale."""
    number = len(values)
    if number < _FEWEST_OTHERS:
        return _SAME
    # lower: of a few values it is the second largest, which one copy cannot move
    median, upper = np.quantile(values, [0.5, _UPPER], method="lower")
    least = min(_LEAST_DEVIATION, _TRUSTED_DEVIATION / number)
    deviation = max(float(upper - median) / _UPPER_DEVIATIONS, least)
    return min(float(np.tanh(median + _DEVIATIONS * deviation)), _EQUAL)


def _fisher(correlations: Floats) -> Floats:
    transformed: Floats = np.arctanh(np.clip(correlations, -1 + 1e-6, 1 - 1e-6))
    return transformed


def _joined(ids: Sequence[str], links: Sequence[_Link]) -> Iterator[NearGroup]:
    ends = np.array([(link.left, link.right) for link in links], dtype=np.int64).reshape(-1, 2)
    graph = scipy.sparse.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(ids), len(ids)))
    _, components = scipy.sparse.csgraph.connected_components(graph, directed=False)
    inside: dict[int, list[_Link]] = defaultdict(list)
    for link in links:
        inside[int(components[link.left])].append(link)
    for group in inside.values():
        members = {end for link in group for end in (link.left, link.right)}
        yield NearGroup(
            members=tuple(ids[index] for index in sorted(members)),
            similarity=min(link.similarity for link in group),
            turned=any(link.turned for link in group),
        )
