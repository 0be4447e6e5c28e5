"""The decision journal: choices, carrying them out on disk, undoing them, and recovery after a crash.

A choice is a row in `decisions`. What happens to it later is further rows in `steps`: intended (with
source and target) → done on disk → done; undo intended → done on disk → undone. No row is ever rewritten.
"""

from __future__ import annotations

import json
import sqlite3

from winnow.records import Decision, NoSuchPhoto
from winnow.store import Store, now

OPEN = "step = 'rolled back'"  # the view's word for "nothing done on disk": pending or superseded
STATES = {"done": "applied", "undo intended": "applied", "undone": "undone"}


def decide(store: Store, kind: str, path: str, after: str | None, *, by: str = "", why: str = "") -> Decision:
    """Journal a choice at once, as pending; the same choice twice is one row."""
    with store.write() as db:
        file = find_file(db, path)
        last = _last_choice(db, file["id"])
        if last and _same_choice(last, kind, after):
            return as_decision(last)
        if kind == "relabel" and after == file["label"]:
            kind, after = "keep", None  # choosing the label that it has
            if last and _same_choice(last, kind, after):
                return as_decision(last)
        cursor = db.execute(
            'INSERT INTO decisions (kind, file, path, sha256, before, after, "by", why, at)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [kind, file["id"], file["path"], file["sha256"], file["label"], after, by, why, now()],
        )
        return as_decision(journal_row(db, cursor.lastrowid))


def find_file(db: sqlite3.Connection, path: str) -> sqlite3.Row:
    """The file at `path`, or the one that was there before `apply` moved it."""
    here = db.execute("SELECT * FROM files WHERE path = ?", [path]).fetchone()
    if here is None:
        here = db.execute(
            "SELECT f.* FROM steps s JOIN decisions d ON d.id = s.decision JOIN files f ON f.id = d.file"
            " WHERE s.source = ? AND s.state = 'done' ORDER BY s.id DESC LIMIT 1",
            [path],
        ).fetchone()
    if here is None or here["state"] not in ("live", "unreadable"):
        state = "was removed" if here and here["state"] == "removed" else "is no photo of this dataset"
        raise NoSuchPhoto(f"{path} {state}: look at photos() for what is there now, or call sync().")
    return here


def _last_choice(db: sqlite3.Connection, file: int) -> sqlite3.Row | None:
    """The newest choice about a file that stands."""
    return db.execute(
        "SELECT * FROM journal WHERE file = ? AND step != 'undone' ORDER BY id DESC LIMIT 1", [file]
    ).fetchone()


def _same_choice(last: sqlite3.Row, kind: str, after: str | None) -> bool:
    return (last["kind"], last["after"]) == (kind, after)


def pending(store: Store) -> dict[str, Decision]:
    """The choice that waits for `apply`, for each photo that has one, by its present path."""
    return {row["now"]: as_decision(row) for row in pending_rows(store.db)}


def pending_rows(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """The newest open choice about each live file, with the file's present path as `now`."""
    return db.execute(
        f"""SELECT j.*, f.path AS now, f.side FROM journal j
        JOIN files f ON f.id = j.file
        WHERE j.{OPEN} AND f.state IN ('live', 'unreadable') AND NOT EXISTS (
            SELECT 1 FROM journal later
            WHERE later.file = j.file AND later.id > j.id AND later.step != 'undone')
        ORDER BY j.id"""
    ).fetchall()


def history(store: Store) -> list[Decision]:
    """Every choice ever made, oldest first, with what became of it."""
    rows = store.db.execute(
        """SELECT *, max(CASE WHEN step != 'undone' THEN id END) OVER (PARTITION BY file) AS standing
        FROM journal ORDER BY id"""
    ).fetchall()
    return [as_decision(row, superseded=row["standing"] not in (None, row["id"])) for row in rows]


def as_decision(row: sqlite3.Row, *, superseded: bool = False, state: str | None = None) -> Decision:
    """The public face of a journal row."""
    state = state or STATES.get(row["step"], "superseded" if superseded else "pending")
    fields = ("id", "kind", "path", "sha256", "before", "after", "by", "why", "at")
    return Decision(state=state, **{name: row[name] for name in fields})


def journal_row(db: sqlite3.Connection, number: int) -> sqlite3.Row:
    """A decision with the last step it went through."""
    return db.execute("SELECT * FROM journal WHERE id = ?", [number]).fetchone()


def write_step(
    db: sqlite3.Connection,
    decision: int,
    state: str,
    source: str | None = None,
    target: str | None = None,
    made: list[str] | tuple = (),  # folders that the move makes
) -> None:
    """Add a step that a decision went through."""
    db.execute(
        "INSERT INTO steps (decision, state, source, target, made, at) VALUES (?, ?, ?, ?, ?, ?)",
        [decision, state, source, target, json.dumps(list(made)), now()],
    )
