"""Looking at the disk: what is new, gone, changed, moved by hand or unreadable."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from winnow.images import BadImage, is_image_name, open_image, read_header, sha256_of
from winnow.layout import class_folders, side_folders, subfolders
from winnow.records import SyncReport
from winnow.store import INCOMING, Store, now

VERIFY_AT_MOST = 5000  # new files: more are checked by their headers alone unless asked


@dataclass(frozen=True)
class Seen:
    """A file on disk: where it lies and what `stat` says."""

    path: str
    label: str
    side: str | None
    size: int
    mtime_ns: int


def sync(store: Store, *, verify: bool | None = None) -> SyncReport:
    """Bring the catalog in line with the disk, touching no file; see `Catalog.sync`."""
    with store.exclusive():
        for leftover in store.cache.glob(f"{INCOMING}*"):  # nobody else is adding: a crash left it
            leftover.unlink()
        seen = {file.path: file for file in _walk(store.folder)}
        known = {
            row["path"]: row
            for row in store.db.execute("SELECT * FROM files WHERE path IS NOT NULL AND state != 'removed'")
        }
        fresh = [file for path, file in seen.items() if path not in known]
        touched = [file for path, file in seen.items() if path in known and _touched(known[path], file)]
        gone = [row for path, row in known.items() if path not in seen and not (store.folder / path).exists()]
        if verify is None:
            verify = len(fresh) + len(touched) <= VERIFY_AT_MOST
        facts = dict(
            zip(map(id, fresh + touched), _examine(store.folder, fresh + touched, verify), strict=True)
        )
        with store.write() as db:
            changed = [file.path for file in touched if _update(db, known[file.path], file, facts[id(file)])]
            moved, added = _enter(db, fresh, facts, gone)
            missing = [row["path"] for row in gone if _mark_missing(db, row)]
            db.execute("INSERT OR REPLACE INTO meta VALUES ('synced', ?)", [now()])
        return SyncReport(
            added,
            missing,
            changed,
            [
                row[0]
                for row in store.db.execute("SELECT path FROM files WHERE state = 'unreadable' ORDER BY path")
            ],
            empty_classes(store),
            moved,
            _unlabelled(store.folder),
        )


def was_adopted(store: Store) -> bool:
    """Whether anybody has looked at this folder before."""
    return store.db.execute("SELECT 1 FROM meta WHERE name = 'synced'").fetchone() is not None


def _walk(folder: Path) -> Iterator[Seen]:
    """Every image file in a class folder."""
    sides = side_folders(folder)
    tops = [
        (f"{parent}/{name}", side) for parent, side in sides.items() for name in subfolders(folder / parent)
    ]
    for top, side in tops or [(name, None) for name in subfolders(folder)]:
        for path, stat in _files_under(str(folder / top), top):
            yield Seen(path, top.rpartition("/")[2], side, stat.st_size, stat.st_mtime_ns)


def _files_under(folder: str, relative: str) -> Iterator[tuple[str, os.stat_result]]:
    """`(relative path, stat)` of the images in a folder and below, by name."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{relative}/{entry.name}"
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _files_under(entry.path, path)
            elif is_image_name(entry.name) and entry.is_file():
                yield path, entry.stat()


def _touched(row: sqlite3.Row, file: Seen) -> bool:
    return row["state"] == "missing" or (row["size"], row["mtime_ns"]) != (file.size, file.mtime_ns)


def _examine(folder: Path, files: list[Seen], verify: bool) -> list[tuple]:
    """`(sha256, (width, height) or None, reason)` for each file, hashed and read in threads."""

    def examine(file: Seen) -> tuple:
        path = folder / file.path
        try:
            data = path.read_bytes()
        except OSError as error:
            return None, None, f"{path} can't be read ({error.strerror}): check its permissions."
        try:
            return sha256_of(data), open_image(data).size if verify else read_header(data), ""
        except BadImage as error:
            return sha256_of(data), None, str(error).replace("This image", path.name)

    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(examine, files, chunksize=64))


def _update(db: sqlite3.Connection, row: sqlite3.Row, file: Seen, facts: tuple) -> bool:
    """A known path has another time stamp: note it, and whether its bytes changed."""
    sha256, size, reason = facts
    if sha256 == row["sha256"]:
        state = "live" if size else "unreadable"
        db.execute(
            "UPDATE files SET size = ?, mtime_ns = ?, state = ?, reason = ? WHERE id = ?",
            [file.size, file.mtime_ns, state, reason, row["id"]],
        )
        return False
    if sha256 is None:
        return False
    db.execute("UPDATE files SET path = NULL, state = 'replaced' WHERE id = ?", [row["id"]])
    insert_file(db, file, sha256, size, reason)
    return True


def _enter(
    db: sqlite3.Connection, fresh: list[Seen], facts: dict, gone: list[sqlite3.Row]
) -> tuple[list[tuple[str, str]], list[str]]:
    """New paths: a file that vanished elsewhere with the same bytes was moved by hand, the rest is new."""
    vanished: dict[str, list[sqlite3.Row]] = {}
    for row in gone:
        vanished.setdefault(row["sha256"], []).append(row)
    moved, added = [], []
    for file in fresh:
        sha256, size, reason = facts[id(file)]
        if sha256 is None:
            continue
        if vanished.get(sha256):
            row = vanished[sha256].pop(0)
            moved.append((row["path"], file.path))
            db.execute(
                "UPDATE files SET path = ?, label = ?, side = ?, size = ?, mtime_ns = ?, state = ? WHERE id = ?",
                [
                    file.path,
                    file.label,
                    file.side,
                    file.size,
                    file.mtime_ns,
                    "live" if size else "unreadable",
                    row["id"],
                ],
            )
        else:
            insert_file(db, file, sha256, size, reason)
            added.append(file.path)
    return moved, added


def insert_file(
    db: sqlite3.Connection, file: Seen, sha256: str, size: tuple[int, int] | None, reason: str = ""
) -> None:
    """Write a file and, if its bytes are new, its image."""
    insert_image(db, sha256, size, file.size)
    db.execute(
        "INSERT INTO files (path, sha256, label, side, size, mtime_ns, state, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (path) DO NOTHING",
        [
            file.path,
            sha256,
            file.label,
            file.side,
            file.size,
            file.mtime_ns,
            "live" if size else "unreadable",
            reason,
        ],
    )


def insert_image(
    db: sqlite3.Connection,
    sha256: str,
    size: tuple[int, int] | None,
    length: int,
    origin: dict | None = None,
) -> None:
    """Write what is known of an image; an origin that is known already stays."""
    width, height = size or (None, None)
    db.execute(
        "INSERT INTO images (sha256, width, height, bytes, origin, at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (sha256) DO UPDATE SET origin = excluded.origin WHERE origin = '{}'",
        [sha256, width, height, length, json.dumps(origin or {}), now()],
    )


def _mark_missing(db: sqlite3.Connection, row: sqlite3.Row) -> bool:
    """A known path isn't there: keep what is known of it, in case it comes back."""
    query = "UPDATE files SET state = 'missing' WHERE id = ? AND path = ? AND state != 'missing'"
    return db.execute(query, [row["id"], row["path"]]).rowcount > 0


def _unlabelled(folder: Path) -> list[str]:
    """Images that lie beside the class folders, so that they have no label."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_file() and is_image_name(e.name))


def empty_classes(store: Store) -> list[str]:
    """Class folders without a live image."""
    full = {row[0] for row in store.db.execute("SELECT DISTINCT label FROM files WHERE state = 'live'")}
    return [name for name in class_folders(store.folder) if name not in full]
