"""How images get into a catalog: looking at the disk, and adding one image at a time."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from winnow.images import BadImage, is_image_name, open_image, read_header, sha256_of
from winnow.journal import move_file, reached
from winnow.records import CatalogError, ReadOnlyFolder, SyncReport, UnknownClass, WasRemoved
from winnow.store import Store, now

SIDES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}
VERIFY_AT_MOST = 5000  # new files: more are checked by their headers alone unless asked


@dataclass(frozen=True)
class Seen:
    """A file on disk: where it lies and what `stat` says."""

    path: str
    label: str
    side: str | None
    size: int
    mtime_ns: int


# -- the layout ------------------------------------------------------------------------------------


def side_folders(folder: Path) -> dict[str, str]:
    """Folder name → side, where `folder` holds train/ and perhaps valid/ and test/ parents; else empty.

    A class may well be called "train": so it counts only if nothing but sides and folders of classes is
    there.
    """
    names = subfolders(folder)
    sides = {name: SIDES[name.lower()] for name in names if name.lower() in SIDES}
    if "train" not in sides.values() or len(sides) < len(names):
        return {}
    return sides if all(subfolders(folder / name) for name in sides) else {}


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def class_folders(folder: Path) -> list[str]:
    """The classes: the folders beneath `folder`, or beneath its train/valid/test parents."""
    sides = side_folders(folder)
    return sorted({name for side in sides for name in subfolders(folder / side)}) or (
        [] if sides else subfolders(folder)
    )


def check_label(label: str) -> None:
    """Raise `UnknownClass` for a label that can't be a folder's name."""
    if not label or label != label.strip() or label.startswith(".") or re.search(r"[/\\\0\n]", label):
        raise UnknownClass(f"{label!r} can't be a class: use a name without slashes or a leading dot.")


# -- looking at the disk ---------------------------------------------------------------------------


def sync(store: Store, *, verify: bool | None = None) -> SyncReport:
    """Bring the catalog in line with the disk, touching no file; see `Catalog.sync`."""
    with store.exclusive():
        seen = {file.path: file for file in _walk(store.folder)}
        known = {
            row["path"]: row
            for row in store.db.execute("SELECT * FROM files WHERE path IS NOT NULL AND state != 'removed'")
        }
        fresh = [file for path, file in seen.items() if path not in known]
        touched = [file for path, file in seen.items() if path in known and _touched(known[path], file)]
        gone = [row for path, row in known.items() if path not in seen and row["state"] != "missing"]
        if verify is None:
            verify = len(fresh) + len(touched) <= VERIFY_AT_MOST
        facts = dict(
            zip(map(id, fresh + touched), _examine(store.folder, fresh + touched, verify), strict=True)
        )
        with store.write() as db:
            changed = [file.path for file in touched if _update(db, known[file.path], file, facts[id(file)])]
            moved, added = _enter(db, store.folder, fresh, facts, known)
            missing = [row["path"] for row in gone if _mark_missing(db, store.folder, row)]
        return SyncReport(
            added,
            [path for path in missing if path not in {old for old, _ in moved}],
            changed,
            [
                row[0]
                for row in store.db.execute("SELECT path FROM files WHERE state = 'unreadable' ORDER BY path")
            ],
            empty_classes(store),
            moved,
            _unlabelled(store.folder),
        )


def _walk(folder: Path) -> Iterator[Seen]:
    """Every image file in a class folder."""
    sides = side_folders(folder)
    tops = [(side, name) for side in sides for name in subfolders(folder / side)] or [
        (None, name) for name in subfolders(folder)
    ]
    for side, label in tops:
        top = folder / side / label if side else folder / label
        for path, stat in _files_under(str(top)):
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            yield Seen(relative, label, sides.get(side or ""), stat.st_size, stat.st_mtime_ns)


def _files_under(top: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(top) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files_under(entry.path)
            elif is_image_name(entry.name):
                yield entry.path, entry.stat()


def _touched(row: sqlite3.Row, file: Seen) -> bool:
    return row["state"] == "missing" or (row["size"], row["mtime_ns"]) != (file.size, file.mtime_ns)


def _examine(folder: Path, files: list[Seen], verify: bool) -> Iterable[tuple]:
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


def _enter(db, folder: Path, fresh: list[Seen], facts: dict, known: dict) -> tuple[list, list]:
    """New paths: a file that vanished elsewhere with the same bytes was moved by hand, the rest is new."""
    vanished: dict[str, list[sqlite3.Row]] = {}
    for path, row in known.items():
        if not (folder / path).exists() if row["state"] != "missing" else True:
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


def _mark_missing(db: sqlite3.Connection, folder: Path, row: sqlite3.Row) -> bool:
    """A known path isn't there: keep what is known of it, in case it comes back."""
    if (folder / row["path"]).exists():
        return False
    return (
        db.execute(
            "UPDATE files SET state = 'missing' WHERE id = ? AND path = ?", [row["id"], row["path"]]
        ).rowcount
        > 0
    )


