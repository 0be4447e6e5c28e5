"""Adding one image: verified, copied into its class folder whole or not at all, written down."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from winnow.images import BadImage, open_image, sha256_of
from winnow.layout import check_label, home_of
from winnow.moves import NO_LINKS, move_file, reached
from winnow.records import CatalogError, ReadOnlyFolder, WasRemoved
from winnow.store import INCOMING, Store
from winnow.syncing import Seen, insert_file, insert_image


@dataclass(frozen=True)
class Incoming:
    """A photo on its way in, verified already."""

    source: bytes | Path  # a file must lie on the catalog's own disk; it stays where it is
    label: str
    name: str
    sha256: str
    size: tuple[int, int]  # width and height of the upright photo
    bytes: int
    origin: dict | None = None


def add(
    store: Store,
    source: Path | str | bytes,
    label: str,
    *,
    name: str | None = None,
    origin: dict | None = None,
    move: bool = False,
    durable: bool = True,
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
    name = name or _name_for(source, sha256, data)
    path = add_many(store, [Incoming(data, label, name, sha256, size, len(data), origin)], durable=durable)[0]
    if isinstance(path, WasRemoved):
        raise path
    if move and not isinstance(source, bytes) and not Path(source).samefile(store.folder / path):
        Path(source).unlink()
    return path


def add_many(store: Store, batch: Sequence[Incoming], *, durable: bool = True) -> list[str | WasRemoved]:
    """Put verified photos into their class folders in one go; the path of each, or why it stays out.

    Origins first, then the files under their final names, then their rows: a crash leaves nothing unexplained.
    """
    with store.exclusive():
        paths = [_path_of(store, item) for item in batch]
        new = {(item.sha256, item.label): item for item, path in zip(batch, paths, strict=True) if not path}
        with store.write(durable=False) as db:
            for item in new.values():
                insert_image(db, item.sha256, item.size, item.bytes, item.origin)
        reached("origin written")
        placed = _bring_in(store, new, durable)
    return [path or placed[item.sha256, item.label] for item, path in zip(batch, paths, strict=True)]


def _path_of(store: Store, item: Incoming) -> str | WasRemoved | None:
    """Where the same bytes lie in the same class, or that a person took them out."""
    rows = store.db.execute("SELECT * FROM files WHERE sha256 = ?", [item.sha256]).fetchall()
    for row in rows:
        if row["state"] == "live" and row["label"] == item.label and (store.folder / row["path"]).exists():
            return row["path"]
    if any(row["state"] == "removed" for row in rows) and not any(row["state"] == "live" for row in rows):
        return WasRemoved(
            "This image was removed from the dataset by hand before, so it stays out: undo that removal to have it."
        )
    return None


def _bring_in(store: Store, items: dict[tuple, Incoming], durable: bool) -> dict[tuple, str]:
    """Write the files, then their rows; where the disk refuses one, those before it are in."""
    homes = {item.label: home_of(store.folder, item.label) for item in items.values()}
    placed: dict[tuple, Path] = {}
    try:
        for key, item in items.items():
            folder = store.folder / homes[item.label][0]
            placed[key] = _write_new(store, item.source, folder, item.name, durable)
        reached("file written")
    finally:
        with store.write(durable=False) as db:
            for key, target in placed.items():
                _write_row(store, db, items[key], target, homes[items[key].label][1])
    return {key: target.relative_to(store.folder).as_posix() for key, target in placed.items()}


def _write_row(store: Store, db: sqlite3.Connection, item: Incoming, target: Path, side: str | None) -> None:
    path, stat = target.relative_to(store.folder).as_posix(), target.stat()
    # a missing file may have had this name
    db.execute("UPDATE files SET path = NULL, state = 'replaced' WHERE path = ?", [path])
    insert_file(db, Seen(path, item.label, side, stat.st_size, stat.st_mtime_ns), item.sha256, item.size)


def _write_new(store: Store, source: bytes | Path, folder: Path, name: str, durable: bool) -> Path:
    """Put `source` under a free name in a class folder; the file appears whole or not at all."""
    temporary = store.cache / f"{INCOMING}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            _write(temporary, source, durable)
        else:
            _link(source, temporary)
        return _move_to_free_name(temporary, folder, Path(name).name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _explain(error, folder) from error


def _write(file: Path, data: bytes, durable: bool) -> None:
    with file.open("xb") as handle:
        handle.write(data)
        handle.flush()
        if durable:
            os.fsync(handle.fileno())


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, or a copy where the disk has no hard links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(source, target)


def _move_to_free_name(file: Path, folder: Path, name: str) -> Path:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    for number in itertools.count(1):
        target = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        if os.path.lexists(target):
            continue
        with contextlib.suppress(FileExistsError):  # another process was quicker
            move_file(file, target)
            return target
    raise AssertionError


def _explain(error: OSError, folder: Path) -> CatalogError:
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return ReadOnlyFolder(f"{folder} can't be written: give yourself write permission or work on a copy.")
    return CatalogError(
        f"{folder} took no file ({error.strerror}): nothing was added; make room, then try again."
    )


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
