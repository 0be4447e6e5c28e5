"""Which pairs of pictures deserve a comparison: each picture's nearest by its looks and by frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from winnow.clean.index import EXACT_UP_TO, open_index
from winnow.clean.looks import Look, Whitening, as_vectors
from winnow.clean.spool import roomy

NEAREST = 2  # proposals for each picture and kind of vector
RIVAL_RANKS = slice(3, 9)  # nearest pictures that are hardly copies: few pictures have so many
LIKELY_LOOK, LIKELY_FEATURE = 0.5, 0.45  # a pair below both cosines isn't worth a comparison
SAMPLE = 4000  # pictures from which the whitening is learned
ROWS = 1024


@dataclass(frozen=True)
class Proposal:
    """Compare `first`, changed as `variant` says (0-7 a turn, 8 trimmed, above: as it is), with `second`."""

    first: int
    second: int
    variant: int


def propose(
    looks: Sequence[Look],
    features: np.ndarray | None,  # (n, d)
    *,
    rivals: int,  # at most so many pairs that are alike and yet no copies
) -> tuple[list[Proposal], list[Proposal]]:
    """Pairs to compare, and pairs that show how alike the different pictures of this set are."""
    queries = _look_vectors(looks)
    index = _Index(np.ascontiguousarray(queries[:, 0], np.float32))
    encoded = None if features is None else Whitening(_sample(features), dimensions=256)(features)
    feature_index = None if encoded is None else _Index(encoded)
    best: dict[tuple[int, int], tuple[float, Proposal]] = {}
    others: list[Proposal] = []
    step = -(-len(looks) // EXACT_UP_TO)  # rivals are drawn from some pictures where there are very many
    for rows in _row_blocks(len(looks)):
        cosine, variant, near = index.nearest(queries[rows], RIVAL_RANKS.stop)
        for i, number in enumerate(rows):
            for rank in range(min(NEAREST, near.shape[1])):
                if cosine[i, rank] >= LIKELY_LOOK:
                    _offer(best, cosine[i, rank], Proposal(number, int(near[i, rank]), int(variant[i, rank])))
            others += [
                Proposal(number, int(near[i, rank]), int(variant[i, rank]))
                for rank in range(*RIVAL_RANKS.indices(near.shape[1]))
                if number % step == 0
            ]
        if feature_index:
            _propose_by_features(best, feature_index, encoded, queries, rows)
    draw = np.random.default_rng(0).permutation(len(others))[: min(rivals, max(2 * len(looks), 60))]
    return [proposal for _, proposal in best.values()], [others[number] for number in draw]


def _look_vectors(looks: Sequence[Look]) -> np.ndarray:
    """Whitened vectors (n, 18, k) float16 of all variants."""
    whiten = Whitening(as_vectors(np.stack([look.grids[0] for look in _sample(looks)])), dimensions=128)
    vectors = None
    for number, look in enumerate(looks):
        found = whiten(as_vectors(look.grids)).astype(np.float16)
        vectors = roomy((len(looks), *found.shape), np.float16) if vectors is None else vectors
        vectors[number] = found
    return vectors


def _sample(items):
    """At most `SAMPLE` items, spread evenly."""
    step = -(-len(items) // SAMPLE)
    return items[::step]


def _row_blocks(count: int) -> Iterator[range]:
    for start in range(0, count, ROWS):
        yield range(start, min(start + ROWS, count))


def _offer(best: dict, cosine: float, proposal: Proposal) -> None:
    """Keep the better of two ways to lay one picture over another."""
    key = (min(proposal.first, proposal.second), max(proposal.first, proposal.second))
    if key not in best or best[key][0] < cosine:
        best[key] = (cosine, proposal)


def _propose_by_features(
    best: dict, index: _Index, encoded: np.ndarray, queries: np.ndarray, rows: range
) -> None:
    cosine, _, near = index.nearest(encoded[rows][:, None], NEAREST)
    for i, first in enumerate(rows):
        for value, second in zip(cosine[i], near[i], strict=True):
            looks_like = queries[first].astype(np.float32) @ queries[second, 0].astype(np.float32)
            if value >= LIKELY_FEATURE or looks_like.max() >= LIKELY_LOOK:
                _offer(best, float(looks_like.max()), Proposal(first, int(second), int(looks_like.argmax())))


class _Index:
    """Nearest neighbours by cosine among unit vectors (n, k), the query's own row left out."""

    def __init__(self, base: np.ndarray):
        self.base, self.approximate = base, open_index(base)
        self.asked = 0

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cosines, variants and numbers, each (rows, count), for the next rows' queries (rows, variants, k)."""
        start, self.asked = self.asked, self.asked + len(queries)
        search = self._search_index if self.approximate is not None else self._search_all
        return search(queries.astype(np.float32), start, min(count, len(self.base) - 1))

    def _search_all(self, queries: np.ndarray, start: int, count: int):
        cosine = queries[:, 0] @ self.base.T
        variant = np.zeros(cosine.shape, np.int8)
        for number in range(1, queries.shape[1]):
            other = queries[:, number] @ self.base.T
            better = other > cosine
            cosine[better], variant[better] = other[better], number
        cosine[np.arange(len(queries)), start + np.arange(len(queries))] = -2
        top = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(top, np.argsort(-np.take_along_axis(cosine, top, 1), axis=1), 1)
        return np.take_along_axis(cosine, order, 1), np.take_along_axis(variant, order, 1), order

    def _search_index(self, queries: np.ndarray, start: int, count: int):
        rows, variants, _ = queries.shape
        near, cosine = self.approximate.search(queries.reshape(rows * variants, -1), count + 1)
        shape = (rows, variants * (count + 1))
        near, cosine = near.reshape(shape), cosine.reshape(shape)
        cosine[near == start + np.arange(rows)[:, None]] = -2
        variant = np.broadcast_to(np.repeat(np.arange(variants), count + 1), shape)
        order = np.argsort(-cosine, axis=1)
        return _first_of_each(order, near, cosine, variant, count)


def _first_of_each(order, near, cosine, variant, count: int):
    """The best `count` different neighbours of each row (a neighbour may come with several variants)."""
    cosines, variants = np.full((len(near), count), -2, np.float32), np.zeros((len(near), count), np.int8)
    numbers = np.zeros((len(near), count), np.int64)
    for row, columns in enumerate(order):
        _, firsts = np.unique(near[row, columns], return_index=True)
        chosen = columns[np.sort(firsts)[:count]]
        cosines[row, : len(chosen)] = cosine[row, chosen]
        variants[row, : len(chosen)] = variant[row, chosen]
        numbers[row, : len(chosen)] = near[row, chosen]
    return cosines, variants, numbers
