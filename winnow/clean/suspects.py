"""The review queue: every photo of a dataset, the one whose label is likeliest to be wrong first."""

from __future__ import annotations

import csv
import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from winnow.clean.estimate import Estimate, estimate_errors, expected_share
from winnow.clean.labels import Labelled, NothingToClean, labelled, reviewed
from winnow.clean.others import off_topic_rows, queued_rows
from winnow.clean.reasons import LOOKED_AT, explain
from winnow.clean.scoring import LabelScores, score_labels
from winnow.learn.features import extract_features

if TYPE_CHECKING:
    from winnow.catalog import Catalog

__all__ = ["NothingToClean", "Suspect", "Suspects", "find_suspects"]

BACKBONE = "tf_efficientnet_lite0"
SIZE = 192
# backbone and pixels of the sets of features that are cached by default (what each adds: docs/clean.md)
VIEWS = ((BACKBONE, SIZE), ("tf_efficientnet_lite1", 224))
COLUMNS = ("path", "label", "suggested", "score", "reason")


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
    neighbours: list[str] = field(default_factory=list)  # paths of photos to compare it with, nearest first
    reviewed: str | None = None  # "keep", "relabel" or "remove", once a person has decided


class Suspects(Sequence):
    """Rows to review, most suspect first; those that a person has decided come last."""

    def __init__(
        self,
        rows: Iterable[Suspect],
        *,
        scores: LabelScores | None = None,  # what the rows of kind "label" were made from
        review: Callable | None = None,  # gives (suspicion, reviewed, wrong) as the journal stands now
    ):
        self.rows = sorted(rows, key=_order)
        self.scores = scores
        self._review = review

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        return self._with(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __repr__(self) -> str:
        return (
            f"<Suspects: {len(self)} rows, {sum(s.score > 0.5 for s in self)} above 0.5, kinds {self.kinds}>"
        )

    @property
    def kinds(self) -> dict[str, int]:
        """How many rows of each kind."""
        return dict(Counter(row.kind for row in self.rows))

    def only(self, *kinds: str) -> Suspects:
        """The rows of these kinds."""
        return self._with(row for row in self.rows if row.kind in kinds)

    def joined(self, rows: Iterable[Suspect]) -> Suspects:
        """These rows and further ones, in one queue."""
        return self._with([*rows, *self.rows])

    def estimate(self) -> Estimate:
        """About how many labels are wrong and how many reviews find 90 % of them, given the reviews so far."""
        if self.scores is None or self._review is None:
            return estimate_errors(np.zeros(0), (0.0, 0.0, 0.0))
        suspicion, looked, wrong = self._review()
        return estimate_errors(suspicion, self._share, reviewed=looked, wrong=wrong)

    def to_csv(self, path: Path | str) -> Path:
        """Write `path,label,suggested,score,reason`, one line for each photo, the most suspect label first.

        What else is known about a photo (a copy, a fault) is added to its reason.
        """
        lines: dict[str, list] = {}
        for row in [*self.only("label"), *(row for row in self.rows if row.kind != "label")]:
            line = lines.setdefault(row.path, [row.path, row.label, row.suggested, row.score, ""])
            line[4] = f"{line[4]} {row.reason}".strip()
        path = Path(path)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for line in sorted(lines.values(), key=lambda line: -line[3]):
                writer.writerow([*line[:3], f"{line[3]:.6f}", line[4]])
        return path

    @cached_property
    def _share(self) -> tuple[float, float, float]:
        return expected_share(self.scores.probs, self.scores.labels)

    def _with(self, rows: Iterable[Suspect]) -> Suspects:
        return Suspects(rows, scores=self.scores, review=self._review)

    def _repr_html_(self) -> str:
        cells = "".join(_html_row(row) for row in self.rows[:20])
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        return f"<p>{html.escape(str(self.estimate()))}</p><table><tr>{head}</tr>{cells}</table>"


def find_suspects(
    catalog: Catalog,
    *,
    backbone: str | Sequence[str] | None = None,
    sizes: Sequence[int]
    | None = None,  # pixels; each backbone at each size is a set of features (default: `VIEWS`)
    target: str | None = None,  # a further target to clean, instead of the class folders
    learn=None,  # a fastai learner that was trained with `MarginWatch`: its margins are one more view
    kinds: Iterable[str] | None = None,  # only these kinds of rows
    progress: Callable[[int, int], None] | None = None,
) -> Suspects:
    """Rank every photo of `catalog` by how likely its label is wrong, with a reason for each.

    The catalog's duplicates, leaks, quality rows and feedback stand in the same queue, and photos that are far from
    every class. Raises `NothingToClean` when fewer than two classes have photos.
    """
    data = labelled(catalog, target)
    blocks = _features(catalog, data.photos, _sets(backbone, sizes), progress)
    groups = [
        photo.group or photo.sha256 for photo in data.photos
    ]  # equal files count as copies in any folder
    scores = score_labels(
        blocks, data.current(), n_classes=len(data.classes), groups=groups, margins=_margins(learn, data)
    )
    rows = _label_rows(data, scores)
    if target is None:
        others = off_topic_rows(data.photos, data.names, blocks[0])
        others += queued_rows(
            catalog, {p.path: name for p, name in zip(data.photos, data.names, strict=True)}
        )
        chosen = {row.path: row.reviewed for row in rows}
        rows += [Suspect(**fields, reviewed=chosen.get(fields["path"])) for fields in others]
    found = Suspects(rows, scores=scores, review=lambda: reviewed(catalog, data, scores.probs, target))
    return found if kinds is None else found.only(*kinds)


def _sets(backbone, sizes) -> list[tuple[str, int]]:
    """The backbones and sizes that were asked for."""
    if backbone is None and sizes is None:
        return list(VIEWS)
    backbones = [backbone or BACKBONE] if backbone is None or isinstance(backbone, str) else backbone
    return [(name, size) for name in backbones for size in sizes or (SIZE,)]


def _features(catalog, photos, sets, progress) -> list[np.ndarray]:
    return [
        extract_features(catalog, photos=photos, backbone=name, size=size, progress=progress)
        for name, size in sets
    ]


def _margins(learn, data: Labelled) -> np.ndarray | None:
    """The training run's mean margin of each photo's label (n,), NaN where it did not train on it."""
    known = getattr(learn, "label_margins", None)
    return np.array([known.get(photo.sha256, np.nan) for photo in data.photos]) if known else None


def _label_rows(data: Labelled, scores: LabelScores) -> list[Suspect]:
    suspicion, suggested = scores.suspicion, scores.suggested
    best = scores.probs[np.arange(len(data.photos)), suggested]
    rows = []
    for i, (photo, label) in enumerate(zip(data.photos, data.names, strict=True)):
        neighbours = [data.photos[j].path for j in scores.nearest[i][:LOOKED_AT]]
        if choice := data.choice(i):
            row = (
                label,
                0.0,
                float(best[i]),
                "label",
                f"You chose to {choice.kind} it.",
                neighbours,
                choice.kind,
            )
        else:
            said = explain(scores, i, data.classes)
            row = (
                data.classes[suggested[i]],
                float(suspicion[i]),
                float(best[i]),
                "label",
                said,
                neighbours,
                None,
            )
        rows.append(Suspect(photo.path, label, *row))
    return rows


def _order(row: Suspect):
    return row.reviewed is not None, -row.score, row.path


def _html_row(row: Suspect) -> str:
    values = (row.path, row.label, row.suggested, f"{row.score:.2f}", row.reason)
    return "<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in values) + "</tr>"
