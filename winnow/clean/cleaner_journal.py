"""The catalog's journal as the cleaner reads it: columns instead of objects, so that 100,000 photos open in a second.

Choices are written through the catalog's own methods only; this module never writes to the journal.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from winnow.catalog import Decision

if TYPE_CHECKING:
    from winnow.catalog import Catalog

COLUMNS = """SELECT f.path, f.sha256, f.label, coalesce(i.side, f.side, 'none')
    FROM files f JOIN images i USING (sha256) WHERE f.state = 'live'"""
TARGET_COLUMNS = """SELECT f.path, f.sha256, t.value, coalesce(i.side, f.side, 'none')
    FROM files f JOIN images i USING (sha256) JOIN targets t ON t.sha256 = f.sha256 AND t.name = ?
    WHERE f.state = 'live'"""
UNREADABLE = """SELECT path, sha256, label, 'none', reason FROM files WHERE state = 'unreadable'"""
STANDING = """SELECT f.path AS here, j.* FROM journal j JOIN files f ON f.id = j.file
    WHERE f.state IN ('live', 'unreadable') AND j.kind IN ('keep', 'relabel', 'remove')
    AND j.id IN (SELECT max(id) FROM journal WHERE step != 'undone' GROUP BY file)"""
MARKS = "SELECT (SELECT max(id) FROM decisions), (SELECT max(id) FROM steps), (SELECT max(id) FROM queue)"


class Columns(NamedTuple):
    """The photos of a catalog, one list each."""

    paths: list[str]
    shas: list[str]
    labels: list[str]
    splits: list[str]
    faults: dict[str, str]  # path → why a file can't be read


class JournalReader:
    """Reads what any process wrote; a connection of its own, used under the cleaner's lock."""

    def __init__(self, catalog: Catalog):
        uri = (catalog.folder / "catalog.db").as_uri() + "?mode=ro"
        self.db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30)
        self.db.row_factory = sqlite3.Row

    def columns(self, target: str | None = None) -> Columns:
        """Photos in no particular order, the unreadable ones last; labels are folders, or values of `target`."""
        self.db.row_factory = None
        rows = self.db.execute(*((TARGET_COLUMNS, [target]) if target else (COLUMNS,))).fetchall()
        unreadable = [] if target else self.db.execute(UNREADABLE).fetchall()
        self.db.row_factory = sqlite3.Row
        every = [*rows, *(row[:4] for row in unreadable)]
        lists = [list(column) for column in zip(*every, strict=True)] or [[], [], [], []]
        return Columns(*lists, {row[0]: row[4] for row in unreadable})

    def standing(self) -> dict[str, Decision]:
        """The choice that holds for each photo that has one, pending or applied, by its present path."""
        return {row["here"]: _decision(row) for row in self.db.execute(STANDING)}

    def marks(self) -> tuple[int, int, int]:
        """Grows with every choice and step that anybody writes."""
        return tuple(number or 0 for number in self.db.execute(MARKS).fetchone())

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()


def _decision(row: sqlite3.Row) -> Decision:
    state = "applied" if row["step"] in ("done", "undo intended") else "pending"
    names = ("id", "kind", "path", "sha256", "before", "after", "by", "why", "at")
    return Decision(state=state, **{name: row[name] for name in names})
