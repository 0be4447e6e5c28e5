"""Which label each photo has now, and what a person has decided about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from winnow.catalog import Catalog
    from winnow.records import Decision, Photo

REVIEWS = ("keep", "relabel", "remove")


class NothingToClean(ValueError):
    """Labels can't be compared: fewer than two classes have photos, or a target has no values."""


@dataclass(frozen=True)
class Labelled:
    """Photos that have a label, in the catalog's order."""

    photos: list[Photo]
    names: list[str]  # the label that each has on disk (or as its target)
    classes: list[str]
    decided: dict[str, Decision] = field(default_factory=dict)  # by hash: the choice that stands

    def numbers(self, names: list[str]) -> np.ndarray:
        """Class numbers (n,) of class names."""
        known = {name: number for number, name in enumerate(self.classes)}
        return np.array([known[name] for name in names], np.int64)

    def current(self) -> np.ndarray:
        """Class numbers (n,) to learn from: a relabel that waits to be applied counts already."""
        return self.numbers(
            [self._now(photo, name) for photo, name in zip(self.photos, self.names, strict=True)]
        )

    def choice(self, row: int) -> Decision | None:
        """What a person decided about photo `row`."""
        return self.decided.get(self.photos[row].sha256)

    def _now(self, photo: Photo, name: str) -> str:
        choice = self.decided.get(photo.sha256)
        waits = choice is not None and choice.kind == "relabel" and choice.state == "pending"
        return choice.after if waits and choice.after in self.classes else name


def labelled(catalog: Catalog, target: str | None = None) -> Labelled:
    """The photos that have a label (or a value of `target`); raises `NothingToClean` with fewer than two classes."""
    photos = catalog.photos()
    if target is not None:
        photos = [photo for photo in photos if target in photo.targets]
    names = [photo.label if target is None else photo.targets[target] for photo in photos]
    if len(set(names)) < 2:
        what = "class folders" if target is None else f"values of the target {target!r}"
        raise NothingToClean(
            f"Only {len(set(names))} of the {what} has photos: wrong labels need at least two."
        )
    classes = sorted(set(names) | (set(catalog.classes) if target is None else set()))
    return Labelled(photos, names, classes, standing(catalog, target))


def standing(catalog: Catalog, target: str | None = None) -> dict[str, Decision]:
    """The review that stands for each image, by its hash."""
    if target is None:
        decisions = catalog.history()
    else:
        from winnow.clean.cleaner_books import TargetBook

        decisions = TargetBook(catalog, target).history() if hasattr(catalog, "add_row") else []
    return {d.sha256: d for d in decisions if d.state in ("pending", "applied") and d.kind in REVIEWS}


def reviewed(catalog: Catalog, data: Labelled, probs: np.ndarray, target: str | None = None):
    """Suspicion (n,) of the labels as first given, who has been reviewed (n,) and who was wrong (n,), as of now."""
    decided = standing(catalog, target)
    given, looked, wrong = data.current(), np.zeros(len(data.photos), bool), np.zeros(len(data.photos), bool)
    known = {name: number for number, name in enumerate(data.classes)}
    for row, photo in enumerate(data.photos):
        if choice := decided.get(photo.sha256):
            looked[row], wrong[row] = True, choice.kind != "keep"
            given[row] = known.get(choice.before, given[row])
    return against(probs, given), looked, wrong


def against(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Probability (n,) of the likeliest other class against that of the `given` one: above 0.5 the other wins."""
    rows = np.arange(len(given))
    own, others = probs[rows, given], probs.copy()
    others[rows, given] = -1
    other = np.maximum(others.max(axis=1), 0)
    return other / np.maximum(own + other, 1e-12)
