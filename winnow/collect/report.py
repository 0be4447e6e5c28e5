"""What an intake did, a class at a time: how many were found, how many are in the catalog, and why not the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape

from winnow.catalog import Catalog
from winnow.images import BadImage

_KINDS = {  # what `BadImage` says, as a few words that can be counted
    "removed": "removed before",
    "is not an image": "not an image",
    "is empty": "empty file",
    "hole of zeros": "zeros inside",
    "damaged or cut off": "damaged or cut off",
    "too many": "too many pixels",
    "has only": "too small",
}


class Report:
    """Counts of one intake: `found`, `images` and `rejected` (by reason), for each class."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self.rejected: dict[str, Counter[str]] = {}
        self.notes: list[str] = []

    def accept(self, label: str, count: int = 1) -> None:
        """`count` pictures of class `label` are in the catalog."""
        self.found[label] += count
        self.images[label] += count

    def refuse(self, label: str, reason: str, count: int = 1) -> None:
        """`count` pictures of class `label` were refused for `reason`, of which the part before a colon counts."""
        self.found[label] += count
        self.rejected.setdefault(label, Counter())[kind_of(reason)] += count

    def wait(self, label: str, count: int = 1) -> None:
        """`count` pictures of class `label` are still to be fetched."""
        self.found[label] += count

    def __add__(self, other: Report) -> Report:
        both = Report()
        both.found, both.images = self.found + other.found, self.images + other.images
        for label in self.rejected.keys() | other.rejected.keys():
            both.rejected[label] = self.rejected.get(label, Counter()) + other.rejected.get(label, Counter())
        both.notes = self.notes + other.notes
        return both

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason was given, the most frequent first."""
        return dict(sum(self.rejected.values(), Counter()).most_common())

    @property
    def waiting(self) -> int:
        """How many are neither in the catalog nor refused yet."""
        return sum(self.found.values()) - sum(self.images.values()) - sum(self.reasons.values())

    def rows(self) -> list[tuple[str, int, int, str]]:
        """(class, found, in the catalog, why not the rest) for each class."""
        return [
            (label, found, self.images[label], _listed(self.rejected.get(label, {})))
            for label, found in sorted(self.found.items())
        ]

    def __str__(self) -> str:
        lines = [f"{label}: {found} found, {images} in the catalog" + (f"; {why}" if why else "")
                 for label, found, images, why in self.rows()]  # fmt: skip
        return "\n".join(lines + self.notes)

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in self.rows()
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        head = "<tr><th>class</th><th>found</th><th>in the catalog</th><th>why not the rest</th></tr>"
        return f"<table>{head}{cells}</table>{notes}"


def kind_of(reason: str) -> str:
    """The few words at the head of a reason, by which reasons are counted."""
    return reason.split(":", 1)[0].strip()


def reason_of(error: BadImage) -> str:
    """Why a picture was refused: a few words to count by, a colon, and the sentence."""
    sentence = re.sub(r"\s+", " ", str(error)).strip()
    kind = next((words for sign, words in _KINDS.items() if sign in sentence), "can't be used")
    return f"{kind}: {sentence}"


def rejection_counts(catalog: Catalog) -> dict[str, int]:
    """How often each reason was given for what stayed out; what came in on a later try doesn't count."""
    last = {rejection.source: kind_of(rejection.reason) for rejection in catalog.rejections()}
    for photo in catalog.photos() if last else []:
        last.pop(photo.origin.get("url", ""), None)
    return dict(Counter(last.values()).most_common())


def _listed(reasons: Mapping[str, int] | Iterable) -> str:
    ordered = Counter(reasons).most_common()
    return ", ".join(f"{count} {reason}" for reason, count in ordered)
