"""The decision journal: choices, carrying them out on disk, undoing them, and recovery after a crash.

A choice is a row in `decisions`. What happens to it later is further rows in `steps`: intended (with
source and target) → done on disk → done; undo intended → done on disk → undone. No row is ever rewritten.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

from winnow.images import sha256_of
from winnow.records import Applied, CannotMove, Decision, NoSuchPhoto
from winnow.store import Store, now

REMOVED = ".removed"
OPEN = "step = 'rolled back'"  # the view's name for "nothing done on disk": pending or superseded


def reached(point: str) -> None:
    """A point where a crash is possible; tests crash here."""


# -- choices ---------------------------------------------------------------------------------------


def decide(store: Store, kind: str, path: str, after: str | None, *, by: str = "", why: str = "") -> Decision:
    """Journal a choice at once, as pending; the same choice twice is one row."""
    with store.write() as db:
        file = find_file(db, path)
        if kind == "relabel" and after == file["label"]:
            kind = "keep"  # choosing the label that it has
        last = _last_choice(db, file["id"])
        if last and _same_choice(last, kind, after, file):
            return _decision(last)
        cursor = db.execute(
            'INSERT INTO decisions (kind, file, path, sha256, before, after, "by", why, at)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [kind, file["id"], file["path"], file["sha256"], file["label"], after, by, why, now()],
        )
        row = db.execute("SELECT * FROM journal WHERE id = ?", [cursor.lastrowid]).fetchone()
    return _decision(row)


def find_file(db: sqlite3.Connection, path: str) -> sqlite3.Row:
    """The file at `path`, or the one that was there before `apply` moved it."""
    here = db.execute("SELECT * FROM files WHERE path = ?", [path]).fetchone()
    if here is None:
        here = db.execute(
            "SELECT f.* FROM journal j JOIN files f ON f.id = j.file"
            " WHERE j.step = 'done' AND j.source = ? ORDER BY j.id DESC",
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


def _same_choice(last: sqlite3.Row, kind: str, after: str | None, file: sqlite3.Row) -> bool:
    if last["step"] == "done" and last["kind"] == "relabel" and kind == "keep":
        return last["after"] == file["label"]  # somebody else's relabel has just been applied
    return last["kind"] == kind and (kind != "relabel" or last["after"] == after)


def pending(store: Store) -> dict[str, Decision]:
    """The choice that waits for `apply`, for each photo that has one, by its present path."""
    return {row["now"]: _decision(row) for row in _pending_rows(store.db)}


def _pending_rows(db: sqlite3.Connection) -> list[sqlite3.Row]:
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
    return [_decision(row, superseded=row["standing"] not in (None, row["id"])) for row in rows]


STATES = {"done": "applied", "undo intended": "applied", "undone": "undone"}


def _decision(row: sqlite3.Row, *, superseded: bool = False, state: str | None = None) -> Decision:
    state = state or STATES.get(row["step"], "superseded" if superseded else "pending")
    fields = ("id", "kind", "path", "sha256", "before", "after", "by", "why", "at")
    return Decision(state=state, **{name: row[name] for name in fields})


# -- carrying out ----------------------------------------------------------------------------------


def apply(store: Store) -> Applied:
    """Carry out what is pending, all of it or nothing; one process at a time."""
    with store.exclusive():
        finish_interrupted(store)
        plan = _plan(store)
        reached("intended")
        done: list[sqlite3.Row] = []
        try:
            for row in plan:
                _carry_out(store, row)
                done.append(row)
        except OSError as error:
            _roll_back(store, plan, done)
            raise CannotMove(
                f"{row['source']} can't be moved ({error.strerror}): every file is back where it was and "
                "every choice is still pending; give yourself write permission, then apply again."
            ) from error
    moved = [(row["source"], row["target"]) for row in plan if row["kind"] == "relabel"]
    return Applied(moved, [row["source"] for row in plan if row["kind"] == "remove"])


def _plan(store: Store) -> list[sqlite3.Row]:
    """Write every pending move as intended; a `keep` needs no move and is done at once."""
    with store.write() as db:
        names = _Names(store.folder, db)
        moves = []
        for row in _pending_rows(db):
            if row["kind"] in ("keep", "feedback"):
                _step(db, row["id"], "done", row["now"], row["now"])
            else:
                target, made = names.take(_target(row))
                _step(db, row["id"], "intended", row["now"], target, made)
                moves.append(row["id"])
        return [_journal_row(db, number) for number in moves]


def _target(row: sqlite3.Row) -> str:
    """Where a choice wants its file: the same place in another class folder, or under `.removed`."""
    if row["kind"] == "remove":
        return f"{REMOVED}/{row['now']}"
    parts = row["now"].split("/")
    at = 0 if row["side"] is None else 1  # train/shirt/a.jpg keeps its side
    return "/".join([*parts[:at], row["after"], *parts[at + 1 :]])


class _Names:
    """Free file names: not on disk, not in the catalog, not promised in this round."""

    def __init__(self, folder: Path, db: sqlite3.Connection):
        self.folder, self.db = folder, db
        self.promised: set[str] = set()
        self.making: set[str] = set()

    def take(self, wanted: str) -> tuple[str, list[str]]:
        """A free name near `wanted`, and the folders to be made for it."""
        stem, dot, suffix = wanted.rpartition(".")
        number, name = 1, wanted
        while self._taken(name):
            number += 1
            name = f"{stem}-{number}{dot}{suffix}" if "/" not in suffix and dot else f"{wanted}-{number}"
        self.promised.add(name.casefold())
        return name, self._folders_to_make(name)

    def _taken(self, name: str) -> bool:
        return (
            name.casefold() in self.promised
            or os.path.lexists(self.folder / name)
            or self.db.execute("SELECT 1 FROM files WHERE path = ?", [name]).fetchone() is not None
        )

    def _folders_to_make(self, name: str) -> list[str]:
        made = []
        for parent in Path(name).parents:
            text = parent.as_posix()
            if text != "." and text not in self.making and not (self.folder / parent).exists():
                made.append(text)
                self.making.add(text)
        return made


def _carry_out(store: Store, row: sqlite3.Row, *, undo: bool = False) -> None:
    """Move one file as its intention says and write that it is done; safe to repeat after a crash."""
    move_file(store.folder / row["source"], store.folder / row["target"])
    reached("moved")
    with store.write(durable=False) as db:
        _step(
            db, row["id"], "undone" if undo else "done", row["source"], row["target"], json.loads(row["made"])
        )
        place_file(db, row["file"], row["target"])
    if undo:
        _remove_folders(store.folder, json.loads(row["made"]))
    reached("done")


def move_file(source: Path, target: Path) -> None:
    """Move within one disk without ever overwriting; a half-done move is completed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)  # fails where a file has the name, unlike a rename
    except FileExistsError:
        if not os.path.samefile(source, target):
            raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) or os.path.lexists(target):
            raise
        source.rename(target)  # a disk without hard links, such as a memory card
        return
    reached("linked")
    source.unlink()


