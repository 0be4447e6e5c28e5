"""The catalog's journal as the cleaner reads it: columns instead of objects, so that 100,000 photos open in a second.

Choices are written through the catalog's own methods only; this module never writes to the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from winnow.catalog import Decision

if TYPE_CHECKING:
    from winnow.catalog import Catalog

NO_SPLIT = "none"  # what the split menu calls photos that have no side yet
COLUMNS = "SELECT path, label FROM files WHERE state = 'live'"
TARGET_COLUMNS = """SELECT f.path, t.value FROM files f
    JOIN targets t ON t.sha256 = f.sha256 AND t.name = ? WHERE f.state = 'live'"""
UNREADABLE = "SELECT path, label, reason FROM files WHERE state = 'unreadable'"
SPLITS = "SELECT f.path, coalesce(i.side, f.side) FROM files f LEFT JOIN images i USING (sha256)"
SIDES = (
    "SELECT DISTINCT side FROM images",
    "SELECT DISTINCT side FROM files",
)  # a join takes ten times as long
STANDING = """SELECT f.path AS here, j.* FROM journal j JOIN files f ON f.id = j.file
    WHERE f.state IN ('live', 'unreadable') AND j.kind IN ('keep', 'relabel', 'remove')
    AND j.id IN (SELECT max(id) FROM journal WHERE step != 'undone' GROUP BY file)"""
MARKS = "SELECT (SELECT max(id) FROM decisions), (SELECT max(id) FROM steps), (SELECT max(id) FROM queue)"


class Columns(NamedTuple):
    """The photos of a catalog, one list each."""

    paths: list[str]
    labels: list[str]
    faults: dict[str, str]  # path → why a file can't be read


class JournalReader:
    """Reads what any process wrote; a connection of its own, used under the cleaner's lock."""

    def __init__(self, catalog: Catalog):
        uri = (catalog.folder / "catalog.db").as_uri() + "?mode=ro"
        self.db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30)
        self.db.row_factory = sqlite3.Row

    def columns(self, target: str | None = None) -> Columns:
        """Photos in no particular order, the unreadable ones last; labels are folders, or values of `target`."""
        paths, labels, faults = [], [], {}
        # one by one: a hundred thousand tuples at once set the garbage collector to work, for longer than this takes
        for path, label in self._each(TARGET_COLUMNS, [target]) if target else self._each(COLUMNS):
            paths.append(path)
            labels.append(label)
        for path, label, reason in () if target else self._each(UNREADABLE):
            paths.append(path)
            labels.append(label)
            faults[path] = reason
        return Columns(paths, labels, faults)

    def splits(self) -> dict[str, str]:
        """The side of every photo; takes as long as the rest of opening, so it is read when a side is chosen."""
        return {path: side or NO_SPLIT for path, side in self._each(SPLITS)}

    def sides(self) -> list[str]:
        """The sides that there are; no side only where neither image nor folder has one."""
        chosen, given = ({side for (side,) in self._each(query)} for query in SIDES)
        return [side for side in chosen | given if side] + [NO_SPLIT] * (None in chosen & given)

    def _each(self, query: str, values: list | tuple = ()) -> Iterator[tuple]:
        """Plain tuples: 100,000 rows by name take twice as long."""
        cursor = self.db.cursor()
        cursor.row_factory = None
        return cursor.execute(query, values)

    def standing(self) -> dict[str, Decision]:
        """The choice that holds for each photo that has one, pending or applied, by its present path."""
        return {row["here"]: _decision(row) for row in self.db.execute(STANDING)}

    def marks(self) -> tuple[int, int, int]:
        """Grows with every choice and step that anybody writes."""
        return tuple(number or 0 for number in self.db.execute(MARKS).fetchone())

    def last_row(self, kind: str, path: str) -> int:
        """The number of the newest review row of this kind about a photo."""
        query = "SELECT max(id) FROM queue WHERE kind = ? AND path = ?"
        return self.db.execute(query, [kind, path]).fetchone()[0]

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()


def _decision(row: sqlite3.Row) -> Decision:
    state = "applied" if row["step"] in ("done", "undo intended") else "pending"
    names = ("id", "kind", "path", "sha256", "before", "after", "by", "why", "at")
    return Decision(state=state, **{name: row[name] for name in names})
