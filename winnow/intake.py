"""Adding one image: verified, copied into its class folder whole or not at all, written down."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import tempfile
from pathlib import Path

from winnow.images import BadImage, open_image, sha256_of
from winnow.layout import check_label, home_of
from winnow.moves import move_file, reached
from winnow.records import CatalogError, ReadOnlyFolder, WasRemoved
from winnow.store import INCOMING, Store
from winnow.syncing import Seen, insert_file, insert_image


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
    with store.exclusive():
        path = _path_of(store, sha256, label)
        if path is None:
            name = name or _name_for(source, sha256, data)
            path = _bring_in(store, data, sha256, size, label, name, origin, durable)
    if move and not isinstance(source, bytes) and not Path(source).samefile(store.folder / path):
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


def _bring_in(
    store, data: bytes, sha256: str, size, label: str, name: str, origin: dict | None, durable: bool
) -> str:
    """Origin first, then the file under its final name, then its row: a crash leaves nothing unexplained."""
    with store.write(durable=False) as db:
        insert_image(db, sha256, size, len(data), origin)
    reached("origin written")
    folder, side = home_of(store.folder, label)
    target = _write_new(store, data, folder, name, durable)
    reached("file written")
    path = target.relative_to(store.folder).as_posix()
    stat = target.stat()
    with store.write(durable=False) as db:
        db.execute(
            "UPDATE files SET path = NULL, state = 'replaced' WHERE path = ?", [path]
        )  # a missing file's
        insert_file(db, Seen(path, label, side, stat.st_size, stat.st_mtime_ns), sha256, size)
    return path


def _write_new(store: Store, data: bytes, folder: str, name: str, durable: bool) -> Path:
    """Write `data` under a free name in a class folder; the file appears whole or not at all."""
    temporary = None
    try:
        (store.folder / folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=store.cache, prefix=INCOMING, delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        return _move_to_free_name(temporary, store.folder / folder, Path(name).name)
    except OSError as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        raise _explain(error, store.folder / folder) from error


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
