"""Unpack the images of a zip or tar archive into one folder, whatever the archive tries."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from winnow.images import is_image_name

MAX_FILE = 200_000_000  # bytes of one image, unpacked
MAX_TOTAL = 50_000_000_000  # bytes of an archive, unpacked
_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    RuntimeError,
    NotImplementedError,
)


class BadArchive(Exception):
    """A file that is no zip or tar archive, or too large to unpack."""


def unpack(archive: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the archive's images into `folder`, yielding (name, reason) for each that was left out.

    Links, devices and names that lead out of `folder` are never followed or made; sizes are counted while unpacking,
    not believed. Raises `BadArchive`.
    """
    if zipfile.is_zipfile(archive):
        members = _zip_members(archive)
    elif tarfile.is_tarfile(archive):
        members = _tar_members(archive)
    else:
        raise BadArchive(f"{archive.name} is no zip or tar archive: check that the right file was fetched.")
    total = 0
    try:
        for name, stream, problem in members:
            written, reason = (0, problem) if problem else _write(name, stream, folder)
            total += written
            if total > MAX_TOTAL:
                raise BadArchive(
                    f"{archive.name} unpacks to more than {MAX_TOTAL // 10**9} GB: unpack it yourself."
                )
            if reason:
                yield name, reason
    except _DAMAGE as error:
        yield archive.name, f"damaged archive: it ends or breaks here ({error})"


def _zip_members(archive: Path) -> Iterator[tuple[str, BinaryIO | None, str]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.is_dir() or not _is_wanted(info.filename):
                continue
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                yield info.filename, None, "unsafe name: it is a link"
            elif info.flag_bits & 1:
                yield info.filename, None, "locked: the archive wants a password"
            else:
                with file.open(info) as stream:
                    yield info.filename, stream, ""


def _tar_members(archive: Path) -> Iterator[tuple[str, BinaryIO | None, str]]:
    with tarfile.open(archive) as file:
        for info in file:
            if info.isdir() or not _is_wanted(info.name):
                continue
            if info.isreg():
                yield info.name, file.extractfile(info), ""
            else:
                yield info.name, None, "unsafe name: it is a link or a device"


def _is_wanted(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and is_image_name(parts[-1]) and "__MACOSX" not in parts


def _write(name: str, stream: BinaryIO, folder: Path) -> tuple[int, str]:
    """Bytes written, and why not if none: the stream is cut off at the limit whatever its header says."""
    target = _safe_target(name, folder)
    if target is None:
        return 0, "unsafe name: it leads out of the archive's folder"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            shutil.copyfileobj(_Limited(stream), file)
            return file.tell(), ""
    except FileExistsError:
        return 0, "named twice: the archive has this name already"
    except _TooLarge:
        target.unlink()
        return MAX_FILE, f"too large: more than {MAX_FILE // 10**6} MB"
    except _DAMAGE as error:
        target.unlink(missing_ok=True)
        return 0, f"damaged in the archive: {error}"


def _safe_target(name: str, folder: Path) -> Path | None:
    """Where a member goes inside `folder`; none for a name that is absolute, climbs, or is no name."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if any(part in ("..", "/", "//") or ":" in part or "\0" in part for part in parts):
        return None
    parts = [part for part in parts if part != "."]
    if not parts or any(len(part.encode()) > 255 for part in parts):
        return None
    return folder.joinpath(*parts)


class _TooLarge(Exception):
    """A member goes on beyond the limit."""


class _Limited:
    """A stream that stops at `MAX_FILE` bytes."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._left = stream, MAX_FILE

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        return data