def _unlabelled(folder: Path) -> list[str]:
    """Images that lie beside the class folders, so that they have no label."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_file() and is_image_name(e.name))


def empty_classes(store: Store) -> list[str]:
    """Class folders without a live image."""
    full = {row[0] for row in store.db.execute("SELECT DISTINCT label FROM files WHERE state = 'live'")}
    return [name for name in class_folders(store.folder) if name not in full]


# -- adding one image ------------------------------------------------------------------------------


def add(
    store: Store,
    source: Path | str | bytes,
    label: str,
    *,
    name: str | None = None,
    origin: dict | None = None,
    move: bool = False,
) -> str:
    """Verify `source`, put a copy of it into its class folder and write it down; returns its path."""
    check_label(label)
    data = source if isinstance(source, bytes) else None
    try:
        size = open_image(data or source).size
        data = data or Path(source).read_bytes()
    except OSError as error:
        raise BadImage(f"{source} can't be read ({error.strerror}): check that the file is there.") from error
    sha256 = sha256_of(data)
    with store.exclusive():
        path = _path_of(store, sha256, label)
        if path is None:
            path = _bring_in(
                store, data, sha256, size, label, name or _name_for(source, sha256, data), origin
            )
    if move and not isinstance(source, bytes) and not os.path.samefile(source, store.folder / path):
        Path(source).unlink()
    return path


def _path_of(store: Store, sha256: str, label: str) -> str | None:
    """Where the same bytes lie in the same class; raises `WasRemoved` if a person took them out."""
    rows = store.db.execute("SELECT * FROM files WHERE sha256 = ?", [sha256]).fetchall()
    for row in rows:
        if row["state"] == "live" and row["label"] == label and (store.folder / row["path"]).exists():
            return row["path"]
    if any(row["state"] == "removed" for row in rows) and not any(row["state"] == "live" for row in rows):
        raise WasRemoved(
            "This image was removed from the dataset by hand before, so it stays out: undo that removal to have it."
        )
    return None


def _bring_in(store, data: bytes, sha256: str, size, label: str, name: str, origin: dict | None) -> str:
    """Origin first, then the file under its final name, then its row: a crash leaves nothing unexplained."""
    with store.write(durable=False) as db:
        insert_image(db, sha256, size, len(data), origin)
        sides = side_folders(store.folder)
        side = next((name for name, side in sides.items() if side == "train"), None)
    reached("origin written")
    folder = f"{side}/{label}" if side else label
    try:
        target = _write_new(store, data, folder, name)
        reached("file written")
    except PermissionError as error:
        raise ReadOnlyFolder(
            f"{store.folder / folder} can't be written: give yourself write permission."
        ) from error
    except OSError as error:
        raise CatalogError(
            f"{store.folder / folder} took no file ({error.strerror}): nothing was added."
        ) from error
    path = target.relative_to(store.folder).as_posix()
    stat = target.stat()
    with store.write(durable=False) as db:
        db.execute(
            "UPDATE files SET path = NULL, state = 'replaced' WHERE path = ? AND state = 'missing'", [path]
        )
        insert_file(
            db, Seen(path, label, sides.get(side or ""), stat.st_size, stat.st_mtime_ns), sha256, size
        )
    return path


def _write_new(store: Store, data: bytes, folder: str, name: str) -> Path:
    """Write `data` under a free name in a class folder; the file appears whole or not at all."""
    (store.folder / folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=store.cache, prefix="incoming-", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    for number in range(1, 1_000_000):
        target = store.folder / folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        if os.path.lexists(target):
            continue
        try:
            move_file(Path(file.name), target)
        except FileExistsError:
            continue
        return target
    raise CatalogError(f"{folder} has no free name for {name}: rename some files.")


def _name_for(source: Path | str | bytes, sha256: str, data: bytes) -> str:
    if not isinstance(source, bytes):
        return Path(source).name
    return sha256[:16] + suffix_of(data)


def suffix_of(data: bytes) -> str:
    """The suffix that fits an image's bytes."""
    heads = {
        b"\xff\xd8": ".jpg",
        b"\x89PNG": ".png",
        b"GIF8": ".gif",
        b"BM": ".bmp",
        b"II*\0": ".tif",
        b"MM\0*": ".tif",
    }
    for head, suffix in heads.items():
        if data.startswith(head):
            return suffix
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:8] == b"ftyp":
        return ".avif" if data[8:12] in (b"avif", b"avis") else ".heic"
    return ".png"
