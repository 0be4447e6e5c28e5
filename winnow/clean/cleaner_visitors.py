"""Photos that visitors of the app corrected, in the cleaner's list: choosing a label takes one in, removing refuses it.

They are in no class and in no journal: a choice is carried out at once, and undo can't take it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from winnow.catalog import CatalogError, Decision, UnknownClass
from winnow.clean.cleaner_journal import Columns
from winnow.clean.others import queued_rows
from winnow.corrections import KIND, REFUSED, accept, refuse, row_path, sha256_of_row, waiting

if TYPE_CHECKING:
    from winnow.catalog import Catalog, Row
    from winnow.clean.suspects import Suspect

NOT_JOURNALLED = 0  # how many journal rows such an action made: undo finds nothing to take back


class StaysDecided(CatalogError):
    """What was done with a visitor's photo is no choice in the journal, so undo can't take it back."""


class Visitors:
    """The feedback rows that waited when the list was made, and what was done with them since."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        for_classes: bool = True,  # a further target has none: a visitor says a class
    ):
        self.catalog = catalog
        rows = waiting(catalog) if for_classes else []
        self.rows: dict[str, Row] = {r.path: r for r in rows if r.path == row_path(sha256_of_row(r))}
        self.settled: dict[str, Decision] = {}  # path of the row → what was done in this sitting
        self.added: dict[str, str] = {}  # path of the row → path in the dataset

    def __contains__(self, path: str) -> bool:
        return path in self.rows

    def join(self, columns: Columns) -> Columns:
        """The photos and these; without a label, so that no class counts them."""
        if not self.rows:
            return columns
        return Columns([*columns.paths, *self.rows], columns.labels + [""] * len(self.rows), columns.faults)

    def suspects_beside(self, suspects: Iterable[Suspect]) -> list[Suspect]:
        """Rows of the queue for those that a ranking doesn't hold: it is older, or isn't there yet."""
        if not self.rows:
            return []
        missing = self.rows.keys() - {suspect.path for suspect in suspects if suspect.kind == KIND}
        if not missing:
            return []
        from winnow.clean.suspects import Suspect  # costs a second, and most datasets have no feedback

        return [Suspect(**fields) for fields in queued_rows(self.catalog, {}) if fields["path"] in missing]

    def row(self, path: str, classes: list[str]) -> dict[str, Any]:
        """What the screen shows: the app's answer as the label, the visitor's word as the suggestion."""
        row = self.rows[path]
        says = str(row.data.get("label") or "")
        can_accept = {"accept": {"action": "relabel", "label": says}} if says in classes else {}
        shown = {"label": self._answer(path), "suggested": says or None, "kind": KIND, "reason": row.reason}
        return shown | can_accept

    def _answer(self, path: str) -> str:
        """What the app said it is, "" if that isn't known."""
        return str((self.rows[path].data.get("answer") or {}).get("label") or "")

    def is_taken(self, path: str) -> bool:
        """Whether somebody else decided on it since the list was made."""
        return path not in self.settled and path not in {row.path for row in waiting(self.catalog)}

    def decide(self, choice: dict, classes: list[str], *, by: str, why: str = "") -> Decision:
        """Take the photo in under a label (keep: under the app's answer) or refuse it, at once.

        Raises `UnknownClass`, `StaysDecided` for a second, other choice, and `BadImage` if its file is gone.
        """
        path = choice["path"]
        label = self._wanted(choice, classes)
        if before := self.settled.get(path):
            if before.after != label:
                raise StaysDecided(self._words_of(path))
            return before
        if label is None:
            refuse(self.catalog, self.rows[path], why or REFUSED)
        else:
            self.added[path] = accept(self.catalog, self.rows[path], label=label).path
        self.settled[path] = self._decision(path, label, by, why)
        return self.settled[path]

    def _wanted(self, choice: dict, classes: list[str]) -> str | None:
        """The class to take it into, None to refuse it."""
        if choice["action"] == "remove":
            return None
        label = choice.get("label") if choice["action"] == "relabel" else self._answer(choice["path"])
        if label not in classes:
            what = f"{label!r} is no class here" if label else "The app's answer isn't known"
            raise UnknownClass(f"{what}: choose one of {', '.join(classes)}, or remove the photo.")
        return label

    def _decision(self, path: str, label: str | None, by: str, why: str) -> Decision:
        """As the screen shows it; the negative number is never one of the journal's."""
        row, kind = self.rows[path], "remove" if label is None else "relabel"
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        before = self._answer(path) or None
        return Decision(-row.id, kind, path, sha256_of_row(row), before, label, "applied", by, why, at)

    def words(self, *, since: int) -> str:
        """Why undo leaves these choices (all from number `since`) as they are, and what to do instead."""
        paths = list(self.settled)[since:]
        more = f" So it is with {len(paths) - 1:,} more." if len(paths) > 1 else ""
        return f"{self._words_of(paths[0])}{more} U again takes back the choice before."

    def _words_of(self, path: str) -> str:
        if path in self.added:
            return f"The visitor's photo is in the dataset now: relabel or remove {self.added[path]} like any photo."
        return f"The visitor's photo was refused, and that is kept: to have it after all, add {path} by hand."
