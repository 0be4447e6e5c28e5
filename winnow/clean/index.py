"""Nearest neighbours among very many unit vectors: usearch's index (HNSW: Malkov and Yashunin, 2018).

Its answers are nearly the exact ones, its time grows with n·log n instead of n², and it holds half precision.
"""

from __future__ import annotations

import warnings

import numpy as np

EXACT_UP_TO = 50_000  # images; above, the index takes over
EXPANSION = (
    128  # candidates that are kept while the graph is built and searched: more are slower and more exact
)
PART = 10_000  # vectors given to it at once


class NoIndex(UserWarning):
    """There are more images than are compared exactly, and usearch, which would find neighbours, isn't installed."""


class NearIndex:
    """Unit vectors (n, k) by row number."""

    def __init__(self, base: np.ndarray, *, expansion: int = EXPANSION):
        import onnxruntime  # noqa: F401 - it crashes the process where usearch was loaded before it
        from usearch.index import Index

        self.index = Index(
            ndim=base.shape[1], metric="ip", dtype="f16", expansion_add=expansion, expansion_search=expansion
        )
        for start in range(0, len(base), PART):
            part = np.ascontiguousarray(base[start : start + PART], np.float32)
            self.index.add(np.arange(start, start + len(part)), part)

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and cosines (m, count) of the nearest of each of `queries` (m, k), nearest first.

        Where fewer are found, the last places hold row 0 at a cosine of -2.
        """
        found = self.index.search(np.ascontiguousarray(queries, np.float32), count)
        shape = (len(queries), -1)  # one query alone comes back without its first axis
        near = found.keys.reshape(shape).astype(np.int64)
        cosine = 1 - found.distances.reshape(shape).astype(np.float32)
        missing = ~np.isfinite(cosine)
        near[missing], cosine[missing] = 0, -2
        return near, cosine


def open_index(
    base: np.ndarray, *, expansion: int = EXPANSION, images: int | None = None
) -> NearIndex | None:
    """An index of `base` where there are more than `EXACT_UP_TO` images; None below, and without usearch.

    `images`: how many will be looked up, where that is not the rows of `base`.
    """
    images = len(base) if images is None else images
    if images <= EXACT_UP_TO:
        return None
    try:
        return NearIndex(base, expansion=expansion)
    except ImportError:
        warnings.warn(
            f"{images:,} images are compared without an index, which is slow or searches only a part of them: "
            "pip install 'winnow-images[scale]'.",
            NoIndex,
            stacklevel=3,
        )
        return None
