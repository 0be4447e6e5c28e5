"""What the cleaner does, without its window: rows to show, choices to journal, undo, apply, other people's work."""

from __future__ import annotations

import dataclasses
import getpass
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.catalog import CannotMove, CatalogError
from winnow.clean.cleaner_books import open_book
from winnow.clean.cleaner_queue import Queue
from winnow.clean.cleaner_rows import brief, make_detail, make_row, remedy
from winnow.clean.cleaner_visitors import NOT_JOURNALLED, StaysDecided, Visitors

if TYPE_CHECKING:
    from winnow.catalog import Applied, Catalog, Decision
    from winnow.clean.suspects import Suspect

Choice = dict[
    str, Any
]  # {"path", "action": keep|relabel|remove, "label"?, "seen"?: id of the decision on screen}


class NotYours(CatalogError):
    """Undo would take back what another person chose."""


class Desk:
    """One person's sitting at a catalog's queue."""

    def __init__(
        self,
        catalog: Catalog,
        suspects: Iterable[Suspect] = (),
        *,
        target: str | None = None,  # clean a further target instead of the class folders
        by: str | None = None,  # who decides; the login name by default
    ):
        self.catalog = catalog
        self.by = by or _login()
        self.mine: set[int] = set()  # decisions made in this sitting
        self.steps: list[
            int
        ] = []  # how many decisions each of my actions made: undo takes back a whole action
        self.partings: list[str] = []  # for each step about visitors' photos, why undo leaves it
        self.menus = {"label": "", "split": "", "kind": ""}
        self.book = open_book(catalog, target)
        self.load(suspects)

    @property
    def target(self) -> str | None:
        """The further target that is being cleaned, None for the class folders."""
        return getattr(self.book, "target", None)

    def load(self, suspects: Iterable[Suspect] | None = None) -> None:
        """Read the photos anew (files moved, or the ranking came); `None` keeps the ranking."""
        if suspects is not None:
            self.suspects = list(suspects)
        self.visitors = Visitors(self.catalog, for_classes=self.target is None)
        self.suspects += self.visitors.suspects_beside(self.suspects)
        columns = self.visitors.join(self.book.columns())
        self.queue = Queue(columns, self.suspects, splits=self.book.reader.splits)
        self.classes, self.sides = self.book.classes, self.book.reader.sides()
        self._read_choices()
        self.choose()

    def close(self) -> None:
        """Let go of the catalog's database."""
        self.book.close()

    # -- what is shown ------------------------------------------------------------------------------

    def choose(self, **menus: str) -> None:
        """Set the menus `label`, `split`, `kind` ("" is all) and make the list that they leave."""
        self.menus.update(menus)
        self.shown = self.queue.view(**self.menus)

    def rows(self, start: int, stop: int) -> list[dict]:
        """A page of the list, ready for the screen."""
        return [self.row(int(row)) for row in self.shown[max(start, 0) : stop]]

    def row(self, row: int) -> dict:
        """One photo: what it is called, what speaks against that, what was decided."""
        path = self.queue.paths[row]
        visitor = self.visitors.row(path, self.classes) if path in self.visitors else None
        return make_row(self.queue, row, self.menus["kind"], self.decision(path), visitor)

    def detail(self, path: str) -> dict:
        """What the card shows beside the row: every reason, and the nearest photos with their labels."""
        is_photo = path not in self.queue.faults and path not in self.visitors
        split = self.catalog.photo(path).split if is_photo else None
        return {"path": path, "split": split, **make_detail(self.queue, path)}

    def progress(self) -> dict:
        """How many photos there are, were looked at, and wait for `apply`."""
        kinds = Counter(decision.kind for decision in self.pending.values())
        pending = {kind: kinds[kind] for kind in ("keep", "relabel", "remove")}
        return {"total": len(self.queue), "looked": len(self.standing), "pending": pending}

    def next_open(self, position: int, step: int = 1) -> int:
        """The next place in the list (or the one before, for -1) whose photo nobody has decided on."""
        place = position + step
        while 0 <= place < len(self.shown) and self.queue.paths[self.shown[place]] in self.standing:
            place += step
        return place if 0 <= place < len(self.shown) else position

    def decision(self, path: str) -> dict | None:
        """The choice that stands on a photo, ready for the screen."""
        return brief(self.standing.get(path))

    def label_of(self, path: str) -> str:
        """The given label."""
        return self.queue.labels[self.queue.place[path]]

    def position(self, path: str) -> int | None:
        """Where in the list a photo is now."""
        row = self.queue.place.get(path)
        found = np.flatnonzero(self.shown == row) if row is not None else ()
        return int(found[0]) if len(found) else None

    # -- choices ------------------------------------------------------------------------------------

    def decide(self, choices: Sequence[Choice], *, why: str = "") -> tuple[list[str], list[str]]:
        """Journal choices; returns the paths done, and those left alone because somebody else was there first.

        A `CatalogError` ends it; what was written before stays written.
        """
        self.refresh()
        done, others, written, settled = [], [], set(), len(self.visitors.settled)
        try:
            for choice in choices:
                if self._taken(choice):
                    others.append(choice["path"])
                else:
                    written.add(self._decide(choice, why))
                    done.append(choice["path"])
        finally:
            if written := written - {None}:
                self.steps.append(len(written))
                self._absorb(written)
            if len(self.visitors.settled) > settled:
                self.steps.append(NOT_JOURNALLED)
                self.partings.append(self.visitors.words(since=settled))
        return done, others

    def _taken(self, choice: Choice) -> bool:
        """Whether another person decided on this photo since it was shown."""
        if choice["path"] in self.visitors:
            return self.visitors.is_taken(choice["path"])
        standing = self.standing.get(choice["path"])
        return bool(standing and standing.id not in self.mine and standing.id != choice.get("seen"))

    def _decide(self, choice: Choice, why: str) -> int | None:
        """Journal one choice; its number, or None if it was there already."""
        path, before = choice["path"], self.standing.get(choice["path"])
        if path in self.visitors:
            settled = self.visitors.decide(choice, self.classes, by=self.by, why=why)
            self.standing[path] = settled
            return None
        said = {"by": self.by, "why": why, "last": before}
        decision = self.book.decide(path, choice["action"], choice.get("label"), **said)
        self.mine.add(decision.id)
        self.pending[path] = self.standing[path] = decision
        return None if before and before.id == decision.id else decision.id

    def _absorb(self, written: set[int]) -> None:
        """My own rows are no news, unless somebody else wrote between them."""
        now = self.book.marks()
        if sum(now) - sum(self.marks) == len(written):
            self.marks = now

    def above(self, threshold: float) -> list[Choice]:
        """Choices that accept every open suggestion in the list with at least this confidence."""
        rows = self.queue.doubtful(self.shown, threshold, self.menus["kind"])
        return [choice for row in rows if (choice := self._acceptable(int(row)))]

    def surest(self) -> float:
        """The confidence of the surest open suggestion in the list, 0 if there is none."""
        choices = self.above(0)
        return max((self._confidence(choice["path"]) for choice in choices), default=0.0)

    def _confidence(self, path: str) -> float:
        return self.queue.suspect(self.queue.place[path], self.menus["kind"]).confidence or 0.0

    def _acceptable(self, row: int) -> Choice | None:
        path = self.queue.paths[row]
        if path in self.standing or path in self.visitors:  # a visitor's word has no confidence to go by
            return None
        wanted = remedy(self.queue.suspect(row, self.menus["kind"]), self.queue.labels[row])
        return {"path": path, **wanted} if wanted and wanted["action"] == "relabel" else None

    def undo(self, *, anybody: bool = False) -> list[Decision]:
        """Take back my last action, however many photos it was.

        Raises `NotYours` if the journal's last choice is somebody else's (or of an earlier sitting by another
        name); `anybody` takes back that one. Raises `StaysDecided` for what was done with a visitor's photo.
        """
        if self.steps and self.steps[-1] == NOT_JOURNALLED:
            self.steps.pop()
            self.load()  # the photos that were taken in are in the list from now on
            raise StaysDecided(self.partings.pop())
        last = self.last_choices(self.steps[-1] if self.steps else 1)
        strange = next((d for d in last if d.id not in self.mine and d.by != self.by), None)
        if strange and not anybody:
            raise NotYours(f"The last choice is {strange.by or 'somebody else'}'s ({strange.path}).")
        taken = last[-1:] if strange else last
        here = {decision.id: path for path, decision in self.standing.items()}
        undone = self.book.undo(len(taken))
        if self.steps and not strange:
            self.steps.pop()
        if any(decision.state == "applied" for decision in taken):
            self._follow({here.get(decision.id, decision.path): decision.path for decision in taken})
        else:
            self._read_choices()
        return undone

    def last_choices(self, n: int) -> list[Decision]:
        """The newest `n` choices that were not taken back."""
        return [decision for decision in self.book.history() if decision.state != "undone"][-n:]

    def apply(self) -> Applied:
        """Carry out what waits; the list follows the files, also those that somebody moved by hand."""
        try:
            applied = self.book.apply()
        except CannotMove:
            self.catalog.sync()  # code written for fastai unlinks and moves files itself
            applied = self.book.apply()
        self._follow(dict(applied.moved))
        return applied

    def _follow(self, moves: dict[str, str]) -> None:
        """Files moved: their suspicions go with them."""
        self.suspects = [_moved(suspect, moves) for suspect in self.suspects]
        self.load()

    # -- other people -------------------------------------------------------------------------------

    def refresh(self) -> list[str]:
        """Read the journal if anybody else wrote to it; returns the photos whose choice changed."""
        if self.book.marks() == self.marks:
            return []
        before = self.standing
        self._read_choices()
        changed = before.keys() ^ self.standing.keys()
        changed |= {
            path for path in before.keys() & self.standing.keys() if before[path] != self.standing[path]
        }
        if any(path not in self.queue.place for path in self.standing):
            self.load()  # somebody applied: files have moved
        return sorted(changed)

    def _read_choices(self) -> None:
        self.marks = self.book.marks()
        self.standing = self.book.standing() | self.visitors.settled
        self.pending = {
            path: decision for path, decision in self.standing.items() if decision.state == "pending"
        }


def _moved(suspect: Suspect, moves: dict[str, str]) -> Suspect:
    """The same suspicion of a file that lies elsewhere now."""
    path = moves.get(suspect.path)
    return dataclasses.replace(suspect, path=path) if path else suspect


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return ""
