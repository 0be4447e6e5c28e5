"""What train.ipynb shows and writes down: scores side by side, and a row in the catalog for each run."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from fastai.data.core import DataLoaders

from winnow.catalog import Catalog
from winnow.learn.evaluation import Scores
from winnow.learn.features import extract_features
from winnow.learn.variation import Spread, repeat_probe


def small_pictures(dpi: int = 72) -> None:
    """Show figures as small JPEGs, so that a notebook with its outputs stays small."""
    import matplotlib.pyplot as plt
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80})
    plt.rcParams["figure.dpi"] = dpi


def labels_of(dls: DataLoaders) -> tuple[np.ndarray, np.ndarray]:
    """The class numbers of the training side and of the validation side; no photo is opened."""
    sides = (dls.train_ds, dls.valid_ds)
    return tuple(np.array([int(side.tls[1][i]) for i in range(len(side))]) for side in sides)


def record(catalog: Catalog, kind: str, recipe: dict, scores: Scores, seconds: float, **more) -> Scores:
    """Write a run of `kind` with its scores into the catalog; gives the scores back."""
    catalog.record_run(kind, recipe, {**asdict(scores), "seconds": round(seconds, 1), **more})
    return scores


def record_suspects(catalog: Catalog, suspects, seconds: float) -> None:
    """Write down how many photos are worth a look, most suspect first, and how many labels may be wrong."""
    estimate = suspects.estimate()
    metrics = {"suspects": estimate.reviews, "wrong": round(estimate.wrong, 1), "ranked": len(suspects)}
    catalog.record_run("suspects", {}, {**metrics, "seconds": round(seconds, 1)})


def compare(**scores: Scores) -> pd.DataFrame:
    """One row for each set of scores, with its 95 % interval."""
    names = {
        "accuracy": "accuracy",
        "macro_f1": "macro-F1",
        "balanced_accuracy": "balanced accuracy",
        "auroc": "AUROC",
    }
    rows = {
        name.replace("_", " "): {title: _with_bounds(score, key) for key, title in names.items()}
        | {f"recall: {label}": f"{value:.3f}" for label, value in score.recall.items()}
        for name, score in scores.items()
    }
    return pd.DataFrame(rows).T


def spread_of(catalog: Catalog, *, backbone: str, size: int, recipe: dict, n: int = 5) -> Spread:
    """Macro-F1 of the probe over `n` random divisions of the photos; their features are in the cache already."""
    photos = [photo for photo in catalog.photos() if photo.label in recipe["classes"]]
    features = extract_features(catalog, backbone=backbone, size=size, method=recipe["method"])
    kept = [i for i, photo in enumerate(catalog.photos()) if photo.label in recipe["classes"]]
    labels = np.array([recipe["classes"].index(photo.label) for photo in photos])
    return repeat_probe(features[kept], labels, recipe["classes"], n)


def _with_bounds(score: Scores, key: str) -> str:
    value, bounds = getattr(score, key), score.intervals.get(key)
    if value is None:
        return ""
    return f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else f"{value:.3f}"
