"""What a catalog hands out (photos, decisions, reports), and the errors that it explains itself with."""

from __future__ import annotations

from dataclasses import dataclass, field

from winnow.images import BadImage


class CatalogError(Exception):
    """Something that the catalog won't do; the message says what to do instead."""


class ReadOnlyFolder(CatalogError):
    """The dataset folder can't be written, so no decision could be kept."""


class NotACatalog(CatalogError):
    """`catalog.db` is there but isn't ours, is damaged, or comes from a newer Winnow."""


class NoSuchFolder(CatalogError):
    """The dataset folder isn't there."""


class NoImages(CatalogError):
    """The folder holds no class folder with images."""


class EmptyClass(CatalogError):
    """A class folder without an image."""


class TooFewImages(CatalogError):
    """A class with a single image can't be both learned and checked."""


class UnknownClass(CatalogError):
    """A label that isn't a class of this dataset, or can't be a folder's name."""


class NoSuchPhoto(CatalogError):
    """A path that isn't a photo of this dataset."""


class CannotMove(CatalogError):
    """The disk refused a move; every file was put back."""


class WasRemoved(CatalogError, BadImage):
    """A person removed these very bytes before, so intake doesn't bring them back."""


@dataclass(frozen=True)
class Photo:
    """One live image file."""

    path: str  # relative to the dataset folder, with forward slashes
    sha256: str
    label: str  # the class folder that it lies in
    split: str | None  # "train", "valid", "test"
    width: int
    height: int
    bytes: int
    group: str | None = None  # near-duplicates share it
    origin: dict = field(default_factory=dict, hash=False)
    targets: dict[str, str] = field(default_factory=dict, hash=False)
    extra: dict = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Decision:
    """One choice of a person, as the journal holds it."""

    id: int
    kind: str  # "keep", "relabel", "remove"
    path: str  # where the file lay when the choice was made
    sha256: str
    before: str | None
    after: str | None
    state: str  # "pending", "applied", "undone", or "superseded" by a later choice on the photo
    by: str
    why: str
    at: str


@dataclass(frozen=True)
class SyncReport:
    """What a look at the disk found."""

    added: list[str]
    missing: list[str]
    changed: list[str]
    unreadable: list[str]
    empty_classes: list[str]
    moved: list[tuple[str, str]] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)  # images outside any class folder


@dataclass(frozen=True)
class Applied:
    """What `apply` did: (from, to) for each relabelled file, and the removed paths."""

    moved: list[tuple[str, str]]
    removed: list[str]


@dataclass(frozen=True)
class Rejection:
    """Something that intake refused, with the reason."""

    source: str
    label: str | None
    reason: str
    at: str
    origin: dict = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Row:
    """Something to review that is no decision: a duplicate, a quality fault, feedback."""

    id: int
    kind: str
    path: str
    reason: str
    data: dict = field(hash=False)
    at: str


@dataclass(frozen=True)
class Run:
    """One training or search run and what came of it."""

    id: int
    kind: str
    params: dict = field(hash=False)
    metrics: dict = field(hash=False)
    at: str
