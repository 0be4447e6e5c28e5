"""Closing the loop: after a review, retrain the probe in seconds and see what the review was worth.

Before and after are measured on the same photos of the frozen split, against the same labels (as they stand now), so
the difference is the training labels' doing.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from winnow.clean.labels import Labelled, labelled, standing
from winnow.clean.suspects import BACKBONE, SIZE, Suspects, find_suspects
from winnow.learn.features import extract_features
from winnow.learn.probe import fit_probe

if TYPE_CHECKING:
    from winnow.catalog import Catalog
    from winnow.records import Decision

KIND = "clean_round"  # of the recorded runs
DRAWS = 2000
SEEDS = 3  # probes whose probabilities are averaged, so that the batches' order weighs less


class NothingToMeasure(ValueError):
    """One side of the frozen split has no photo, so before and after can't be compared."""


@dataclass(frozen=True)
class Round:
    """What one cleaning round changed."""

    photos: int  # on the checking side
    before: float  # accuracy there, trained with the labels as they were
    after: float  # trained with the labels as they are
    low: float  # 95 % interval of after - before, from a paired bootstrap
    high: float
    macro_f1_before: float
    macro_f1_after: float
    changed: list[Decision] = field(default_factory=list)  # relabelled or removed in this round
    kept: int = 0  # looked at and found right
    suspects: Suspects = field(default_factory=lambda: Suspects([]))  # what to look at next

    @property
    def gain(self) -> float:
        """Accuracy after, less before."""
        return self.after - self.before

    @property
    def moves(self) -> dict[tuple[str, str], int]:
        """How many photos went from which label to which; a removed one went to ""."""
        return dict(Counter((d.before or "", d.after or "") for d in self.changed).most_common())

    def __str__(self) -> str:
        moved = (
            ", ".join(f"{n} {a} → {b or 'removed'}" for (a, b), n in self.moves.items()) or "no label changed"
        )
        return (
            f"Accuracy on {self.photos} checking photos {self.before:.3f} → {self.after:.3f} "
            f"({self.gain:+.3f}, 95 % interval {self.low:+.3f} to {self.high:+.3f}), macro-F1 "
            f"{self.macro_f1_before:.3f} → {self.macro_f1_after:.3f}; {moved}; {self.kept} kept. "
            f"{self.suspects.estimate()}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>{self.suspects._repr_html_()}"


def clean_round(
    catalog: Catalog,
    *,
    target: str | None = None,  # a further target instead of the class folders
    backbone: str = BACKBONE,
    size: int = SIZE,
    since: int | None = None,  # count decisions after this one (its `id`); None: since the last round
    progress: Callable[[int, int], None] | None = None,
) -> Round:
    """Retrain the probe with what was reviewed, compare on the frozen split, and rank what to look at next.

    Choices count whether applied or pending. The round is recorded (`catalog.runs()`), and the next one starts where
    it ended. Raises `NothingToMeasure` if the training or the checking side is empty.
    """
    if target is None:
        catalog.split(strict=False)
    data = labelled(catalog, target)
    since = _last_decision(catalog, target) if since is None else since
    new = [d for d in data.decided.values() if d.id > since]
    x = extract_features(catalog, backbone=backbone, size=size, progress=progress)
    here = {photo.path: row for row, photo in enumerate(catalog.photos())}
    x = x[[here[photo.path] for photo in data.photos]]
    found = _compare(catalog, data, new, x, (backbone, size), target)
    suspects = find_suspects(catalog, target=target, backbone=backbone, sizes=(size,), progress=progress)
    round_ = Round(**found, suspects=suspects)
    metrics = {"before": round_.before, "after": round_.after, "low": round_.low, "high": round_.high}
    latest = max((d.id for d in standing(catalog, target).values()), default=since)
    params = {"target": target, "last_decision": latest, "changed": len(round_.changed), "kept": round_.kept}
    catalog.record_run(KIND, params, metrics)
    return round_


def _last_decision(catalog: Catalog, target: str | None) -> int:
    """The newest decision that an earlier round has counted."""
    rounds = [run for run in catalog.runs() if run.kind == KIND and run.params.get("target") == target]
    return max((run.params.get("last_decision", 0) for run in rounds), default=0)


def _compare(catalog, data: Labelled, new: list[Decision], x, view, target) -> dict:
    """Fields of a `Round`: probes trained with the labels before `new` and with those now, on the same photos."""
    now, removed = data.current(), np.zeros(len(data.photos), bool)
    then, decided = now.copy(), {d.sha256: d for d in new}
    known = {name: number for number, name in enumerate(data.classes)}
    for row, photo in enumerate(data.photos):
        if choice := data.decided.get(photo.sha256):
            removed[row] = choice.kind == "remove"
        if choice := decided.get(photo.sha256):
            then[row] = known.get(choice.before, then[row])
    train, check = _sides(data, removed)
    extra, extra_labels = _taken_out(catalog, new, known, view)
    extra = x[:0] if extra is None else extra
    old_rows = np.flatnonzero(train | _trained_then(data, removed, decided))
    k = len(data.classes)
    before = _probe(
        np.concatenate([x[old_rows], extra]), np.concatenate([then[old_rows], extra_labels]), x[check], k
    )
    after = _probe(x[train], now[train], x[check], k)
    low, high = paired_interval(before == now[check], after == now[check])
    return {
        "photos": int(check.sum()),
        "before": float((before == now[check]).mean()),
        "after": float((after == now[check]).mean()),
        "low": low,
        "high": high,
        "macro_f1_before": _macro_f1(now[check], before),
        "macro_f1_after": _macro_f1(now[check], after),
        "changed": [d for d in new if d.kind != "keep"],
        "kept": sum(d.kind == "keep" for d in new),
    }


def _sides(data: Labelled, removed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks (n,) of the photos to train on and to check with; a given test side checks where there is no other."""
    split = np.array([photo.split or "" for photo in data.photos])
    check = (split == "valid") if (split == "valid").any() else (split == "test")
    train, check = (split == "train") & ~removed, check & ~removed
    if not train.any() or not check.any():
        side = "training" if not train.any() else "checking"
        raise NothingToMeasure(
            f"The {side} side of the split has no photo: split the dataset, or add photos to it."
        )
    return train, check


def _trained_then(data: Labelled, removed: np.ndarray, decided: dict) -> np.ndarray:
    """Training photos (n,) whose removal waits since this round only: they were still trained on before."""
    rows = [
        p.split == "train" and p.sha256 in decided and gone
        for p, gone in zip(data.photos, removed, strict=True)
    ]
    return np.array(rows, bool)


def _taken_out(catalog, new: list[Decision], known: dict[str, int], view):
    """Features and labels of photos that this round has removed already, from where they were moved to."""
    gone = [d for d in new if d.kind == "remove" and d.state == "applied" and d.before in known]
    there = [(catalog.folder / ".removed" / d.path, known[d.before]) for d in gone]
    there = [(file, label) for file, label in there if file.is_file()]
    files, labels = [file for file, _ in there], np.array([label for _, label in there], np.int64)
    if not files:
        return None, labels
    return extract_features(files, backbone=view[0], size=view[1], cache=catalog.cache), labels


def _probe(x: np.ndarray, labels: np.ndarray, check: np.ndarray, n_classes: int) -> np.ndarray:
    """Predicted class numbers of `check` by probes trained on `x`."""
    probes = (fit_probe(x, labels, n_classes=n_classes, seed=seed) for seed in range(SEEDS))
    return sum(probe.predict_proba(check) for probe in probes).argmax(axis=1)


def paired_interval(before: np.ndarray, after: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of mean(after) - mean(before) of two rows of rights (n,) on the same photos, by bootstrap."""
    gain = after.astype(int) - before.astype(int)
    n = len(gain)
    # only the numbers of photos won and lost matter: draw them instead of n photos
    shares = [(gain == 1).mean(), (gain == -1).mean(), (gain == 0).mean()]
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def _macro_f1(truth: np.ndarray, said: np.ndarray) -> float:
    """The mean F1 of the classes that occur."""
    scores = []
    for c in np.unique(np.concatenate([truth, said])):
        right = ((truth == c) & (said == c)).sum()
        scores.append(2 * right / ((truth == c).sum() + (said == c).sum()))
    return float(np.mean(scores))
