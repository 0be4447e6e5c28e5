"""The other rows of the review queue: duplicates, leaks, quality, feedback, and photos that belong to no class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from winnow.clean.reasons import LOOKED_AT
from winnow.clean.views import normalise
from winnow.corrections import KIND, waiting

if TYPE_CHECKING:
    from winnow.catalog import Catalog
    from winnow.records import Photo, Row

# How urgent a kind is when its row brings no score of its own: a leak spoils every figure, a dark photo little.
URGENCY = {"conflict": 0.95, "leak": 0.9, "feedback": 0.85, "duplicate": 0.6, "quality": 0.4}
FAR = 4.0  # robust standard deviations (1.4826 * median distance to the median, of the unlike half)
KNOWN = 20  # fewer photos than this don't say what is usual


def queued_rows(catalog: Catalog, labels: dict[str, str]) -> list[dict]:
    """The catalog's rows of any kind in `URGENCY`, as fields of a `Suspect`.

    A row's `data` may bring "score" (0 to 1), "suggested" (a class) and "others" (photos to compare it with). Rows
    about photos outside `labels` (path: label) are left out, except feedback that waits: its photos are in no class.
    """
    rows = [row for row in catalog.rows() if row.kind in URGENCY and row.kind != KIND]
    kept = [row for row in rows if row.path in labels] + waiting(catalog)
    return [_fields(row, labels) for row in kept]


def _fields(row: Row, labels: dict[str, str]) -> dict:
    data, label = row.data, labels.get(row.path, "")
    others = _others(data, row.path)
    if row.kind == "feedback":  # what the app answered, and what its visitor says it is
        label, suggested = str((data.get("answer") or {}).get("label") or label), str(data.get("label") or "")
    else:
        rival = next((labels[o] for o in others if labels.get(o, label) != label), label)
        suggested = str(data.get("suggested") or (rival if row.kind == "conflict" else label))
    score = _urgency(row)
    return {
        "path": row.path,
        "label": label,
        "suggested": suggested,
        "score": score,
        "confidence": score,
        "kind": row.kind,
        "reason": row.reason,
        "neighbours": others,
    }


def _urgency(row: Row) -> float:
    """The row's own score where it has one; a quality row's counts the other way round (0 is worst)."""
    score = row.data.get("score")
    if not isinstance(score, int | float):
        return URGENCY[row.kind]
    return float(np.clip(0.5 * (1 - score) if row.kind == "quality" else score, 0, 1))


def _others(data: dict, path: str) -> list[str]:
    found = data.get("others") or []
    return [other for other in found if other != path][:LOOKED_AT] if isinstance(found, list | tuple) else []


def off_topic_rows(photos: Sequence[Photo], labels: Sequence[str], features: np.ndarray) -> list[dict]:
    """Photos that are far from every class, as fields of a `Suspect`.

    Likeness is the best cosine of the features' roots to a class's mean direction. Far means more than `FAR` robust
    standard deviations below the usual likeness: 25 solar cells among 3,781 photos of clothes, and the other way
    round, were all found, with 3 and 5 others (docs/clean.md).
    """
    if len(photos) < KNOWN:
        return []
    likeness = _likeness(features, np.unique(labels, return_inverse=True)[1])
    usual = float(np.median(likeness))
    spread = 1.4826 * float(np.median(usual - likeness[likeness <= usual])) + 1e-6
    apart = (usual - likeness) / spread
    return [
        _far(photos[row], labels[row], likeness[row], usual, apart[row])
        for row in np.flatnonzero(apart > FAR)
    ]


def _likeness(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The best cosine (n,) to a class's mean; roots, so that a few large features don't decide alone."""
    unit = normalise(np.sign(features) * np.sqrt(np.abs(features)))
    means = np.stack([unit[numbers == number].mean(axis=0) for number in range(numbers.max() + 1)])
    return (unit @ normalise(means).T).max(axis=1)


def _far(photo: Photo, label: str, likeness: float, usual: float, apart: float) -> dict:
    return {
        "path": photo.path,
        "label": label,
        "suggested": label,
        "score": float(1 - 0.5 * FAR / apart),
        "confidence": float(likeness),
        "kind": "off_topic",
        "reason": f"Far from every class: its likeness to the nearest one is {likeness:.2f}, {usual:.2f} is usual.",
        "neighbours": [],
    }
