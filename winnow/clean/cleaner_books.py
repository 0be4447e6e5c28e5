"""Where choices are written: the label's book is the catalog's journal, a further target has rows of its own.

Both books speak alike, so the desk doesn't mind which target is being cleaned.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from winnow.catalog import Applied, CatalogError, Decision, UnknownClass
from winnow.clean.cleaner_journal import Columns, JournalReader

if TYPE_CHECKING:
    from winnow.catalog import Catalog

ROW = "choice"  # the kind of the catalog's rows that hold choices about further targets


class NothingToRemove(CatalogError):
    """Removing a photo concerns the photo, not one of its targets."""


class LabelBook:
    """Choices about the class folders: `Catalog.relabel`, `remove`, `keep`; `apply` moves the files."""

    def __init__(self, catalog: Catalog):
        self.catalog = catalog
        self.reader = JournalReader(catalog)
        self.columns = self.reader.columns
        self.standing = self.reader.standing
        self.marks = self.reader.marks
        self.apply = catalog.apply
        self.undo = catalog.undo
        self.history = catalog.history

    @property
    def classes(self) -> list[str]:
        """The labels that a photo can have."""
        return self.catalog.classes

    def decide(
        self, path: str, action: str, label: str | None, *, by: str, why: str, last: Decision | None = None
    ) -> Decision:
        """Journal one choice, or find that it is there already; raises `CatalogError`."""
        if action == "relabel":
            return self.catalog.relabel(path, label, by=by, why=why)
        return {"keep": self.catalog.keep, "remove": self.catalog.remove}[action](path, by=by, why=why)

    def close(self) -> None:
        """Let go of the database."""
        self.reader.close()


class TargetBook:
    """Choices about a further target: rows in the catalog that are never rewritten; `apply` sets the values.

    A row is a choice, an undo of one, or word that one was applied. Who replays the rows knows how things stand.
    """

    def __init__(self, catalog: Catalog, target: str):
        self.catalog, self.target = catalog, target

    @cached_property
    def reader(self) -> JournalReader:
        """Opened when it is first needed: who only reads the history needs none."""
        return JournalReader(self.catalog)

    def marks(self) -> tuple[int, int, int]:
        """Grows with every choice that anybody writes."""
        return self.reader.marks()

    @cached_property
    def classes(self) -> list[str]:
        """The values that this target has, as of the last look."""
        return sorted(set(self.columns().labels))

    def columns(self) -> Columns:
        """The photos that have this target."""
        self.__dict__.pop("classes", None)
        return self.reader.columns(self.target)

    def decide(
        self, path: str, action: str, label: str | None, *, by: str, why: str, last: Decision | None = None
    ) -> Decision:
        """Write one choice; the value changes when it is applied. `last`: the choice that stands, if any."""
        photo = self.catalog.photo(path)
        before = photo.targets.get(self.target)
        if action == "remove":
            raise NothingToRemove(
                f"{path} stays: you are cleaning {self.target}; choose the class folders to remove photos."
            )
        if action == "relabel" and label not in self.classes:
            raise UnknownClass(
                f"{label!r} is no {self.target} here: choose one of {', '.join(self.classes)}."
            )
        kind = "keep" if label in (None, before) else action
        after = label if kind == "relabel" else None
        if last and last.state == "pending" and (last.kind, last.after) == (kind, after):
            return last
        said = {"kind": kind, "before": before, "after": after, "by": by, "why": why, "sha256": photo.sha256}
        at = self._write(path, event="choice", **said)
        return Decision(id=self.reader.last_row(ROW, path), path=path, state="pending", at=at, **said)

    def _write(self, path: str, **data) -> str:
        """Add a row; the key makes it one of its kind. Returns its time."""
        data |= {"target": self.target, "at": _now(), "key": uuid.uuid4().hex}
        self.catalog.add_row(ROW, path, f"{self.target}: {data['event']}", data)
        return data["at"]

    def history(self) -> list[Decision]:
        """Every choice about this target, oldest first, with what became of it."""
        choices, states, last = {}, {}, {}
        for row in self.catalog.rows(ROW):
            if row.data["target"] != self.target:
                continue
            if row.data["event"] == "choice":
                choices[row.id], states[row.id] = row, "pending"
            else:
                states[row.data["of"]] = {"undo": "undone", "apply": "applied"}[row.data["event"]]
        for number, row in choices.items():
            if states[number] != "undone":
                last[row.path] = number
        for number, row in choices.items():
            if states[number] == "pending" and last[row.path] != number:
                states[number] = "superseded"
        return [_target_decision(row, states[number]) for number, row in choices.items()]

    def standing(self) -> dict[str, Decision]:
        """The choice that holds for each photo that has one."""
        return {d.path: d for d in self.history() if d.state in ("pending", "applied")}

    def apply(self) -> Applied:
        """Set the chosen values; no file moves."""
        waiting = [decision for decision in self.standing().values() if decision.state == "pending"]
        changed = {decision.path: decision.after for decision in waiting if decision.kind == "relabel"}
        if changed:
            self.catalog.set_target(self.target, changed)
        for decision in waiting:
            self._write(decision.path, event="apply", of=decision.id, by=decision.by)
        return Applied([(path, path) for path in changed], [])

    def undo(self, steps: int = 1) -> list[Decision]:
        """Take back the last choices, newest first; an applied value returns to what it was."""
        standing = [decision for decision in self.history() if decision.state != "undone"]
        last = standing[::-1][:steps]
        for decision in last:
            if decision.state == "applied" and decision.kind == "relabel":
                self.catalog.set_target(self.target, {decision.path: decision.before})
            self._write(decision.path, event="undo", of=decision.id, by=decision.by)
        return last

    def close(self) -> None:
        """Let go of the database."""
        self.reader.close()


def open_book(catalog: Catalog, target: str | None) -> LabelBook | TargetBook:
    """The book for a target; None is the class folders."""
    return TargetBook(catalog, target) if target else LabelBook(catalog)


def _target_decision(row, state: str) -> Decision:
    data = row.data
    names = ("kind", "before", "after", "by", "why", "at", "sha256")
    return Decision(id=row.id, path=row.path, state=state, **{name: data[name] for name in names})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
