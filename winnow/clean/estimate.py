"""About how many labels are wrong, and how long a person should go on reviewing.

The scores say which photos to look at first; how many of them are wrong is a second question. Photos that are easy to
tell apart answer it before any review: where the views are surest, whoever disagrees is mislabelled, so the share of
disagreement among them is a floor for the whole. The disagreement among all photos, the model's own mistakes included,
is a ceiling. Each reviewed photo then says more than either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SUREST = 0.3  # the share of photos whose disagreement is the floor
BINS = 400
SLOPES = np.geomspace(0.25, 6, 12)  # how steeply the odds of an error rise with the score's odds
TOTALS = 41
COVERED = 1.64  # standard deviations to each side of the median: a 90 % interval


@dataclass(frozen=True)
class Estimate:
    """What to expect of a review; every interval holds 90 %."""

    photos: int
    reviewed: int
    found: int  # wrong labels found so far
    wrong: float  # all wrong labels, those found included
    low: float
    high: float
    reviews: int  # further reviews, most suspect first, until 90 % of them are found
    reviews_low: int
    reviews_high: int

    @property
    def remaining(self) -> float:
        """Wrong labels not yet found."""
        return max(0.0, self.wrong - self.found)

    @property
    def advice(self) -> str:
        """One sentence: go on for how long, or stop here."""
        if self.reviews <= 0 or self.remaining < 0.5:
            return f"Stop here: about {self.remaining:.0f} wrong labels are left, and they are hard to find."
        return f"Review about {self.reviews} more photos ({self.reviews_low} to {self.reviews_high}) to find 90 %."

    def __str__(self) -> str:
        part = f"About {self.wrong:.0f} of {self.photos} labels are wrong ({self.low:.0f} to {self.high:.0f})"
        return f"{part}; {self.found} found in {self.reviewed} reviews. {self.advice}"


def estimate_errors(
    suspicion: np.ndarray,  # (n,) 0 to 1, of the labels as they were given
    expected: tuple[
        float, float, float
    ],  # share of wrong labels: floor, guess, ceiling (see `expected_share`)
    *,
    reviewed: np.ndarray | None = None,  # (n,) True where a person has looked
    wrong: np.ndarray | None = None,  # (n,) True where that person found the label wrong
) -> Estimate:
    """Estimate wrong labels and reviews still needed, from the scores and from what has been reviewed so far.

    The chance of an error is a logistic function of the score's odds. Its slope and the total are not known: every
    pair on a grid counts by how well it explains the reviews (Bayes), so the interval shrinks as reviews come in.
    """
    n = len(suspicion)
    reviewed = np.zeros(n, bool) if reviewed is None else np.asarray(reviewed, bool)
    wrong = np.zeros(n, bool) if wrong is None else np.asarray(wrong, bool) & reviewed
    found = int(wrong.sum())
    if not n or not expected[2]:
        return Estimate(n, int(reviewed.sum()), found, found, found, found, 0, 0, 0)
    odds, where = _bins(suspicion)
    every, seen, bad = (
        np.bincount(where[mask], minlength=BINS) for mask in (np.ones(n, bool), reviewed, wrong)
    )
    chances, weight = _posterior(odds, every, seen, bad, expected)
    left = (every - seen) * chances
    total = found + left.sum(axis=1)
    spread = np.sqrt((left * (1 - chances)).sum(axis=1))
    low, middle, high = _quantiles(
        np.concatenate([total - COVERED * spread, total, total + COVERED * spread]),
        np.concatenate([weight * 0.25, weight * 0.5, weight * 0.25]),
    )
    needed = _reviews_needed(left, every - seen, found, total)
    few, some, many = _quantiles(needed, weight)
    low, high = max(found, low), min(n, high)
    return Estimate(
        n, int(reviewed.sum()), found, max(found, middle), low, high, round(some), round(few), round(many)
    )


def expected_share(probs: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Floor, guess and ceiling of the share of wrong labels, from left-out probabilities (n, k) alone.

    The floor is the disagreement among the photos that the views tell apart best, the ceiling that among all. The
    guess lies between the floor and confident learning's count (Northcutt et al., arXiv 1911.00068), which also sees
    errors among hard photos.
    """
    if len(labels) < 10 or probs.shape[1] < 2:
        return 0.0, 0.0, 0.0
    ordered = np.sort(probs, axis=1)
    lead = np.log(ordered[:, -1] + 1e-9) - np.log(ordered[:, -2] + 1e-9)
    disagree = probs.argmax(axis=1) != labels
    surest = np.argsort(-lead, kind="stable")[: max(5, round(SUREST * len(labels)))]
    least = 0.5 / len(labels)
    floor, ceiling = max(least, disagree[surest].mean()), max(2 * least, disagree.mean())
    guess = np.clip((floor + _confident_share(probs, labels)) / 2, least, ceiling)
    return float(min(floor, guess)), float(guess), float(ceiling)


