"""Thumbnails of what a search found, to untick what doesn't belong before anything is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from winnow.collect.found import Found, Results

STATIC = Path(__file__).parent / "static"


class Gallery(anywidget.AnyWidget):
    """A wall of thumbnails with a tick on each; `ticked` and `unticked` give the rows as they stand.

    Works with the mouse, and with the keyboard alone: Tab to a class, arrows to a picture, space to untick it. The
    browser loads the thumbnails as they are scrolled to, and tells their hosts nothing about the notebook.
    """

    _esm = STATIC / "gallery.js"
    _css = STATIC / "gallery.css"
    rows = traitlets.List().tag(sync=True)
    left_out = traitlets.List(traitlets.Int()).tag(sync=True)  # places in `rows`

    def __init__(self, found: Sequence[Found], *, unticked: Sequence[str] = (), **options):
        self.found = list(found)
        super().__init__(
            rows=[_shown(row) for row in self.found],
            left_out=[place for place, row in enumerate(self.found) if row.url in set(unticked)],
            **options,
        )

    @property
    def ticked(self) -> Results:
        """The rows to download."""
        out = set(self.left_out)
        return Results(row for place, row in enumerate(self.found) if place not in out)

    @property
    def unticked(self) -> Results:
        """The rows that a person left out."""
        return Results(self.found[place] for place in sorted(set(self.left_out)) if place < len(self.found))

    def untick(self, urls: Sequence[str]) -> None:
        """Untick by address, as a click would."""
        wanted = set(urls)
        places = {place for place, row in enumerate(self.found) if row.url in wanted}
        self.left_out = sorted(places | set(self.left_out))


def _shown(row: Found) -> dict[str, str]:
    """What the browser needs to know of a row; only web addresses get through."""
    size = f"{row.width}×{row.height}" if row.width and row.height else ""
    about = " · ".join(part for part in (size, row.licence, row.creator) if part)
    picture, page = row.thumbnail or row.url, row.page or row.url
    return {
        "label": row.label,
        "title": row.title or "untitled",
        "about": about,
        "picture": picture if picture.startswith(("http://", "https://")) else "",
        "page": page if page.startswith(("http://", "https://")) else "",
    }
