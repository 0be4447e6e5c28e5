"""How like the training photos a photo is: cosines to some of them in the model's own feature space. numpy only.

Deep nearest neighbours (Sun et al. 2022, arXiv 2204.06507) on standardised features, class by class so that the
nearest classes can be named. Chosen over class means, Mahalanobis distance, PCA residual, energy and the top
probability on photos of other things (figures and command: docs/share.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_ANCHORS = 600
NEAREST = 3
FALSE_ALARMS = 0.01  # share of validation photos that may be called "none of these"


@dataclass(frozen=True)
class Likeness:
    """The rule: a photo's likeness to a class is its mean cosine to the `nearest` closest anchors of that class."""

    mean: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    anchors: np.ndarray  # (a, d), standardised, of length 1
    owner: np.ndarray  # (a, k), 1 where the anchor is of the class
    nearest: int
    threshold: float = -1.0  # below it for every class: none of these

    def of(self, vectors: np.ndarray) -> np.ndarray:
        """Likeness (n, k), at most 1, of `vectors` (n, d)."""
        near = _unit((vectors - self.mean) / self.scale) @ self.anchors.T
        apart = near[:, None, :] - 3 * (1 - self.owner.T[None])  # other classes' anchors come last
        return np.sort(apart, axis=2)[:, :, -self.nearest :].mean(axis=2)


def fit_likeness(train: np.ndarray, labels: np.ndarray, valid: np.ndarray, *, classes: int) -> Likeness:
    """The rule for vectors `train` (n, d) with `labels` (n,), its threshold from the unseen `valid` (m, d)."""
    rows = _spread(labels, classes)
    scale = train.std(axis=0)
    mean, scale = train.mean(axis=0), np.where(scale > 1e-6, scale, 1).astype(np.float32)
    owner = (labels[rows, None] == np.arange(classes)).astype(np.float32)
    fewest = int(min((n for n in owner.sum(axis=0) if n), default=1))
    rule = Likeness(
        mean.astype(np.float32), scale, _unit((train[rows] - mean) / scale), owner, min(NEAREST, fewest)
    )
    best = rule.of(valid).max(axis=1)
    return Likeness(**{**rule.__dict__, "threshold": round(float(np.quantile(best, FALSE_ALARMS)), 5)})


def _spread(labels: np.ndarray, classes: int) -> np.ndarray:
    """At most `MOST_ANCHORS` rows, the classes in turn, so that a rare class is represented."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    turns = np.zeros(len(labels), int)
    for c in range(classes):
        mine = shuffled[labels[shuffled] == c]
        turns[mine] = np.arange(len(mine))
    return np.sort(shuffled[np.argsort(turns[shuffled], kind="stable")][:MOST_ANCHORS])


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)
