"""Photos that exist already: a folder of class folders, or an archive of one, through the catalog's door."""

from __future__ import annotations

import re
import tempfile
import urllib.error
from collections.abc import Callable
from pathlib import Path

from winnow.catalog import Catalog
from winnow.collect.report import Report, reason_of
from winnow.collect.unpack import unpack
from winnow.images import BadImage, find_images, sha256_of

SIDES = {"train", "valid", "validation", "val", "test"}


class IntakeFailed(Exception):
    """Photos could not be taken in; the message says why. What was there before is as it was."""


class NoSuchSource(IntakeFailed):
    """The folder, table or archive that was named is not there or can't be fetched."""


class ChangedArchive(IntakeFailed):
    """The archive is not the one that was meant: its checksum differs."""


class NoClassFolders(IntakeFailed):
    """The images lie in no class folders, so nobody can tell their labels."""


def import_folder(
    catalog: Catalog,
    folder: Path | str,
    *,
    origin: dict | None = None,
    move: bool = False,  # take each file away from `folder` once it is in
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Copy the photos of `folder` into the catalog; the class is the name of the first folder inside.

    Parents called train/, valid/, validation/ or test/ are looked through. The catalog's own folder is only
    looked at, not copied. Each file ends as a photo or as a rejection with its reason. Raises `NoSuchSource` and
    `NoClassFolders`.
    """
    folder = Path(folder).expanduser().absolute()
    if not folder.is_dir():
        raise NoSuchSource(
            f"There is no folder {folder}: set FOLDER to the one that holds your class folders."
        )
    if folder == catalog.folder:
        return adopt(catalog)
    files = [(file, _label_of(file.relative_to(folder))) for file in find_images(folder)]
    if not any(label for _, label in files):
        raise NoClassFolders(
            f"{folder} has no class folder with images: make one folder for each class and put its photos there."
        )
    report = Report()
    for count, (file, label) in enumerate(files, start=1):
        _take(catalog, file, label, {"file": str(file.relative_to(folder)), **(origin or {})}, move, report)
        if progress:
            progress(count, len(files))
    return _with_empty_classes(report, folder)


def adopt(catalog: Catalog) -> Report:
    """Look at the catalog's own folder; what can't be read becomes a rejection. No file is touched."""
    seen = catalog.sync()
    report = Report()
    for photo in catalog.photos():
        report.accept(photo.label)
    known = {rejection.source for rejection in catalog.rejections()}
    for path in seen.unreadable:
        reason = _why_unreadable(catalog.file(path))
        report.refuse(_label_of(Path(path)), reason)
        if path not in known:
            catalog.reject(path, reason, label=_label_of(Path(path)))
    for name in seen.empty_classes:
        report.notes.append(f"Class folder {name!r} has no image: add some or remove the folder.")
    return report


def import_archive(
    catalog: Catalog,
    source: str | Path,
    *,
    sha256: str | None = None,  # what the archive's maker says, to be sure of it
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Take in the photos of a zip or tar archive, from a path or (by fastdownload) from an address.

    Without `sha256` the checksum of the first import is remembered, and another file at the same address is refused.
    Only images are unpacked, and only into a folder of their own: a name that points elsewhere becomes a rejection.
    Raises `NoSuchSource`, `ChangedArchive`, `NoClassFolders`, and `BadArchive` for what is no archive.
    """
    source = str(source)
    archive = _fetch(catalog, source) if re.match(r"https?://", source) else Path(source).expanduser()
    if not archive.is_file():
        raise NoSuchSource(f"There is no archive {archive}: check the path or the address.")
    found = sha256_of(archive)
    _check_hash(catalog, source, found, sha256)
    report = Report()
    with tempfile.TemporaryDirectory(dir=catalog.cache, prefix="unpacked-") as folder:
        for name, reason in unpack(archive, Path(folder)):
            catalog.reject(f"{source}!{name}", reason, label=_label_of(Path(name)))
            report.refuse(_label_of(Path(name)), reason)
        root = find_root(Path(folder))
        taken = import_folder(
            catalog, root, origin={"url": source, "archive": found}, move=True, progress=progress
        )
    catalog.record_run("archive", {"source": source}, {"sha256": found, "images": sum(taken.images.values())})
    return taken + report


def find_root(folder: Path) -> Path:
    """The folder whose folders are the classes: past single folders that only wrap what is inside."""
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        if (
            len(inside) != 1
            or not inside[0].is_dir()
            or not any(path.is_dir() for path in inside[0].iterdir())
        ):
            return folder
        folder = inside[0]


def _label_of(path: Path) -> str:
    """The class folder in a relative path, past a train/ or valid/ parent; empty if there is none."""
    folders = list(path.parts[:-1])
    if len(folders) > 1 and folders[0].lower() in SIDES:
        folders = folders[1:]
    return folders[0] if folders else ""


def _take(catalog: Catalog, file: Path, label: str, origin: dict, move: bool, report: Report) -> None:
    """One file becomes a photo or a rejection."""
    try:
        if not label:
            raise BadImage("This image lies in no class folder: move it into one.")
        catalog.add(file, label, origin=origin, move=move)
        report.accept(label)
    except BadImage as error:
        reason = reason_of(error)
        catalog.reject(str(file), reason, label=label or None, origin=origin)
        report.refuse(label, reason)


def _why_unreadable(file: Path) -> str:
    from winnow.images import open_image

    try:
        open_image(file)
        return "can't be used: it could not be read before, and can be now: look again."
    except BadImage as error:
        return reason_of(error)


def _with_empty_classes(report: Report, folder: Path) -> Report:
    tops = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for top in sorted(tops):
        if top.name.lower() not in SIDES and top.name not in report.found:
            report.notes.append(f"Class folder {top.name!r} has no image: it was left out.")
    return report


def _fetch(catalog: Catalog, url: str) -> Path:
    """The archive at `url`, kept in the catalog's cache so that a second import needs no network."""
    from fastdownload import FastDownload

    base = catalog.cache / "archives"
    base.mkdir(exist_ok=True)
    try:
        return Path(FastDownload(base=base, archive=".", data=".").download(url))
    except urllib.error.HTTPError as error:
        raise NoSuchSource(f"{url} can't be fetched (it said {error.code}): check the address.") from error
    except (OSError, ValueError) as error:
        raise NoSuchSource(
            f"{url} can't be reached: check the network and the address, or give the path of a file. ({error})"
        ) from error


def _check_hash(catalog: Catalog, source: str, found: str, wanted: str | None) -> None:
    if wanted:
        if found.lower() != wanted.strip().lower():
            raise ChangedArchive(
                f"{source} has the SHA-256 {found}, not {wanted}: nothing was unpacked. Fetch it again, or check "
                "the number."
            )
        return
    known = [
        r.metrics["sha256"] for r in catalog.runs() if r.kind == "archive" and r.params["source"] == source
    ]
    if known and known[-1] != found:
        raise ChangedArchive(
            f"{source} is not the file that was imported before: nothing was unpacked. If that is right, import it "
            f"with sha256={found!r}."
        )
