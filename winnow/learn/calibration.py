"""Probabilities that mean what they say: a temperature, the true shares of the classes, and a picture of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from winnow.learn.probe import softmax


def fit_temperature(probs: np.ndarray, labels: Sequence[int] | np.ndarray) -> float:
    """The T that makes `softmax(log(probs) / T)` likeliest for `labels`; above 1 where the model is too sure.

    Guo et al., arXiv 1706.04599. Golden-section search over T between 1/20 and 20, on a log scale.
    """
    logs, rows = np.log(np.clip(probs, 1e-12, 1)), np.arange(len(labels))

    def loss(log_t: float) -> float:
        return -np.log(np.clip(softmax(logs / np.exp(log_t))[rows, labels], 1e-12, 1)).mean()

    low, high, golden = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    for _ in range(40):
        one, two = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, two) if loss(one) < loss(two) else (one, high)
    return float(np.exp((low + high) / 2))


def apply_temperature(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, k) softened (above 1) or sharpened (below 1); the order of the classes stays."""
    return softmax(np.log(np.clip(probs, 1e-12, 1)) / temperature)


def restore_prior(probs: np.ndarray, *, prior: Sequence[float], sampled_prior: Sequence[float]) -> np.ndarray:
    """Undo what weighted sampling taught: times the true share over the sampled share, rows made to add up to 1.

    Saerens et al., Neural Computation 14 (2002). A learner's recipe holds both shares.
    """
    factors = np.asarray(prior, float) / np.maximum(np.asarray(sampled_prior, float), 1e-12)
    shifted = np.asarray(probs, float) * factors
    return shifted / shifted.sum(axis=1, keepdims=True)


def reliability(
    probs: np.ndarray, labels: Sequence[int] | np.ndarray, *, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How sure and how right, for each tenth of confidence: mean confidence, share right, count (each (bins,))."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == np.asarray(labels)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.bincount(place, confidence, bins) / counts,
            np.bincount(place, right, bins) / counts,
            counts,
        )


def calibration_error(probs: np.ndarray, labels: Sequence[int] | np.ndarray, *, bins: int = 10) -> float:
    """Expected calibration error: the mean gap between how sure and how right, weighted by count; 0 is best."""
    sure, right, counts = reliability(probs, labels, bins=bins)
    seen = counts > 0
    return float((np.abs(sure - right)[seen] * counts[seen]).sum() / counts.sum())


def plot_reliability(probs: np.ndarray, labels: Sequence[int] | np.ndarray, *, bins: int = 10, ax=None):
    """A picture: on the diagonal, 80 % sure means right 80 times of 100."""
    import matplotlib.pyplot as plt

    sure, right, counts = reliability(probs, labels, bins=bins)
    ax = ax or plt.subplots(figsize=(4, 4))[1]
    ax.plot([0, 1], [0, 1], "--", color="grey", label="as sure as right")
    ax.scatter(sure, right, s=10 + 200 * counts / counts.sum(), label="this model (area: photos)")
    ax.set(xlabel="how sure", ylabel="how often right", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_title(f"calibration error {calibration_error(probs, labels, bins=bins):.3f}")
    ax.legend(loc="upper left")
    return ax