def place_file(db: sqlite3.Connection, file: int, path: str) -> None:
    """Write where a file lies now; its label follows from the folder."""
    row = db.execute("SELECT side, state FROM files WHERE id = ?", [file]).fetchone()
    parts = path.split("/")
    if parts[0] == REMOVED:
        db.execute("UPDATE files SET path = ?, state = 'removed' WHERE id = ?", [path, file])
        return
    label = parts[1] if row["side"] is not None and len(parts) > 2 else parts[0]
    state = "live" if row["state"] in ("removed", "missing") else row["state"]
    db.execute("UPDATE files SET path = ?, label = ?, state = ? WHERE id = ?", [path, label, state, file])


def _roll_back(store: Store, plan: list[sqlite3.Row], done: list[sqlite3.Row]) -> None:
    """Put every file of a failed round back and write the round's intentions off."""
    for row in reversed(plan):
        source, target = store.folder / row["source"], store.folder / row["target"]
        if row in done or (target.exists() and not source.exists()):
            move_file(target, source)
        elif target.exists() and os.path.samefile(source, target):
            target.unlink()
        with store.write() as db:
            _step(db, row["id"], "rolled back", row["source"], row["target"])
            place_file(db, row["file"], row["source"])
        _remove_folders(store.folder, json.loads(row["made"]))


def _remove_folders(folder: Path, made: list[str]) -> None:
    """Remove the folders that a move had made, deepest first, where they are empty."""
    for name in sorted(made, key=len, reverse=True):
        try:
            (folder / name).rmdir()
        except OSError:
            return  # somebody uses it


# -- undo ------------------------------------------------------------------------------------------


