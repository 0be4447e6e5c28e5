"""A folder of class folders, only read: what `winnow suspects` needs of a catalog, for data that it must not touch."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from winnow.catalog import Catalog
from winnow.images import BadImage, find_images, open_image, sha256_of
from winnow.layout import class_folders, label_of, side_folders
from winnow.records import NoImages, NoSuchFolder, Photo, ReadOnlyFolder


class LookedAtFolder:
    """The photos of an ImageFolder, their labels and a cache elsewhere; nothing is ever written into `folder`."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).expanduser().absolute()
        if not self.folder.is_dir():
            raise NoSuchFolder(f"{self.folder} is not a folder: check the path.")
        self.unreadable: dict[str, str] = {}  # path: why

    @cached_property
    def cache(self) -> Path:
        """A folder of the user's own cache, one for each dataset."""
        home = (
            os.environ.get("WINNOW_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "winnow"
        )
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        place = Path(home).expanduser() / "folders" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    @cached_property
    def classes(self) -> list[str]:
        """Class names, sorted."""
        return class_folders(self.folder)

    @cached_property
    def _found(self) -> list[Photo]:
        sides = side_folders(self.folder)
        paths = [file.relative_to(self.folder).as_posix() for file in find_images(self.folder)]
        paths = [path for path in paths if path.count("/") >= (2 if path.split("/")[0] in sides else 1)]
        if not paths:
            raise NoImages(
                f"{self.folder} has no images in class folders: put each class's photos into a folder."
            )
        with ThreadPoolExecutor() as pool:
            hashes = list(pool.map(lambda path: sha256_of(self.folder / path), paths))
        return [self._photo(path, sha, sides) for path, sha in zip(paths, hashes, strict=True)]

    def _photo(self, path: str, sha256: str, sides: dict[str, str]) -> Photo:
        side = sides.get(path.split("/")[0])
        return Photo(path, sha256, label_of(path, side), side, 0, 0, (self.folder / path).stat().st_size)

    def photos(self) -> list[Photo]:
        """The photos that can be read, sorted by path."""
        return [photo for photo in self._found if photo.path not in self.unreadable]

    def file(self, path: str) -> Path:
        """The absolute path of a photo's file."""
        return self.folder / path

    def drop_unreadable(self) -> None:
        """Decode every file and leave out those that fail; `unreadable` says why."""

        def fault(photo: Photo) -> str:
            try:
                open_image(self.file(photo.path))
            except BadImage as error:
                return str(error)
            return ""

        with ThreadPoolExecutor() as pool:
            faults = list(pool.map(fault, self._found))
        self.unreadable = {photo.path: why for photo, why in zip(self._found, faults, strict=True) if why}

    def history(self) -> list:
        """No decisions."""
        return []

    def rows(self, kind: str | None = None) -> list:
        """No rows to review."""
        return []


def open_for_reading(folder: Path | str) -> Catalog | LookedAtFolder:
    """The catalog of a folder that has one and may be written, else a look at the folder alone."""
    if (Path(folder).expanduser() / "catalog.db").exists():
        try:
            catalog = Catalog(folder)
            catalog.sync()
            return catalog
        except ReadOnlyFolder:
            pass
    return LookedAtFolder(folder)
