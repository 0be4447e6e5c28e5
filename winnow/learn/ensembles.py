"""Several models' probabilities made one: test-time augmentation, the mean, and stacking by gradient boosting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fastai.learner import Learner

from winnow.catalog import Catalog
from winnow.learn.calibration import restore_prior
from winnow.learn.evaluation import Scores, evaluate
from winnow.learn.features import extract_features
from winnow.learn.probe import assign_folds, fit_probe, out_of_fold


@dataclass(frozen=True)
class Ensemble:
    """What members and their combinations score on the validation side; `probs` are (n, k) by name."""

    scores: dict[str, Scores]
    probs: dict[str, np.ndarray]
    members: tuple[str, ...]

    @property
    def best_single(self) -> str:
        """The member with the highest macro-F1."""
        return max(self.members, key=lambda name: self.scores[name].macro_f1)

    def __str__(self) -> str:
        ranked = sorted(self.scores.items(), key=lambda pair: -pair[1].macro_f1)
        return "\n".join(f"{score.macro_f1:.3f}  {name}" for name, score in ranked)


def predict_tta(
    learn: Learner, *, ds_idx: int = 1, n: int = 4, beta: float = 0.25
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k), averaged over `n` varied copies of each photo and the plain one, and labels (n,).

    fastai's `tta` in the loader's own order, weighted or not; the true shares of the classes are put back where the
    training side was sampled by weights.
    """
    with learn.no_bar(), learn.no_logging():
        probs, labels = learn.tta(ds_idx=ds_idx, n=n, beta=beta)
    recipe = learn.recipe
    restored = restore_prior(probs.numpy(), prior=recipe["prior"], sampled_prior=recipe["sampled_prior"])
    return restored, labels.numpy()


def combine(
    train: Mapping[str, np.ndarray],  # each member's out-of-fold probabilities (n, k) on the training side
    valid: Mapping[str, np.ndarray],  # and its probabilities (m, k) on the validation side
    labels: np.ndarray,  # (n,)
    valid_labels: np.ndarray,  # (m,)
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> Ensemble:
    """Mean and stack of several members, beside each member on its own.

    The stack is fitted on out-of-fold probabilities alone: in-sample ones would teach it to trust whoever learned
    the photos by heart.
    """
    if train.keys() != valid.keys() or len(train) < 2:
        raise ValueError("An ensemble needs the same two or more members on both sides.")
    probs = dict(valid)
    probs["mean"] = np.mean(list(valid.values()), axis=0)
    probs["stack"] = _stack(
        np.hstack(list(train.values())), labels, np.hstack(list(valid.values())), len(classes), seed
    )
    scores = {name: evaluate(valid_labels, p, classes) for name, p in probs.items()}
    return Ensemble(scores, probs, tuple(valid))


def probe_ensemble(
    catalog: Catalog,
    *,
    views: Sequence[tuple[str, int]] = (("tf_efficientnet_lite0", 128), ("tf_efficientnet_lite0", 192)),
    seeds: Sequence[int] = (0,),
    method: str = "squish",
) -> Ensemble:
    """Probes on several backbones, sizes and seeds, combined; the split is the frozen one."""
    photos = catalog.photos()
    classes = sorted({photo.label for photo in photos})
    labels = np.array([classes.index(photo.label) for photo in photos])
    sides = np.array([photo.split for photo in photos])
    learning, checking = sides == "train", sides == "valid"
    groups = [photo.group for photo, side in zip(photos, learning, strict=True) if side]
    train, valid = {}, {}
    for backbone, size in views:
        features = extract_features(catalog, backbone=backbone, size=size, method=method)
        for seed in seeds:
            name = f"{backbone} {size} px" + (f" seed {seed}" if len(seeds) > 1 else "")
            options = {"n_classes": len(classes), "seed": seed}
            train[name] = out_of_fold(features[learning], labels[learning], groups=groups, **options)
            valid[name] = fit_probe(features[learning], labels[learning], **options).predict_proba(
                features[checking]
            )
    return combine(train, valid, labels[learning], labels[checking], classes)


def fold_ensemble(
    features: np.ndarray, labels: np.ndarray, check: np.ndarray, *, n_classes: int, folds: int = 5
):
    """Mean probabilities for `check` (m, d) of probes that each left out another fold of `features` (n, d)."""
    fold = assign_folds(labels, folds=folds)
    members = [
        fit_probe(features[fold != k], labels[fold != k], n_classes=n_classes, seed=int(k))
        for k in np.unique(fold)
    ]
    return np.mean([probe.predict_proba(check) for probe in members], axis=0)


def _stack(x: np.ndarray, labels: np.ndarray, check: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.08, max_leaf_nodes=6, l2_regularization=1.0, random_state=seed
    ).fit(_log_odds(x), labels)
    probs = np.zeros((len(check), k))
    probs[:, model.classes_] = model.predict_proba(_log_odds(check))
    return probs


def _log_odds(probs: np.ndarray) -> np.ndarray:
    clipped = np.clip(probs, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))
