"""Photos by the million: folders walked and lists read as they are needed, never held as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from winnow.images import is_image_name
from winnow.share.models import ExportError

LIST_SUFFIX = ".txt"


class NothingToPredict(ExportError):
    """The paths hold no photos."""


class Listing:
    """Photos, folders of photos, and .txt files that name one photo a line (relative to themselves).

    Iterating gives paths in an order that stays the same while the files do. Raises `NothingToPredict` at once where
    there is nothing.
    """

    def __init__(self, sources: Sequence[Path | str]):
        self.sources = [Path(source) for source in sources]
        for source in self.sources:
            if not source.exists():
                raise NothingToPredict(
                    f"There is no {source}: give photos, folders of photos, or lists of them."
                )
        self.count = sum(1 for _ in self)
        if not self.count:
            raise NothingToPredict(
                "There are no photos in these folders: JPEG, PNG, WebP, HEIC and TIFF are read."
            )

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Path]:
        for source in self.sources:
            if source.is_dir():
                yield from walk_images(source)
            elif source.suffix.lower() == LIST_SUFFIX:
                yield from _read_list(source)
            else:
                yield source


def walk_images(folder: Path) -> Iterator[Path]:
    """What `winnow.images.find_images` gives, in the same order, holding one folder's names at a time."""
    with os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in inside:
        if is_folder and not name.startswith("."):
            yield from walk_images(folder / name)
        elif not is_folder and is_image_name(name) and not (folder / name).is_dir():
            yield folder / name


def _read_list(file: Path) -> Iterator[Path]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if name := line.rstrip("\r\n"):
                yield file.parent / name
