"""Views of a label: each says, from frozen features, how likely every class is for a photo it has not learned from.

A view is a function of features (n, d) and given labels (n,) that returns probabilities (n, k). None of them lets a
photo, or a duplicate of it (`groups`), vote on its own label.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from winnow.learn.probe import out_of_fold, softmax

RIDGE = 1.0  # penalty, in units of the mean variance of a feature: 0.3 to 3 rank alike (docs/clean.md)
VOTES = 50  # neighbours that vote, weighted by similarity
SHARPNESS = 15.0  # weight of a neighbour: exp(SHARPNESS * (cosine - best cosine))
VOTERS = 20_000  # at most so many photos vote, so that time grows with n and not with n squared
COMPONENTS = 256  # neighbours are sought among the leading principal components
BLOCK = 1 << 24  # similarities held at once
STRIDE = 16  # similarities are first compared in sets of so many
EPOCHS, STEPS, BATCH = 15, 1000, 64  # of the probe


def probe_view(features, labels, *, n_classes, groups=None, seed=0) -> np.ndarray:
    """Probabilities (n, k) of the linear probe, out of fold; many photos get fewer epochs, not fewer steps."""
    epochs = int(np.clip(round(STEPS * BATCH / max(len(labels), 1)), 2, EPOCHS))
    names = None if groups is None else list(groups)
    return out_of_fold(
        features, labels, n_classes=n_classes, groups=names, seed=seed, epochs=epochs, batch_size=BATCH
    )


def ridge_view(features, labels, *, n_classes, groups=None, penalty=RIDGE) -> np.ndarray:
    """Probabilities (n, k) of a ridge regression on the labels, each photo left out, in closed form.

    The residual of a left-out photo is its residual over 1 - leverage (Allen's PRESS, 1974), that of a left-out group
    the solution of the same equation with the group's block of the hat matrix. Far stronger regularisation than an
    accurate classifier wants is what stops it from believing wrong labels.
    """
    targets = np.eye(n_classes, dtype=np.float32)[labels]
    scores = left_out_regression(standardise(features), targets, groups=groups, penalty=penalty)
    return calibrate(scores, labels)


def neighbour_view(nearest, similarity, labels, *, n_classes, prior_votes=2.0) -> np.ndarray:
    """Probabilities (n, k) by the votes of the `nearest` photos (n, v) with their cosine `similarity` (n, v).

    `prior_votes` votes are shared out as the classes are, so that one neighbour alone is never sure.
    """
    weight = np.exp((similarity - similarity.max(axis=1, keepdims=True)) * SHARPNESS)
    weight /= weight.sum(axis=1, keepdims=True)
    strength = 1 / (weight**2).sum(axis=1, keepdims=True)  # how many neighbours truly count
    votes = np.stack([(weight * (labels[nearest] == c)).sum(axis=1) for c in range(n_classes)], axis=1)
    prior = np.bincount(labels, minlength=n_classes) / len(labels)
    return ((votes * strength + prior_votes * prior) / (strength + prior_votes)).astype(np.float32)


def prototype_view(features, labels, *, n_classes, groups=None) -> np.ndarray:
    """Probabilities (n, k) by the cosine with each class's mean direction, the photo (and its group) left out."""
    unit = normalise(standardise(features))
    sums = np.zeros((n_classes, unit.shape[1]), np.float32)
    np.add.at(sums, labels, unit)
    scores = unit @ sums.T
    lengths = np.repeat((sums**2).sum(axis=1)[None], len(labels), axis=0)
    own = np.arange(len(labels))
    dot = scores[own, labels]
    scores[own, labels] = dot - 1
    lengths[own, labels] += 1 - 2 * dot
    for rows in shared_groups(groups):
        for row in rows:
            for c in np.unique(labels[rows]):
                mine = sums[c] - unit[rows[labels[rows] == c]].sum(axis=0)
                scores[row, c], lengths[row, c] = unit[row] @ mine, mine @ mine
    return calibrate(scores / np.sqrt(np.maximum(lengths, 1e-6)), labels)


def left_out_regression(
    x: np.ndarray, targets: np.ndarray, *, groups=None, penalty: float = RIDGE
) -> np.ndarray:
    """Predictions (n, k) of a ridge regression of `targets` (n, k) on `x` (n, d), each row (or group) left out."""
    n = len(x)
    mean = targets.mean(axis=0)
    gram = (x.T @ x).astype(np.float64) / n
    inverse = np.linalg.inv(gram + penalty * np.eye(x.shape[1]))
    inverse = (inverse / n).astype(np.float32)
    fitted = x @ (inverse @ (x.T @ (targets - mean)))
    leverage = np.concatenate([((part @ inverse) * part).sum(axis=1) for part in _parts(x, 4096)]) + 1 / n
    residual = targets - mean - fitted
    left_out = residual / np.maximum(1 - leverage, 1e-3)[:, None]
    for rows in shared_groups(groups):
        hat = x[rows] @ inverse @ x[rows].T + 1 / n
        left_out[rows] = np.linalg.lstsq(np.eye(len(rows)) - hat, residual[rows], rcond=None)[0]
    return targets - left_out


def find_neighbours(features: np.ndarray, *, votes: int = VOTES, groups=None, seed: int = 0):
    """The nearest photos of each by cosine: (n, v) row numbers, nearest first, and (n, v) similarities.

    A photo and its duplicates (`groups`) are not their own neighbours. Above `VOTERS` photos a random part of them
    is searched.
    """
    unit = normalise(_leading(features, seed))
    n = len(unit)
    voters = (
        np.arange(n) if n <= VOTERS else np.sort(np.random.default_rng(seed).choice(n, VOTERS, replace=False))
    )
    votes = max(1, min(votes, len(voters) - 1))
    group = np.arange(n) if groups is None else np.asarray(groups)
    pool = unit[voters].T.copy()
    found = []
    for rows in np.array_split(np.arange(n), max(1, n * len(voters) // BLOCK)):
        cosine = unit[rows] @ pool
        cosine[group[rows, None] == group[voters]] = -2
        found.append(_largest(cosine, votes))
    nearest, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    return voters[nearest], similarity


def _largest(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values (n, count) of each row's largest, largest first.

    The largest `count` values lie in the `count` sets of columns with the largest maxima, so only those are sorted.
    """
    rows, columns = values.shape
    if columns > 4 * STRIDE * count:
        wide = np.pad(values, ((0, 0), (0, -columns % STRIDE)), constant_values=-3)
        sets = wide.reshape(rows, STRIDE, -1)
        best = np.argpartition(-sets.max(axis=1), count - 1, axis=1)[:, :count]
        places = (best[:, None, :] + np.arange(STRIDE)[:, None] * sets.shape[2]).reshape(rows, -1)
        values = np.take_along_axis(wide, places, axis=1)
    else:
        places = np.broadcast_to(np.arange(columns), values.shape)
    top = np.argpartition(-values, count - 1, axis=1)[:, :count]
    top = np.take_along_axis(
        top, np.argsort(-np.take_along_axis(values, top, axis=1), axis=1, kind="stable"), axis=1
    )
    return np.take_along_axis(places, top, axis=1), np.take_along_axis(values, top, axis=1)


def calibrate(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities (n, k) from left-out scores (n, k): the temperature that makes the given labels likeliest."""
    temperatures = np.geomspace(0.3, 60, 32)
    own = np.arange(len(labels))
    losses = [-np.log(softmax(scores * t)[own, labels] + 1e-9).mean() for t in temperatures]
    return softmax(scores * temperatures[int(np.argmin(losses))]).astype(np.float32)


def standardise(features: np.ndarray) -> np.ndarray:
    """Features with mean 0 and variance 1 in each column (a constant column becomes 0)."""
    features = np.asarray(features, np.float32)
    scale = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(scale > 1e-6, scale, np.inf).astype(np.float32)


def normalise(features: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)


def group_numbers(groups) -> np.ndarray | None:
    """Numbers (n,) for group names; None as a name is a group of its own, None for `groups` stays None."""
    if groups is None:
        return None
    known: dict = {}
    return np.array(
        [known.setdefault(("row", i) if g is None else g, len(known)) for i, g in enumerate(groups)]
    )


def shared_groups(groups: np.ndarray | None) -> Iterator[np.ndarray]:
    """Row numbers of each group that holds more than one photo."""
    if groups is None:
        return
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(rows) > 1:
            yield rows


def _leading(features: np.ndarray, seed: int) -> np.ndarray:
    """Centred features, turned onto their leading principal components when there are many columns."""
    features = np.asarray(features, np.float32)
    centred = features - features.mean(axis=0)
    if centred.shape[1] <= COMPONENTS:
        return centred
    rows = np.random.default_rng(seed).permutation(len(centred))[:VOTERS]
    _, vectors = np.linalg.eigh((centred[rows].T @ centred[rows]).astype(np.float64))
    return centred @ vectors[:, -COMPONENTS:].astype(np.float32)


def _parts(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (x[start : start + size] for start in range(0, len(x), size))
