"""Choices become moved files: applying, undoing, and finishing what a crash left.

A move is written as intended (with source and target), done on disk, then written as done; an undo likewise.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from pathlib import Path

from winnow.images import sha256_of
from winnow.journal import as_decision, journal_row, pending_rows, write_step
from winnow.layout import REMOVED, label_of, relabelled
from winnow.records import Applied, CannotMove, Decision
from winnow.store import Store

# What a disk without hard links, such as a memory card, answers to one.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


def reached(point: str) -> None:
    """A point where a crash is possible; tests crash here."""


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
        for row in pending_rows(db):
            if row["kind"] in ("keep", "feedback"):
                write_step(db, row["id"], "done", row["now"], row["now"])
            else:
                target, made = names.take(_target(row))
                write_step(db, row["id"], "intended", row["now"], target, made)
                moves.append(row["id"])
        return [journal_row(db, number) for number in moves]


def _target(row: sqlite3.Row) -> str:
    """Where a choice wants its file."""
    if row["kind"] == "remove":
        return f"{REMOVED}/{row['now']}"
    return relabelled(row["now"], row["side"], row["after"])


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


def _carry_out(store: Store, row: sqlite3.Row) -> None:
    """Move one file as its intention says and write that it is done; safe to repeat after a crash."""
    move_file(store.folder / row["source"], store.folder / row["target"])
    reached("moved")
    _write_done(store, row)
    reached("done")


def _write_done(store: Store, row: sqlite3.Row) -> None:
    """An intended move has happened on disk: write that down; an undo also removes the folders it emptied."""
    made, undone = json.loads(row["made"]), row["step"] == "undo intended"
    if undone:
        _remove_folders(store.folder, made)
        reached("folders removed")
    with store.write(durable=False) as db:
        write_step(db, row["id"], "undone" if undone else "done", row["source"], row["target"], made)
        place_file(db, row["file"], row["target"])


def move_file(source: Path, target: Path) -> None:
    """Move within one disk without ever overwriting; a half-done move is completed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)  # fails where a file has the name, unlike a rename
    except FileExistsError:
        if not source.samefile(target):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS or os.path.lexists(target):
            raise
        source.rename(target)
        return
    reached("linked")
    source.unlink()


def place_file(db: sqlite3.Connection, file: int, path: str) -> None:
    """Write where a file lies now; its label follows from the folder."""
    if path.startswith(f"{REMOVED}/"):
        db.execute("UPDATE files SET path = ?, state = 'removed' WHERE id = ?", [path, file])
        return
    row = db.execute("SELECT side, reason FROM files WHERE id = ?", [file]).fetchone()
    state = "unreadable" if row["reason"] else "live"
    values = [path, label_of(path, row["side"]), state, file]
    db.execute("UPDATE files SET path = ?, label = ?, state = ? WHERE id = ?", values)


def _roll_back(store: Store, plan: list[sqlite3.Row], done: list[sqlite3.Row]) -> None:
    """Put every file of a failed round back and write the round's intentions off."""
    for row in reversed(plan):
        source, target = store.folder / row["source"], store.folder / row["target"]
        if row in done or (target.exists() and not source.exists()):
            move_file(target, source)
        elif target.exists() and source.samefile(target):
            target.unlink()
        with store.write() as db:
            write_step(db, row["id"], "rolled back", row["source"], row["target"])
            place_file(db, row["file"], row["source"])
        _remove_folders(store.folder, json.loads(row["made"]))


def _remove_folders(folder: Path, made: list[str]) -> None:
    """Remove the folders that a move had made, deepest first, where they are empty."""
    for name in sorted(made, key=len, reverse=True):
        try:
            (folder / name).rmdir()
        except OSError:
            return  # somebody uses it


def undo(store: Store, steps: int = 1) -> list[Decision]:
    """Take back the last `steps` choices, newest first; moved files return byte for byte."""
    with store.exclusive():
        finish_interrupted(store)
        rows = store.db.execute(
            "SELECT * FROM journal WHERE step != 'undone' ORDER BY id DESC LIMIT ?", [max(steps, 0)]
        ).fetchall()
        for row in rows:
            _undo_one(store, row)
    return [as_decision(row, state="undone") for row in rows]


def _undo_one(store: Store, row: sqlite3.Row) -> None:
    with store.write() as db:
        file = db.execute("SELECT * FROM files WHERE id = ?", [row["file"]]).fetchone()
        still = row["step"] != "done" or row["source"] == row["target"]
        if still or not (file["path"] and (store.folder / file["path"]).exists()):
            write_step(db, row["id"], "undone", row["source"], row["target"])
            return
        target, _ = _Names(store.folder, db).take(row["source"])
        write_step(db, row["id"], "undo intended", file["path"], target, json.loads(row["made"]))
        intended = journal_row(db, row["id"])
    reached("undo intended")
    try:
        _carry_out(store, intended)
    except OSError as error:
        with store.write() as db:
            write_step(db, row["id"], "done", row["source"], row["target"], json.loads(row["made"]))
        raise CannotMove(
            f"{intended['source']} can't be moved back ({error.strerror}): nothing was undone after this "
            "step; give yourself write permission, then undo again."
        ) from error


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
        source, target = store.folder / row["source"], store.folder / row["target"]
        if not source.exists():
            _write_done(store, row) if _holds(target, row["sha256"]) else _give_up(store, row)
        elif target.exists() and not source.samefile(target):
            _carry_out(store, _rename_target(store, row))
        else:
            _carry_out(store, row)


def _rename_target(store: Store, row: sqlite3.Row) -> sqlite3.Row:
    """A stranger took the intended name since: intend another one."""
    with store.write() as db:
        target, made = _Names(store.folder, db).take(row["target"])
        write_step(db, row["id"], row["step"], row["source"], target, json.loads(row["made"]) + made)
        return journal_row(db, row["id"])


def _give_up(store: Store, row: sqlite3.Row) -> None:
    """The file is at neither end (somebody else moved it): the choice waits again, the file is missing."""
    with store.write() as db:
        state = "undone" if row["step"] == "undo intended" else "rolled back"
        write_step(db, row["id"], state, row["source"], row["target"])
        db.execute("UPDATE files SET state = 'missing' WHERE id = ?", [row["file"]])


def _interrupted(db: sqlite3.Connection) -> list[sqlite3.Row]:
    return db.execute(
        """SELECT * FROM journal WHERE id IN (
            SELECT decision FROM steps s WHERE state IN ('intended', 'undo intended') AND NOT EXISTS (
                SELECT 1 FROM steps later WHERE later.decision = s.decision AND later.id > s.id))
        ORDER BY id"""
    ).fetchall()


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256
