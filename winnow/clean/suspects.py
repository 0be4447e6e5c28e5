"""The review queue: every photo of a dataset, the one whose label is likeliest to be wrong first."""

from __future__ import annotations

import csv
import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from winnow.clean.estimate import Estimate, estimate_errors, expected_share
from winnow.clean.reasons import LOOKED_AT, explain
from winnow.clean.scoring import LabelScores, score_labels
from winnow.learn.features import extract_features

if TYPE_CHECKING:
    from winnow.catalog import Catalog, Decision, Photo

BACKBONE = "tf_efficientnet_lite0"
SIZES = (192,)
COLUMNS = ("path", "label", "suggested", "score", "reason")


class NothingToClean(ValueError):
    """Labels can't be compared: fewer than two classes have photos, or a target has no values."""


@dataclass(frozen=True)
class Suspect:
    """One row to review."""

    path: str
    label: str  # as given
    suggested: str  # the likeliest class, which may be the given one
    score: float  # 0 to 1, higher is more suspect; above 0.5 another class is likelier than the given one
    confidence: float  # probability of the suggested class
    kind: str  # "label", "duplicate", "conflict", "leak", "off_topic", "quality", "feedback"
    reason: str
    neighbours: list[str] = field(default_factory=list)  # paths of the nearest photos, nearest first
    reviewed: str | None = None  # "keep", "relabel" or "remove", once a person has decided


class Suspects(Sequence):
    """Rows to review, most suspect first; those that a person has decided come last."""

    def __init__(self, rows: Iterable[Suspect], *, scores: LabelScores | None = None, review=None):
        self.rows = list(rows)
        self.scores = scores
        self._review = review  # gives (suspicion, reviewed, wrong) as the journal stands now

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        found = self.rows[index]
        return Suspects(found, scores=self.scores, review=self._review) if isinstance(index, slice) else found

    def __repr__(self) -> str:
        return f"<Suspects: {len(self)} rows, {sum(s.score > 0.5 for s in self)} with a likelier label>"

    @property
    def kinds(self) -> dict[str, int]:
        """How many rows of each kind."""
        names = [row.kind for row in self.rows]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    def only(self, *kinds: str) -> Suspects:
        """The rows of these kinds."""
        return Suspects((s for s in self.rows if s.kind in kinds), scores=self.scores, review=self._review)

    def joined(self, rows: Iterable[Suspect]) -> Suspects:
        """These rows and further ones, in one queue."""
        return Suspects(sorted([*rows, *self.rows], key=_order), scores=self.scores, review=self._review)

    def estimate(self) -> Estimate:
        """About how many labels are wrong and how many reviews find 90 % of them, given the reviews so far."""
        if self.scores is None or self._review is None:
            return estimate_errors(np.zeros(0), (0, 0, 0))
        suspicion, reviewed, wrong = self._review()
        share = expected_share(self.scores.probs, self.scores.labels)
        return estimate_errors(suspicion, share, reviewed=reviewed, wrong=wrong)

    def to_csv(self, path: Path | str) -> Path:
        """Write `path,label,suggested,score,reason`, most suspect first, one line for each photo."""
        path, seen = Path(path), set()
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in self.rows:
                if row.path not in seen:
                    writer.writerow([row.path, row.label, row.suggested, f"{row.score:.6f}", row.reason])
                seen.add(row.path)
        return path

    def _repr_html_(self) -> str:
        cells = "".join(_html_row(row) for row in self.rows[:20])
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        return f"<p>{html.escape(str(self.estimate()))}</p><table><tr>{head}</tr>{cells}</table>"


def find_suspects(
    catalog: Catalog,
    *,
    backbone: str | Sequence[str] = BACKBONE,
    sizes: Sequence[int] = SIZES,  # pixels; each backbone at each size is a set of features
    target: str | None = None,  # a further target to clean, instead of the class folders
    progress: Callable[[int, int], None] | None = None,
) -> Suspects:
    """Rank every photo of `catalog` by how likely its label is wrong, with a reason for each.

    Raises `NothingToClean` when fewer than two classes have photos.
    """
    photos, labels, classes = _labelled(catalog, target)
    decided = _decisions(catalog) if target is None else {}
    blocks = _features(catalog, photos, backbone, sizes, progress)
    known = {name: number for number, name in enumerate(classes)}
    current = np.array([known[_current(*pair, decided)] for pair in zip(photos, labels, strict=True)])
    scores = score_labels(blocks, current, n_classes=len(classes), groups=[photo.group for photo in photos])
    rows = _label_rows(photos, labels, scores, classes, decided)
    return Suspects(rows, scores=scores, review=lambda: _reviews(catalog, photos, labels, scores, classes))


