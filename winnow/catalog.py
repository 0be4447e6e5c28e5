"""One dataset: class folders, and the journal beside them that remembers what a folder can't."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from winnow import intake, journal, layout, listing, logbook, moves, syncing
from winnow.images import open_image
from winnow.intake import Incoming
from winnow.records import (  # noqa: F401 - the catalog's vocabulary, importable from here
    Applied,
    CannotMove,
    CatalogError,
    Decision,
    EmptyClass,
    NoImages,
    NoSuchFolder,
    NoSuchPhoto,
    NotACatalog,
    Photo,
    ReadOnlyFolder,
    Rejection,
    Row,
    Run,
    SyncReport,
    TooFewImages,
    UnknownClass,
    WasRemoved,
)
from winnow.splitting import check_classes, freeze_sides
from winnow.store import Store


class Catalog:
    """A folder of class folders; opening it adopts it in place, renames nothing and finishes what a crash left."""

    def __init__(
        self,
        folder: Path | str,
        *,
        create: bool = True,  # make the folder if it isn't there
    ):
        self.folder = Path(folder).expanduser().absolute()
        if not self.folder.is_dir():
            if not create or self.folder.exists():
                raise NoSuchFolder(f"{self.folder} is not a folder: check the path.")
            try:
                self.folder.mkdir(parents=True)
            except OSError as error:
                raise ReadOnlyFolder(
                    f"{self.folder} can't be made ({error.strerror}): choose another place."
                ) from error
        self._store = Store(self.folder)
        moves.recover(self._store)
        if not syncing.was_adopted(self._store):
            self.sync()

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["folder"])

    def __repr__(self) -> str:
        here = Path.cwd()  # a notebook's output should not hold the path of one machine
        folder = self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder
        return f"Catalog({str(folder)!r})"

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM files WHERE state = 'live'").fetchone()[0]

    @property
    def _db(self) -> sqlite3.Connection:
        return self._store.db

    @property
    def cache(self) -> Path:
        """A hidden folder for thumbnails and features."""
        self._store.cache.mkdir(exist_ok=True)
        return self._store.cache

    @property
    def classes(self) -> list[str]:
        """Class names, sorted: the folders on disk."""
        return layout.class_folders(self.folder)

    # -- photos --

    def sync(self, *, verify: bool | None = None) -> SyncReport:
        """Look at the disk: what is new, gone, changed, moved by hand or unreadable. Touches no file.

        Files whose time stamp and size are known aren't read again. `verify` decodes each new file; left
        out, that is done for up to 5,000 new files and more are checked by their headers.
        """
        return syncing.sync(self._store, verify=verify)

    def photos(self, *, split: str | None = None, label: str | None = None) -> list[Photo]:
        """The live, readable photos, sorted by path."""
        return listing.list_photos(self._store, split=split, label=label)

    def photo(self, path: str) -> Photo:
        """One photo by its path; raises `NoSuchPhoto`."""
        return listing.find_photo(self._store, path)

    def file(self, path: str) -> Path:
        """The absolute path of a photo's file."""
        return self.folder / path

    def open(self, path: str) -> Image.Image:
        """The photo as an upright RGB image."""
        return open_image(self.file(path))

    def add(
        self,
        source: Path | str | bytes,
        label: str,
        *,
        name: str | None = None,  # file name; left out: the source's own, or from the hash
        origin: dict | None = None,  # url, page, engine, query, creator, licence, ...
        targets: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
        move: bool = False,  # take the source away once it is in
        durable: bool = True,  # wait for the disk; else a power cut may take what can be fetched again
    ) -> Photo:
        """Take an image in; the same bytes in the same class give the photo that is there already.

        Raises `BadImage` for what is no photo, `WasRemoved` for bytes that a person removed before.
        """
        path = intake.add(self._store, source, label, name=name, origin=origin, move=move, durable=durable)
        for key, value in (targets or {}).items():
            self.set_target(key, {path: value})
        for key, value in (extra or {}).items():
            self.set_extra(key, {path: value})
        return self.photo(path)

    def add_many(self, photos: Sequence[Incoming], *, durable: bool = True) -> list[str | WasRemoved]:
        """Take in photos that were verified already, in one go: the path of each, or why it stays out."""
        return intake.add_many(self._store, photos, durable=durable)

    def add_class(self, label: str) -> None:
        """Make a class folder, so that photos can be given this label."""
        layout.check_label(label)
        (self.folder / layout.home_of(self.folder, label)[0]).mkdir(exist_ok=True)

    def reject(
        self, source: str, reason: str, *, label: str | None = None, origin: dict | None = None
    ) -> None:
        """Write down why something was not taken in."""
        logbook.reject(self._store, source, reason, label, origin)

    def rejections(self) -> list[Rejection]:
        """What was not taken in, oldest first."""
        return logbook.rejections(self._store)

    # -- the split --

    def split(self, *, valid: float = 0.2, seed: int = 42, strict: bool = True) -> None:
        """Give a side to each photo that has none: a share `valid` of each class checks, the rest learns.

        A side is for life. Equal and near-duplicate photos share one. `strict` raises for an empty class
        or one with a single image; otherwise these only learn.
        """
        photos = self.photos()
        if strict:
            self.check_classes(photos)
        freeze_sides(self._store, photos, valid=valid, seed=seed)

    def check_classes(self, photos: list[Photo] | None = None) -> None:
        """Raise `NoImages`, `EmptyClass` or `TooFewImages` if nothing could be learned and checked."""
        check_classes(self._store, self.classes, self.photos() if photos is None else photos)

    # -- decisions --

    def keep(self, path: str, *, by: str = "", why: str = "") -> Decision:
        """Journal that a photo's label is right."""
        return journal.decide(self._store, "keep", path, None, by=by, why=why)

    def relabel(self, path: str, label: str, *, by: str = "", why: str = "") -> Decision:
        """Journal that a photo belongs to class `label`; `apply` moves it."""
        if label not in self.classes:
            raise UnknownClass(
                f"{label!r} is no class here: choose one of {', '.join(self.classes)}, or add_class it."
            )
        return journal.decide(self._store, "relabel", path, label, by=by, why=why)

    def remove(self, path: str, *, by: str = "", why: str = "") -> Decision:
        """Journal that a photo doesn't belong here; `apply` moves it to `.removed/`."""
        return journal.decide(self._store, "remove", path, None, by=by, why=why)

    def pending(self) -> dict[str, Decision]:
        """The choices that wait for `apply`, by the photo's present path."""
        return journal.pending(self._store)

    def apply(self) -> Applied:
        """Carry out what is pending: all of it, or, where the disk refuses, nothing (`CannotMove`)."""
        return moves.apply(self._store)

    def undo(self, steps: int = 1) -> list[Decision]:
        """Take back the last `steps` choices, pending or applied, newest first; files return byte for byte."""
        return moves.undo(self._store, steps)

    def history(self) -> list[Decision]:
        """Every choice ever made, oldest first."""
        return journal.history(self._store)

    # -- columns --

    def set_target(self, name: str, values: Mapping[str, str]) -> None:
        """Give photos (`path → value`) a further target beside the label."""
        listing.set_column(self._store, "targets", name, {path: str(value) for path, value in values.items()})

    def target_names(self) -> list[str]:
        """Names of the further targets, sorted."""
        return listing.target_names(self._store)

    def set_extra(self, name: str, values: Mapping[str, object]) -> None:
        """Keep a further column (`path → value`) that a source brought."""
        listing.set_column(
            self._store, "extra", name, {path: json.dumps(value) for path, value in values.items()}
        )

    def set_groups(self, groups: Mapping[str, object]) -> None:
        """Give photos (`path → group`) their duplicate group; None takes it away."""
        listing.set_groups(self._store, groups)

    def groups(self) -> dict[str, list[str]]:
        """Duplicate group → paths of its live photos."""
        return listing.list_groups(self._store)

    def conflicts(self) -> list[list[str]]:
        """Photos with the very same bytes in two or more classes: at most one of these labels is right."""
        return listing.list_conflicts(self._store)

    # -- rows to review, runs --

    def add_row(self, kind: str, path: str, reason: str, data: dict | None = None) -> None:
        """Queue something to review ("quality", "duplicate", "conflict", "leak", "feedback", ...)."""
        self.queue_rows(kind, [(path, reason, data or {})])

    def queue_rows(self, kind: str, rows: Iterable[tuple[str, str, dict]], *, replace: bool = False) -> None:
        """Queue many rows `(path, reason, data)`; `replace` takes the earlier rows of this kind away."""
        logbook.queue_rows(self._store, kind, rows, replace=replace)

    def rows(self, kind: str | None = None) -> list[Row]:
        """The rows to review, by present path; rows about photos that are gone are left out."""
        return logbook.queued_rows(self._store, kind)

    def record_run(self, kind: str, params: dict, metrics: dict) -> int:
        """Remember a run and its figures; returns its number."""
        return logbook.record_run(self._store, kind, params, metrics)

    def runs(self) -> list[Run]:
        """Every recorded run, oldest first."""
        return logbook.runs(self._store)
