"""Numbers fitted on the validation photos when a model is exported. numpy only."""

from __future__ import annotations

import numpy as np


def fit_temperature(logits: np.ndarray, labels: np.ndarray, prior: np.ndarray) -> float:
    """The temperature that makes softmax(logits / T + log(prior)) most likely on (n, k) `logits`, (n,) `labels`.

    One number can't change which class is likeliest while `prior` is flat; it only says how sure to be
    (Guo et al. 2017, arXiv 1706.04599). Searched on a log grid from 0.1 to 50, refined twice.
    """
    low, high = np.log(0.1), np.log(50.0)
    for _ in range(3):
        grid = np.linspace(low, high, 25)
        losses = [_loss(logits, labels, prior, np.exp(t)) for t in grid]
        best = int(np.argmin(losses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return round(float(np.exp(grid[best])), 4)


def _loss(logits: np.ndarray, labels: np.ndarray, prior: np.ndarray, temperature: float) -> float:
    z = logits.astype(np.float64) / temperature + np.log(prior)
    z -= z.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over equal-width bins of the top probability, 0 to 1."""
    top = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    which = np.minimum((top * bins).astype(int), bins - 1)
    gaps = [
        abs(right[which == b].mean() - top[which == b].mean()) * (which == b).mean()
        for b in set(which.tolist())
    ]
    return float(sum(gaps))
