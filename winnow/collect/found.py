"""What a search gives: one row type for every engine, and the three ways in which a search can fail."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from html import escape

AGENT = "winnow-images/0.1 (+https://github.com/winnow-images/winnow)"


class SearchFailed(Exception):
    """A search gave no picture; the subclass says which of three reasons it was."""


class Blocked(SearchFailed):
    """The engine was reached and refuses to answer: wait, or use another source."""


class Offline(SearchFailed):
    """The engine could not be reached at all: there is no network, or the engine is down."""


class NothingFound(SearchFailed):
    """The engine works, and has no picture for these words."""


class UnknownChoice(ValueError):
    """A source or a licence that there is none of by this name."""


@dataclass(frozen=True)
class Found:
    """One picture that an engine offers. Nothing of it has been downloaded yet."""

    url: str  # of the picture itself, as the engine wrote it, query string and all
    label: str = ""  # the class that it was searched for
    page: str = ""  # the page that it stands on
    title: str = ""
    thumbnail: str = ""
    width: int | None = None
    height: int | None = None
    engine: str = ""
    query: str = ""
    creator: str = ""
    licence: str = ""
    licence_url: str = ""
    attribution: str = ""

    def origin(self) -> dict[str, str]:
        """What the catalog keeps about where a picture comes from."""
        known = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        return {
            name: value
            for name, value in known.items()
            if name not in ("label", "thumbnail", "width", "height")
        }

    def to_json(self) -> str:
        """As a line of JSON that `from_json` reads."""
        return json.dumps(
            {name: value for name, value in asdict(self).items() if name == "url" or value not in ("", None)}
        )

    @classmethod
    def from_json(cls, text: str) -> Found:
        """The row that `to_json` wrote."""
        return cls(**json.loads(text))


class Results(list):
    """A list of `Found` that also says what went wrong on the way, one sentence a source, in `notes`."""

    def __init__(self, rows: Iterable[Found] = (), notes: Iterable[str] = ()):
        super().__init__(rows)
        self.notes = list(notes)

    def counts(self) -> dict[str, int]:
        """How many pictures were found for each class."""
        return dict(Counter(row.label for row in self))

    def labelled(self, label: str) -> Results:
        """The same rows, for the class `label`."""
        return Results([replace(row, label=label) for row in self], self.notes)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{count}</td></tr>" for name, count in self.counts().items()
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<table><tr><th>class</th><th>found</th></tr>{rows}</table>{notes}"

    def __str__(self) -> str:
        lines = [f"{name}: {count} found" for name, count in self.counts().items()]
        return "\n".join(lines + self.notes)
