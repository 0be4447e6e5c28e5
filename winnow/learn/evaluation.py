"""Scores that are honest for uneven classes, each beside the majority baseline, and pictures of the mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Scores:
    """How good a set of probabilities is; `intervals` holds 95 % bootstrap bounds for the names that have them."""

    accuracy: float
    error_rate: float
    macro_f1: float
    balanced_accuracy: float
    recall: dict[str, float]
    auroc: float | None = None  # where there are two classes
    n: int = 0
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        rows = [("accuracy", "accuracy"), ("error rate", "error_rate"), ("macro-F1", "macro_f1")]
        rows += [("balanced accuracy", "balanced_accuracy"), ("AUROC", "auroc")]
        cells = "".join(self._row(name, getattr(self, key), self.intervals.get(key)) for name, key in rows)
        cells += "".join(self._row(f"recall of {name}", value, None) for name, value in self.recall.items())
        return f"<table><tbody>{cells}</tbody></table><p>{self.n} photos; in brackets: 95 % interval</p>"

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.3f}   macro-F1 {self.macro_f1:.3f}   balanced {self.balanced_accuracy:.3f}"

    @staticmethod
    def _row(name: str, value: float | None, bounds) -> str:
        if value is None:
            return ""
        between = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
        return f"<tr><th>{name}</th><td>{value:.3f}{between}</td></tr>"


def evaluate(
    labels: np.ndarray,  # (n,) class numbers
    probs: np.ndarray,  # (n, k) probabilities
    classes: Sequence[str],
    *,
    resamples: int = 200,  # bootstrap samples for the intervals; 0: none
    seed: int = 0,
) -> Scores:
    """Accuracy, macro-F1, balanced accuracy, recall of each class, AUROC for two classes, with bootstrap intervals."""
    labels, probs = np.asarray(labels, int), np.asarray(probs, float)
    if len(labels) != len(probs) or not len(labels) or probs.shape[1] != len(classes):
        raise ValueError(
            f"{len(labels)} labels and probabilities {probs.shape} don't fit {len(classes)} classes."
        )
    k, guesses = len(classes), probs.argmax(axis=1)
    table = confusion(labels, guesses, k)
    accuracy, macro_f1, balanced, recall = _summary(table)
    return Scores(
        accuracy=accuracy,
        error_rate=1 - accuracy,
        macro_f1=macro_f1,
        balanced_accuracy=balanced,
        recall={name: float(value) for name, value in zip(classes, recall, strict=True)},
        auroc=auroc(labels, probs[:, 1]) if k == 2 else None,
        n=len(labels),
        intervals=_intervals(labels, probs, guesses, k, resamples, seed),
    )


def majority_baseline(
    train_labels: Sequence[int] | np.ndarray, labels: Sequence[int] | np.ndarray, classes: Sequence[str]
) -> Scores:
    """Scores on `labels` of always saying the class that is commonest in `train_labels`."""
    commonest = np.bincount(np.asarray(train_labels, int), minlength=len(classes)).argmax()
    return evaluate(labels, np.tile(np.eye(len(classes))[commonest], (len(labels), 1)), classes)


def confusion(labels: np.ndarray, guesses: np.ndarray, k: int) -> np.ndarray:
    """Counts (k, k): a row for each true class, a column for each guess."""
    return np.bincount(np.asarray(labels) * k + np.asarray(guesses), minlength=k * k).reshape(k, k)


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Chance that a random photo of class 1 scores above one of class 0, ties counted half; None with one class."""
    labels = np.asarray(labels, bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return None
    _, tie, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[tie]  # equal scores share their mean rank
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _summary(table: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Accuracy, macro-F1 and balanced accuracy over the classes that occur, and each class's recall (nan if absent)."""
    hits, true, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / true
        f1 = 2 * hits / (true + said)
    seen = (true + said) > 0
    return float(hits.sum() / true.sum()), float(f1[seen].mean()), float(np.nanmean(recall)), recall


def _intervals(labels, probs, guesses, k, resamples, seed) -> dict[str, tuple[float, float]]:
    if not resamples:
        return {}
    random, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = random.integers(0, len(labels), len(labels))
        accuracy, macro_f1, balanced, _ = _summary(confusion(labels[rows], guesses[rows], k))
        area = auroc(labels[rows], probs[rows, 1]) if k == 2 else None
        drawn.append((accuracy, macro_f1, balanced, np.nan if area is None else area))
    names = ("accuracy", "macro_f1", "balanced_accuracy", "auroc")[
        : 4 if k == 2 and not np.isnan(drawn).all(0)[3] else 3
    ]
    low, high = np.nanpercentile(np.array(drawn, float)[:, : len(names)], [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}
