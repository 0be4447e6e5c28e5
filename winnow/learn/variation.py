"""How much a score varies by itself: the same training with other seeds, and two settings compared pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 beyond
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)


@dataclass(frozen=True)
class Spread:
    """Scores of the same training under several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Their standard deviation; 0 for a single one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.deviation:.3f} ({len(self.values)} runs)"


@dataclass(frozen=True)
class Difference:
    """A minus B, paired by seed, with a 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        verdict = "larger than the spread" if self.is_real else "no more than the spread: it may be chance"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f}), {verdict}"


def repeat(measure: Callable[[int], float], n: int = 5, *, seed: int = 0) -> Spread:
    """`measure(seed)` for `n` seeds: a function that trains with that seed and gives one score."""
    if n < 1:
        raise ValueError(f"Repeating {n} times measures nothing: repeat at least once.")
    return Spread(tuple(float(measure(seed + i)) for i in range(n)))


def compare_paired(a: Spread | Sequence[float], b: Spread | Sequence[float]) -> Difference:
    """Whether A differs from B by more than chance; entry i of both must have the same seed or split."""
    a, b = (np.asarray(getattr(values, "values", values), float) for values in (a, b))
    if a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"{len(a)} and {len(b)} runs can't be paired: run both settings with the same seeds, twice."
        )
    gaps = a - b
    quantile = STUDENT[len(gaps) - 2] if len(gaps) - 2 < len(STUDENT) else 1.96
    half = quantile * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return Difference(float(gaps.mean()), float(gaps.mean() - half), float(gaps.mean() + half))


def random_sides(labels: np.ndarray, *, valid: float = 0.2, seed: int = 0) -> np.ndarray:
    """A random split (n,), True for validation, each class divided evenly: for repeats, never for the frozen split."""
    labels, side = np.asarray(labels), np.zeros(len(labels), bool)
    random = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        side[rows[: max(1, round(valid * len(rows)))]] = True
    return side


def repeat_probe(
    features: np.ndarray,  # (n, d)
    labels: np.ndarray,  # (n,)
    classes: Sequence[str],
    n: int = 5,
    *,
    seed: int = 0,
    **fitting,  # fit_probe's options
) -> Spread:
    """Macro-F1 of the probe over `n` seeds and random splits: seconds, and it shows how far to trust one score."""
    from winnow.learn.evaluation import evaluate
    from winnow.learn.probe import fit_probe

    def measure(number: int) -> float:
        check = random_sides(labels, seed=number)
        probe = fit_probe(features[~check], labels[~check], n_classes=len(classes), seed=number, **fitting)
        return evaluate(labels[check], probe.predict_proba(features[check]), classes, resamples=0).macro_f1

    return repeat(measure, n, seed=seed)