def undo(store: Store, steps: int = 1) -> list[Decision]:
    """Take back the last `steps` choices, newest first; moved files return byte for byte."""
    with store.exclusive():
        finish_interrupted(store)
        rows = store.db.execute(
            "SELECT * FROM journal WHERE step != 'undone' ORDER BY id DESC LIMIT ?", [steps]
        ).fetchall()
        for row in rows:
            _undo_one(store, row)
    return [_decision(row, state="undone") for row in rows]


def _undo_one(store: Store, row: sqlite3.Row) -> None:
    with store.write() as db:
        file = db.execute("SELECT * FROM files WHERE id = ?", [row["file"]]).fetchone()
        still = row["step"] != "done" or row["source"] == row["target"]
        if still or not (file["path"] and (store.folder / file["path"]).exists()):
            _step(db, row["id"], "undone", row["source"], row["target"])
            return
        target, _ = _Names(store.folder, db).take(row["source"])
        _step(db, row["id"], "undo intended", file["path"], target, json.loads(row["made"]))
        intended = _journal_row(db, row["id"])
    reached("undo intended")
    try:
        _carry_out(store, intended, undo=True)
    except OSError as error:
        with store.write() as db:
            _step(db, row["id"], "done", row["source"], row["target"], json.loads(row["made"]))
        raise CannotMove(
            f"{intended['source']} can't be moved back ({error.strerror}): nothing was undone after this "
            "step; give yourself write permission, then undo again."
        ) from error


# -- recovery --------------------------------------------------------------------------------------


def recover(store: Store) -> None:
    """Finish what a crash left, unless another process is at work on it right now."""
    if not _interrupted(store.db):
        return
    with store.exclusive(wait=False) as alone:
        if alone:
            finish_interrupted(store)


def finish_interrupted(store: Store) -> None:
    """Complete each move that was intended and not written as done (the caller holds the lock)."""
    for row in _interrupted(store.db):
        undo_step = row["step"] == "undo intended"
        source, target = store.folder / row["source"], store.folder / row["target"]
        if not source.exists() and not _holds(target, row["sha256"]):
            _give_up(store, row)
        elif source.exists() and target.exists() and not os.path.samefile(source, target):
            _carry_out(store, _rename_target(store, row), undo=undo_step)
        else:
            _finish(store, row, undo_step)


def _finish(store: Store, row: sqlite3.Row, undo_step: bool) -> None:
    source, target = store.folder / row["source"], store.folder / row["target"]
    if source.exists():
        _carry_out(store, row, undo=undo_step)
        return
    with store.write() as db:
        made = json.loads(row["made"])
        _step(db, row["id"], "undone" if undo_step else "done", row["source"], row["target"], made)
        place_file(db, row["file"], row["target"])
    if undo_step:
        _remove_folders(store.folder, made)
    assert target.exists()


def _rename_target(store: Store, row: sqlite3.Row) -> sqlite3.Row:
    """A stranger took the intended name since: intend another one."""
    with store.write() as db:
        target, made = _Names(store.folder, db).take(row["target"])
        _step(db, row["id"], row["step"], row["source"], target, json.loads(row["made"]) + made)
        return _journal_row(db, row["id"])


def _give_up(store: Store, row: sqlite3.Row) -> None:
    """The file is at neither end (somebody else moved it): the choice waits again, the file is missing."""
    with store.write() as db:
        state = "undone" if row["step"] == "undo intended" else "rolled back"
        _step(db, row["id"], state, row["source"], row["target"])
        db.execute("UPDATE files SET state = 'missing' WHERE id = ?", [row["file"]])


def _interrupted(db: sqlite3.Connection) -> list[sqlite3.Row]:
    return db.execute(
        "SELECT * FROM journal WHERE step IN ('intended', 'undo intended') ORDER BY id"
    ).fetchall()


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _journal_row(db: sqlite3.Connection, number: int) -> sqlite3.Row:
    return db.execute("SELECT * FROM journal WHERE id = ?", [number]).fetchone()


def _step(
    db: sqlite3.Connection,
    decision: int,
    state: str,
    source: str | None = None,
    target: str | None = None,
    made: list[str] | tuple = (),
) -> None:
    db.execute(
        "INSERT INTO steps (decision, state, source, target, made, at) VALUES (?, ?, ?, ?, ?, ?)",
        [decision, state, source, target, json.dumps(list(made)), now()],
    )
