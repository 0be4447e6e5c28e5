"""Views of a label: each says, from frozen features, how likely every class is for a photo it has not learned from.

A view is a function of features (n, d) and given labels (n,) that returns probabilities (n, k). None of them lets a
photo, or a duplicate of it (`groups`), vote on its own label.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from winnow.clean.index import NearIndex, open_index
from winnow.learn.probe import out_of_fold, softmax

LANDMARKS = 1000  # photos that span the kernel's space
VOTES = 50  # neighbours that vote, weighted by similarity
SHARPNESS = 15.0  # weight of a neighbour: exp(SHARPNESS * (cosine - best cosine))
VOTERS = 20_000  # at most so many photos vote, so that time grows with n and not with n squared
CANDIDATES = (
    64  # that the index keeps: it misses some of the 50, which hardly changes a vote, in half the time
)
COMPONENTS = 256  # neighbours are sought among the leading principal components
BLOCK = 1 << 24  # similarities held at once
STRIDE = 16  # similarities are first compared in sets of so many
EPOCHS, STEPS, BATCH = 15, 1000, 64  # of the probe
PART = 8192  # rows worked on at once where a whole copy would cost memory


def prepare(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What every view works on: the features' roots, standardised (n, d), and the roots' standard deviations (d,).

    Roots (signed) tame the few large activations that would decide alone. A constant column becomes 0.
    """
    features = np.asarray(features)
    x = np.empty(features.shape, np.float32)
    for part in _slices(len(x)):
        x[part] = np.sign(features[part]) * np.sqrt(np.abs(features[part]))
    x -= x.mean(axis=0)
    scale = np.sqrt(np.einsum("ij,ij->j", x, x) / max(len(x), 1))
    x /= np.where(scale > 1e-6, scale, np.inf).astype(np.float32)
    return x, scale.astype(np.float32)


def probe_view(x, labels, *, n_classes, groups=None, seed=0) -> np.ndarray:
    """Probabilities (n, k) of the linear probe, out of fold; many photos get fewer epochs, not fewer steps."""
    epochs = int(np.clip(round(STEPS * BATCH / max(len(labels), 1)), 2, EPOCHS))
    names = None if groups is None else list(groups)
    return out_of_fold(
        x, labels, n_classes=n_classes, groups=names, seed=seed, epochs=epochs, batch_size=BATCH
    )


def kernel_view(x, labels, *, n_classes, groups=None, seed=0) -> np.ndarray:
    """Probabilities (n, k) of a kernel ridge regression on the labels, each photo left out, in closed form.

    A Gaussian kernel as wide as the median distance, in the space of some photos (Nyström: Williams & Seeger, 2001).
    Far stronger regularisation than an accurate classifier wants is what stops it from believing wrong labels.
    """
    length = _lengths(x)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:LANDMARKS])
    landmarks = x[chosen] / length[chosen, None]
    apart = 2 - 2 * landmarks @ landmarks.T
    width = max(float(np.median(apart)), 1e-6)
    gram = np.exp(-apart / width).astype(np.float64) + 1e-4 * np.eye(len(chosen))
    turn = np.linalg.inv(np.linalg.cholesky(gram)).T.astype(np.float32)
    spanned = np.empty((len(x), len(chosen)), np.float32)
    for part in _slices(len(x)):
        alike = x[part] @ landmarks.T / length[part, None]
        spanned[part] = np.exp((2 * alike - 2) / width) @ turn
    spanned -= spanned.mean(axis=0)
    targets = np.eye(n_classes, dtype=np.float32)[labels]
    return calibrate(left_out_regression(spanned, targets, groups=groups, penalty=1 / len(x)), labels)


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


def prototype_view(x, labels, *, n_classes, groups=None) -> np.ndarray:
    """Probabilities (n, k) by the cosine with each class's mean direction, the photo (and its group) left out."""
    length = _lengths(x)
    sums = (np.eye(n_classes, dtype=np.float32)[labels] / length[:, None]).T @ x
    scores = x @ sums.T / length[:, None]
    lengths = np.repeat((sums**2).sum(axis=1)[None], len(labels), axis=0)
    own = np.arange(len(labels))
    dot = scores[own, labels]
    scores[own, labels] = dot - 1
    lengths[own, labels] += 1 - 2 * dot
    for rows in shared_groups(groups):
        unit = x[rows] / length[rows, None]
        for c in np.unique(labels[rows]):
            rest = sums[c] - unit[labels[rows] == c].sum(axis=0)
            scores[rows, c], lengths[rows, c] = unit @ rest, rest @ rest
    return calibrate(scores / np.sqrt(np.maximum(lengths, 1e-6)), labels)