def _labelled(catalog, target: str | None) -> tuple[list[Photo], list[str], list[str]]:
    """The photos that have a label, their labels, and the classes."""
    photos = catalog.photos()
    if target is not None:
        photos = [photo for photo in photos if target in photo.targets]
    labels = [photo.label if target is None else photo.targets[target] for photo in photos]
    classes = sorted(set(labels) | (set(catalog.classes) if target is None else set()))
    if len(set(labels)) < 2:
        what = "class folders" if target is None else f"values of the target {target!r}"
        raise NothingToClean(
            f"Only {len(set(labels))} of the {what} has photos: wrong labels need at least two."
        )
    return photos, labels, classes


def _features(catalog, photos, backbone, sizes, progress) -> list[np.ndarray]:
    backbones = [backbone] if isinstance(backbone, str) else list(backbone)
    every = [photo.path for photo in catalog.photos()]
    here = {path: row for row, path in enumerate(every)}
    rows = [here[photo.path] for photo in photos]
    return [
        extract_features(catalog, backbone=name, size=size, progress=progress)[rows]
        for name in backbones
        for size in sizes
    ]


def _decisions(catalog) -> dict[str, Decision]:
    """The standing decision about each image, by its hash."""
    return {d.sha256: d for d in catalog.history() if d.state in ("pending", "applied")}


def _current(photo: Photo, label: str, decided: dict[str, Decision]) -> str:
    """The label to learn from: a relabel that waits to be applied counts already."""
    decision = decided.get(photo.sha256)
    waits = decision is not None and decision.kind == "relabel" and decision.state == "pending"
    return decision.after if waits else label


def _label_rows(photos, labels, scores: LabelScores, classes, decided) -> list[Suspect]:
    suspicion, suggested = scores.suspicion, scores.suggested
    best = scores.probs[np.arange(len(photos)), suggested]
    rows = []
    for i, (photo, label) in enumerate(zip(photos, labels, strict=True)):
        choice = decided.get(photo.sha256)
        reviewed = choice.kind if choice and choice.kind in ("keep", "relabel", "remove") else None
        neighbours = [photos[j].path for j in scores.nearest[i][:LOOKED_AT]]
        reason = f"You chose to {reviewed} it." if reviewed else explain(scores, i, classes)
        score = 0.0 if reviewed else float(suspicion[i])
        says = label if reviewed else classes[suggested[i]]
        rows.append(
            Suspect(photo.path, label, says, score, float(best[i]), "label", reason, neighbours, reviewed)
        )
    return sorted(rows, key=_order)


def _order(row: Suspect):
    return row.reviewed is not None, -row.score, row.path


def _reviews(catalog, photos, labels, scores: LabelScores, classes):
    """Suspicion (n,) of the labels as first given, and what has been reviewed and found wrong, as of now."""
    decided = _decisions(catalog)
    given, reviewed, wrong = scores.labels.copy(), np.zeros(len(photos), bool), np.zeros(len(photos), bool)
    for i, photo in enumerate(photos):
        choice = decided.get(photo.sha256)
        if choice is None or choice.kind not in ("keep", "relabel", "remove"):
            continue
        reviewed[i], wrong[i] = True, choice.kind != "keep"
        if choice.before in classes:
            given[i] = classes.index(choice.before)
    own = scores.probs[np.arange(len(photos)), given]
    others = scores.probs.copy()
    others[np.arange(len(photos)), given] = -1
    other = others.max(axis=1)
    return other / np.maximum(own + other, 1e-12), reviewed, wrong


def _html_row(row: Suspect) -> str:
    values = (row.path, row.label, row.suggested, f"{row.score:.2f}", row.reason)
    return "<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in values) + "</tr>"
