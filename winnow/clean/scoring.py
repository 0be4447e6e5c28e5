"""Scores of given labels: the views combined, and the odds that another class is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from winnow.clean import views
from winnow.clean.labels import against
from winnow.learn.probe import softmax

FEW = 4  # fewer photos than this say nothing about each other's labels
SHARED_PRIOR = 0.5  # how far a rare class is helped: 0 not at all, 1 as if all classes were equally common
MARGIN_WEIGHT = 0.3  # of a training run's margins, beside all other views together
WEIGHT_ROWS = 4000  # photos from which the views' weights are learned


@dataclass(frozen=True)
class LabelScores:
    """What `score_labels` found, in the order of the photos."""

    labels: np.ndarray  # (n,) as given
    probs: np.ndarray  # (n, k) combined, nobody having learned from its own label
    views: dict[str, np.ndarray]  # name: (n, k)
    weights: dict[str, float]  # how much each view counts
    nearest: np.ndarray  # (n, v) row numbers, nearest first
    similarity: np.ndarray  # (n, v) cosine
    margins: np.ndarray | None = None  # (n,) a training run's, NaN where it saw none

    @property
    def confidence(self) -> np.ndarray:
        """Probability (n,) of the given label."""
        return self.probs[np.arange(len(self.labels)), self.labels]

    @property
    def rival(self) -> np.ndarray:
        """The likeliest class (n,) other than the given one."""
        others = self.probs.copy()
        others[np.arange(len(self.labels)), self.labels] = -1
        return others.argmax(axis=1)

    @property
    def suspicion(self) -> np.ndarray:
        """0 to 1 (n,): the probability of the likeliest other class against the given one's; above 0.5 it wins."""
        return against(self.probs, self.labels)

    def disbelieved(self, row: int) -> bool:
        """Whether a training run gave the label of photo `row` a margin below 0 on average."""
        return self.margins is not None and bool(self.margins[row] < 0)

    @property
    def suggested(self) -> np.ndarray:
        """The likeliest class (n,), which may be the given one."""
        return np.where(self.suspicion > 0.5, self.rival, self.labels)


def score_labels(
    features: np.ndarray | Sequence[np.ndarray],  # (n, d), or several of them: one for each backbone and size
    labels: np.ndarray,  # (n,) in 0..n_classes-1
    *,
    n_classes: int,
    groups: Sequence | None = None,  # (n,) photos with the same group never vote on each other
    margins: np.ndarray
    | None = None,  # (n,) how far a training run believed each given label; NaN: not trained on
    seed: int = 0,
) -> LabelScores:
    """Score every label by all views; seconds for 10,000 photos.

    Each set of features gives four views (probe, kernel, neighbours, prototypes). Their log-probabilities are added
    with the weights that make the given labels likeliest (stacking, Wolpert 1992): a view that is poor on this data
    set falls silent.
    """
    sets = [features] if isinstance(features, np.ndarray) else list(features)
    labels = np.asarray(labels, np.int64)
    groups = views.group_numbers(groups)
    if len(labels) < FEW or n_classes < 2:
        return _nothing(labels, n_classes)
    found, nearest, similarity = {}, None, None
    for number, block in enumerate(sets):
        few, close, alike = _views_of(block, labels, n_classes, groups, seed)
        found |= {name if not number else f"{name} {number + 1}": probs for name, probs in few.items()}
        if not number:
            nearest, similarity = close, alike
    probs, weights = combine(found, labels, seed=seed)
    if margins is not None:
        probs = believe(probs, labels, np.asarray(margins, float))
        weights["training"] = MARGIN_WEIGHT
    return LabelScores(labels, probs, found, weights, nearest, similarity, margins)


def combine(found: dict[str, np.ndarray], labels: np.ndarray, *, seed: int = 0):
    """Probabilities (n, k) from several views (n, k), and the weight of each by name."""
    logs = np.stack([np.log(probs + 1e-4) for probs in found.values()])
    logs -= logs.mean(axis=2, keepdims=True)
    rows = np.random.default_rng(seed).permutation(len(labels))[:WEIGHT_ROWS]
    weight = _stack(logs[:, rows], labels[rows])
    probs = share_prior(softmax(np.tensordot(weight, logs, axes=1)), labels)
    return probs.astype(np.float32), {name: float(w) for name, w in zip(found, weight, strict=True)}


def share_prior(probs: np.ndarray, labels: np.ndarray, *, power: float = SHARED_PRIOR) -> np.ndarray:
    """Probabilities (n, k) as if classes were closer to equally common, so that wrong labels of rare ones show."""
    common = (np.bincount(labels, minlength=probs.shape[1]) + 1) / (len(labels) + probs.shape[1])
    lifted = probs / common**power
    return lifted / lifted.sum(axis=1, keepdims=True)


def believe(probs: np.ndarray, labels: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Probabilities (n, k) in which the odds of each given label follow its training margin too.

    Margins of a run that saw the labels can't be stacked (they would believe themselves): they are put on the scale
    of the odds (same spread) and added with a fixed weight (AUM: Pleiss et al., arXiv 2001.10528).
    """
    seen = np.isfinite(margins)
    if seen.sum() < FEW or np.nanstd(margins) < 1e-9:
        return probs
    rows = np.arange(len(labels))
    suspicion = np.clip(against(probs, labels), 1e-6, 1 - 1e-6)
    odds = np.log(suspicion / (1 - suspicion))
    shift = np.where(seen, (margins - np.nanmean(margins)) / np.nanstd(margins), 0) * odds[seen].std()
    moved = probs.copy()
    moved[rows, labels] *= np.exp(np.clip(MARGIN_WEIGHT * shift, -20, 20))
    return (moved / moved.sum(axis=1, keepdims=True)).astype(np.float32)


def _views_of(block, labels, n_classes, groups, seed):
    x, scale = views.prepare(block)
    options = {"n_classes": n_classes, "groups": groups}
    nearest, similarity = views.find_neighbours(x, scale, groups=groups, seed=seed)
    found = {
        "probe": views.probe_view(x, labels, seed=seed, **options),
        "kernel": views.kernel_view(x, labels, seed=seed, **options),
        "neighbours": views.neighbour_view(nearest, similarity, labels, n_classes=n_classes),
        "prototypes": views.prototype_view(x, labels, **options),
    }
    return found, nearest, similarity


def _stack(
    logs: np.ndarray, labels: np.ndarray, *, steps: int = 200, rate: float = 0.3, shrink: float = 0.05
):
    """Weights (v,), none below 0, of log-probabilities (v, n, k); `shrink` pulls them to equal ones."""
    count = len(logs)
    weight = np.full(count, 1 / count)
    truth = np.eye(logs.shape[2], dtype=np.float32)[labels]
    for _ in range(steps):
        error = softmax(np.tensordot(weight, logs, axes=1)) - truth
        slope = (logs * error).sum(axis=2).mean(axis=1) + shrink * (weight - 1 / count)
        weight = np.maximum(weight - rate * slope, 0)
    return weight


def _nothing(labels: np.ndarray, n_classes: int) -> LabelScores:
    """Too few photos or classes to say anything: every label is believed."""
    n = len(labels)
    probs = np.eye(max(n_classes, 1), dtype=np.float32)[labels]
    return LabelScores(labels, probs, {}, {}, np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32))
