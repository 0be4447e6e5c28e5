"""The order in which photos are looked at: one row a photo, most suspect first, menus choose from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import repeat
from operator import attrgetter
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
        *,
        splits: Callable[[], dict[str, str]] = dict,  # gives the side of each photo, when it is asked for
    ):
        self.paths, self.labels, self.faults = columns
        self._read_splits = splits
        self.place = dict(zip(self.paths, range(len(self.paths)), strict=True))
        self._labels = _coded(self.labels)
        self._sort_suspects(list(suspects))
        self.kinds = sorted(
            {suspect.kind for suspect in self._suspects} | ({UNREADABLE} if self.faults else set())
        )
        self._ranked: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def _sort_suspects(self, suspects: list[Suspect]) -> None:
        """By photo, the most suspect first; arrays, because 100,000 lists take longer than the rest of opening."""
        found = map(self.place.get, map(attrgetter("path"), suspects), repeat(-1))
        places = np.fromiter(found, np.int64, len(suspects))
        scores = np.fromiter(map(attrgetter("score"), suspects), np.float64, len(suspects))
        order = np.lexsort((-scores, places))
        order = order[places[order] >= 0]
        self._suspects = list(map(suspects.__getitem__, order.tolist()))
        self._places, self._values = places[order], scores[order]

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def _splits(self) -> tuple[dict[str, int], np.ndarray]:
        splits = self._read_splits()
        return _coded([splits.get(path, "") for path in self.paths])

    def counts(self) -> dict[str, int]:
        """How many photos each label has."""
        names, codes = self._labels
        return dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))

    def view(self, *, label: str = "", split: str = "", kind: str = "") -> np.ndarray:
        """Rows (int array) that the menus leave, most suspect first, photos without a score last."""
        chosen = np.ones(len(self), bool)
        if label:
            chosen &= _has(self._labels, label)
        if split:
            chosen &= _has(self._splits, split)
        scores = self.scores(kind)
        if kind:
            chosen &= ~np.isnan(scores)
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(-np.nan_to_num(scores[rows], nan=-1.0), kind="stable")]

    def scores(self, kind: str = "") -> np.ndarray:
        """How suspect each photo is, NaN where nothing speaks against it; what can't be read comes first."""
        return self._rank(kind)[0]

    def doubtful(self, rows: np.ndarray, threshold: float, kind: str = "") -> np.ndarray:
        """Those of `rows` whose shown suspicion has at least this confidence in its suggestion."""
        shown = self._rank(kind)[1][rows]
        return rows[[i >= 0 and (self._suspects[i].confidence or 0) >= threshold for i in shown]]

    def _rank(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """For each photo the score and the number of the suspicion to show (-1 where there is none)."""
        if kind not in self._ranked:
            chosen = np.arange(len(self._suspects))
            if kind:
                chosen = np.flatnonzero([suspect.kind == kind for suspect in self._suspects])
            scores, shown = np.full(len(self), np.nan), np.full(len(self), -1)
            places, first = np.unique(self._places[chosen], return_index=True)
            shown[places] = chosen[first]
            scores[places] = self._values[chosen[first]]
            if kind in ("", UNREADABLE):
                scores[[self.place[path] for path in self.faults]] = 2.0
            self._ranked[kind] = scores, shown
        return self._ranked[kind]

    def suspect(self, row: int, kind: str = "") -> Suspect | None:
        """What speaks most against this row's label (of that `kind`, where one is chosen)."""
        number = self._rank(kind)[1][row]
        return self._suspects[number] if number >= 0 else None

    def suspicions(self, row: int) -> list[Suspect]:
        """Everything that speaks against this row, the worst first."""
        start, stop = np.searchsorted(self._places, [row, row + 1])
        return self._suspects[start:stop]


def _has(column: tuple[dict[str, int], np.ndarray], name: str) -> np.ndarray:
    names, codes = column
    return codes == names.get(name, -1)


def _coded(values: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
    names = {name: i for i, name in enumerate(dict.fromkeys(values))}
    return names, np.fromiter(map(names.__getitem__, values), np.int32, len(values))
