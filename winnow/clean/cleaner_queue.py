"""The order in which photos are looked at: one row a photo, most suspect first, menus choose from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from winnow.clean.cleaner_journal import Columns
    from winnow.clean.suspects import Suspect

UNREADABLE = "unreadable"  # the kind of a photo that can't be opened


class Queue:
    """Photos as columns, ranked by their most suspect row; 100,000 photos filter in milliseconds.

    A photo may be suspect in several ways (wrong label, copy of another). It still has one row, at the place of
    its worst; choosing a kind in the menu ranks by that kind and shows its reason.
    """

    def __init__(
        self,
        columns: Columns,  # the photos
        suspects: Iterable[Suspect] = (),  # in any order, any number for a photo
    ):
        self.paths, self.shas, self.labels, self.splits, self.faults = columns
        self.place = {path: i for i, path in enumerate(self.paths)}
        self.suspects: dict[str, list[Suspect]] = defaultdict(list)
        for suspect in suspects:
            self.suspects[suspect.path].append(suspect)
        for rows in self.suspects.values():
            if len(rows) > 1:
                rows.sort(key=lambda suspect: -suspect.score)
        self._codes = {"label": _coded(self.labels), "split": _coded(self.splits)}
        kinds = {suspect.kind for rows in self.suspects.values() for suspect in rows}
        self.kinds = sorted(kinds | ({UNREADABLE} if self.faults else set()))
        self._scores: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def counts(self, column: str) -> dict[str, int]:
        """How many photos each label or split has."""
        names, codes = self._codes[column]
        return dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))

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
        """How suspect each photo is, NaN where nothing speaks against it; what can't be read comes first."""
        if kind not in self._scores:
            scores = np.full(len(self), np.nan)
            for path, rows in self.suspects.items():
                best, place = self._shown(rows, kind), self.place.get(path)
                if best is not None and place is not None:
                    scores[place] = best.score
            if kind in ("", UNREADABLE):
                scores[[self.place[path] for path in self.faults]] = 2.0
            self._scores[kind] = scores
        return self._scores[kind]

    def suspect(self, row: int, kind: str = "") -> Suspect | None:
        """What speaks most against this row's label (of that `kind`, where one is chosen)."""
        return self._shown(self.suspects.get(self.paths[row], ()), kind)

    @staticmethod
    def _shown(rows: Sequence[Suspect], kind: str) -> Suspect | None:
        return next((suspect for suspect in rows if not kind or suspect.kind == kind), None)


def _coded(values: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
    names = {name: i for i, name in enumerate(dict.fromkeys(values))}
    return names, np.fromiter((names[value] for value in values), np.int32, len(values))
