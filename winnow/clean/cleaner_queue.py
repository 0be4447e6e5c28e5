"""The order in which photos are looked at: one row a photo, most suspect first, menus choose from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from winnow.catalog import Photo
    from winnow.clean.suspects import Suspect

NO_SPLIT = "none"  # what the split menu calls photos that have no side yet


class Queue:
    """Photos as columns, ranked by their most suspect row; 100,000 photos filter in milliseconds.

    A photo may be suspect in several ways (wrong label, copy of another). It still has one row, at the place of
    its worst; choosing a kind in the menu ranks by that kind and shows its reason.
    """

    def __init__(
        self,
        photos: Sequence[Photo],  # live photos of the catalog
        suspects: Iterable[Suspect] = (),  # in any order, any number for a photo
        *,
        target: str | None = None,  # rank another target than the class folder
    ):
        self.paths = [photo.path for photo in photos]
        self.shas = [photo.sha256 for photo in photos]
        self.labels = [photo.targets.get(target, "") if target else photo.label for photo in photos]
        self.splits = [photo.split or NO_SPLIT for photo in photos]
        self.place = {path: i for i, path in enumerate(self.paths)}
        self.suspects: dict[str, list[Suspect]] = defaultdict(list)
        for suspect in suspects:
            if suspect.path in self.place:
                self.suspects[suspect.path].append(suspect)
        for rows in self.suspects.values():
            if len(rows) > 1:
                rows.sort(key=lambda suspect: -suspect.score)
        self._codes = {"label": _coded(self.labels), "split": _coded(self.splits)}
        self.kinds = sorted({s.kind for rows in self.suspects.values() for s in rows})

    def __len__(self) -> int:
        return len(self.paths)

    def view(self, *, label: str = "", split: str = "", kind: str = "") -> np.ndarray:
        """Rows (int array) that the menus leave, most suspect first, photos without a score last."""
        chosen = np.ones(len(self), bool)
        for column, value in (("label", label), ("split", split)):
            if value:
                names, codes = self._codes[column]
                chosen &= codes == names.get(value, -1)
        scores = self.scores(kind)
        if kind:
            chosen &= ~np.isnan(scores)
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(-np.nan_to_num(scores[rows], nan=-1.0), kind="stable")]

    def scores(self, kind: str = "") -> np.ndarray:
        """How suspect each photo is, NaN where nothing speaks against it."""
        scores = np.full(len(self), np.nan)
        for path, rows in self.suspects.items():
            best = self._shown(rows, kind)
            if best is not None:
                scores[self.place[path]] = best.score
        return scores

    def suspect(self, row: int, kind: str = "") -> Suspect | None:
        """What speaks most against this row's label (of that `kind`, where one is chosen)."""
        return self._shown(self.suspects.get(self.paths[row], ()), kind)

    @staticmethod
    def _shown(rows: Sequence[Suspect], kind: str) -> Suspect | None:
        return next((suspect for suspect in rows if not kind or suspect.kind == kind), None)


def _coded(values: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
    names = {name: i for i, name in enumerate(dict.fromkeys(values))}
    return names, np.fromiter((names[value] for value in values), np.int32, len(values))