def _confident_share(probs: np.ndarray, labels: np.ndarray) -> float:
    """Share of photos that another class claims above the mean confidence that its own members get."""
    n, k = probs.shape
    own = probs[np.arange(n), labels]
    counts = np.bincount(labels, minlength=k)
    threshold = np.where(counts, np.bincount(labels, own, minlength=k) / np.maximum(counts, 1), np.inf)
    claims = np.where(probs >= threshold, probs, 0)
    return float(((claims.max(axis=1) > 0) & (claims.argmax(axis=1) != labels)).mean())


def _bins(suspicion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds (BINS,) of equally filled bins, most suspect first, and the bin of each photo (n,)."""
    safe = np.clip(np.asarray(suspicion, np.float64), 1e-6, 1 - 1e-6)
    odds = np.log(safe / (1 - safe))
    where = np.empty(len(odds), np.int64)
    where[np.argsort(-odds, kind="stable")] = np.arange(len(odds)) * BINS // len(odds)
    counts = np.maximum(np.bincount(where, minlength=BINS), 1)
    return np.bincount(where, odds, minlength=BINS) / counts, where


def _posterior(odds, every, seen, bad, expected) -> tuple[np.ndarray, np.ndarray]:
    """Chance of an error in each bin (m, BINS) for m pairs of slope and total, and each pair's weight (m,)."""
    floor, guess, ceiling = np.log(expected)
    chance = 1 / np.sqrt(np.exp(floor) * SUREST * every.sum() + 1)  # the floor was counted on few photos
    below, above = (np.hypot(side / COVERED, 0.1 + chance) for side in (guess - floor, ceiling - guess))
    shares = np.exp(np.linspace(guess - 3 * below, min(guess + 3 * above, np.log(0.95)), TOTALS))
    shifts = np.array([[_shift(odds * slope, every, share) for share in shares] for slope in SLOPES])
    chances = _logistic(odds * SLOPES[:, None, None] + shifts[:, :, None])
    apart = np.log(shares) - guess
    prior = -0.5 * np.where(apart < 0, apart / below, apart / above) ** 2
    prior = prior - 0.5 * ((np.log(SLOPES)[:, None] - np.log(1.8)) / 0.6) ** 2
    fit = (bad * np.log(chances + 1e-12) + (seen - bad) * np.log(1 - chances + 1e-12)).sum(axis=2)
    weight = np.exp(prior + fit - (prior + fit).max()).ravel()
    return chances.reshape(-1, BINS), weight / weight.sum()


def _shift(slanted: np.ndarray, every: np.ndarray, share: float) -> float:
    """What to add to log-odds so that they expect `share` of the photos to be wrong."""
    low, high = -40.0, 40.0
    for _ in range(40):
        middle = (low + high) / 2
        if (every * _logistic(slanted + middle)).sum() < share * every.sum():
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _reviews_needed(left, unseen, found, total) -> np.ndarray:
    """Reviews (m,), going down the list, until 0.9 of `total` is found."""
    sums = found + np.cumsum(left, axis=1)
    enough = sums >= 0.9 * total[:, None]
    at = enough.argmax(axis=1)
    needed = np.cumsum(unseen)[at].astype(float)
    return np.where(found >= 0.9 * total, 0, needed)


def _quantiles(values: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """The 5 %, 50 % and 95 % points of weighted values."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    return tuple(
        float(values[order][min(np.searchsorted(reached, q), len(order) - 1)]) for q in (0.05, 0.5, 0.95)
    )


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
