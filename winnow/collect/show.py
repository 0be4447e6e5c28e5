"""What a dataset looks like: counts for each class and side, and a small grid of pictures."""

from __future__ import annotations

import base64
import random
from collections import Counter
from html import escape

from winnow.catalog import Catalog
from winnow.images import thumbnail


class Html(str):
    """A piece of HTML that a notebook shows as such, and names by its length elsewhere."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<HTML, {len(self):,} characters>"

    def _repr_html_(self) -> str:
        return str(self)


def count_table(catalog: Catalog) -> Html:
    """How many photos each class has, and how many of them learn and check."""
    counts = Counter((photo.label, photo.split or "no side yet") for photo in catalog.photos())
    sides = [
        side for side in ("train", "valid", "test", "no side yet") if any(key[1] == side for key in counts)
    ]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("class", *sides, "all"))
    rows = "".join(_row(name, [counts[name, side] for side in sides]) for name in catalog.classes)
    total = _row("all", [sum(counts[name, side] for name in catalog.classes) for side in sides])
    return Html(f"<table><tr>{head}</tr>{rows}{total}</table>")


def picture_grid(catalog: Catalog, *, per_class: int = 8, side: int = 96, seed: int = 0) -> Html:
    """Some photos of each class, drawn at random, a row a class."""
    rows = []
    for label in catalog.classes:
        photos = catalog.photos(label=label)
        drawn = random.Random(seed).sample(photos, min(per_class, len(photos)))
        cells = "".join(_picture(catalog, photo.path, side) for photo in drawn)
        rows.append(f"<tr><th>{escape(label)}</th><td>{cells}</td></tr>")
    return Html(f"<table>{''.join(rows)}</table>")


def review_grid(catalog: Catalog, kind: str, *, limit: int = 12, side: int = 96) -> Html:
    """The first `limit` photos that have a row of `kind` to review, each with its reason."""
    rows = catalog.rows(kind)[:limit]
    cells = "".join(
        f"<td>{_picture(catalog, row.path, side)}<br><small>{escape(row.reason.split(':')[0])}</small></td>"
        for row in rows
    )
    return Html(f"<table><tr>{cells}</tr></table>" if rows else "<p>Nothing to look at.</p>")


def group_grid(catalog: Catalog, groups: list[list[str]], *, limit: int = 6, side: int = 96) -> Html:
    """The first `limit` groups of paths, a row each, with the class under each picture."""
    rows = [
        "<tr>" + "".join(
            f"<td>{_picture(catalog, path, side)}<br><small>{escape(catalog.photo(path).label)}</small></td>"
            for path in group[:8]
        ) + "</tr>"
        for group in groups[:limit]
    ]  # fmt: skip
    return Html(f"<table>{''.join(rows)}</table>" if rows else "<p>No photo comes twice.</p>")


def _row(name: str, numbers: list[int]) -> str:
    cells = "".join(f"<td>{number:,}</td>" for number in [*numbers, sum(numbers)])
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _picture(catalog: Catalog, path: str, side: int) -> str:
    data = base64.b64encode(thumbnail(catalog.file(path), side)).decode()
    name = escape(path, quote=True)
    return f'<img src="data:image/jpeg;base64,{data}" alt="{name}" title="{name}" style="display:inline">'