def left_out_regression(x: np.ndarray, targets: np.ndarray, *, penalty: float, groups=None) -> np.ndarray:
    """Predictions (n, k) of a ridge regression of `targets` (n, k) on centred `x` (n, d), each row (or group) left out.

    The residual of a left-out row is its residual over 1 - leverage (PRESS: Allen, 1974), that of a left-out group
    the solution of the same equation with the group's block of the hat matrix. `penalty` is per row.
    """
    n = len(x)
    mean = targets.mean(axis=0)
    gram = (x.T @ x).astype(np.float64) / n
    inverse = np.linalg.inv(gram + penalty * np.eye(x.shape[1]))
    inverse = (inverse / n).astype(np.float32)
    fitted = x @ (inverse @ (x.T @ (targets - mean)))
    leverage = np.concatenate([((x[part] @ inverse) * x[part]).sum(axis=1) for part in _slices(n)]) + 1 / n
    residual = targets - mean - fitted
    left_out = residual / np.maximum(1 - leverage, 1e-3)[:, None]
    for rows in shared_groups(groups):
        hat = x[rows] @ inverse @ x[rows].T + 1 / n
        left_out[rows] = np.linalg.lstsq(np.eye(len(rows)) - hat, residual[rows], rcond=None)[0]
    return targets - left_out


def find_neighbours(x: np.ndarray, scale: np.ndarray, *, votes: int = VOTES, groups=None, seed: int = 0):
    """The nearest photos of each by cosine: (n, v) row numbers, nearest first, and (n, v) similarities.

    A photo and its duplicates (`groups`) are not their own neighbours. Above `VOTERS` photos a random part of them
    is searched, above `index.EXACT_UP_TO` by an index.
    """
    unit = normalise(_leading(x, scale, seed))
    n = len(unit)
    voters = (
        np.arange(n) if n <= VOTERS else np.sort(np.random.default_rng(seed).choice(n, VOTERS, replace=False))
    )
    votes = max(1, min(votes, len(voters) - 1))
    group = np.arange(n) if groups is None else np.asarray(groups)
    voting = unit[voters]
    if near_index := open_index(voting, expansion=CANDIDATES, images=n):
        return _search_index(near_index, voters, unit, votes, group)
    pool = voting.T.copy()
    found = []
    for rows in np.array_split(np.arange(n), max(1, n * len(voters) // BLOCK)):
        cosine = unit[rows] @ pool
        cosine[group[rows, None] == group[voters]] = -2
        found.append(_largest(cosine, votes))
    nearest, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    return voters[nearest], similarity


def _search_index(index: NearIndex, voters: np.ndarray, unit: np.ndarray, votes: int, group: np.ndarray):
    """As `find_neighbours` gives them; a place that no neighbour fills holds any photo at a cosine of -2."""
    sizes = np.unique(group[voters], return_counts=True)[1]
    asked = min(
        votes + min(int(sizes.max()), votes), len(voters)
    )  # of a photo's own group at most so many are met
    nearest, similarity = np.empty((len(unit), votes), np.int64), np.empty((len(unit), votes), np.float32)
    for rows in _slices(len(unit)):
        near, cosine = index.search(unit[rows], asked)
        near = voters[near]
        cosine[group[near] == group[rows][:, None]] = -2
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :votes]
        nearest[rows] = np.take_along_axis(near, order, axis=1)
        similarity[rows] = np.take_along_axis(cosine, order, axis=1)
    return nearest, similarity


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


def _leading(x: np.ndarray, scale: np.ndarray, seed: int) -> np.ndarray:
    """The roots as they were before they were scaled, turned onto their leading principal components if many."""
    if x.shape[1] <= COMPONENTS:
        return x * scale
    random = np.random.default_rng(seed)
    some = x[random.permutation(len(x))[:VOTERS]] * scale
    gram = some.T @ some
    basis = random.standard_normal((x.shape[1], COMPONENTS)).astype(np.float32)
    for _ in range(4):  # subspace iteration: a tenth of the time of all eigenvectors
        basis, _ = np.linalg.qr(gram @ basis)
    return x @ (scale[:, None] * basis)


def _lengths(x: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(np.einsum("ij,ij->i", x, x)), 1e-6)


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + PART) for start in range(0, n, PART))
