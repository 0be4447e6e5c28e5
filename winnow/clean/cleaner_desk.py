"""What the cleaner does, without its window: rows to show, choices to journal, undo, apply, other people's work."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.clean.cleaner_queue import Queue

if TYPE_CHECKING:
    from winnow.catalog import Applied, Catalog, Decision
    from winnow.clean.suspects import Suspect

REMOVABLE = frozenset({"duplicate", "leak", "off_topic", "quality"})  # kinds whose remedy is to remove
Choice = dict[
    str, Any
]  # {"path", "action": keep|relabel|remove, "label"?, "seen"?: id of the decision on screen}


class Desk:
    """One person's sitting at a catalog's queue."""

    def __init__(
        self,
        catalog: Catalog,
        suspects: Iterable[Suspect] = (),
        *,
        by: str | None = None,  # who decides; the login name by default
    ):
        self.catalog = catalog
        self.by = by or _login()
        self.mine: set[int] = set()  # decisions made in this sitting
        self.steps: list[
            int
        ] = []  # how many decisions each of my actions made: undo takes back a whole action
        self.menus = {"label": "", "split": "", "kind": ""}
        self.load(suspects)

    def load(self, suspects: Iterable[Suspect] | None = None) -> None:
        """Read the photos anew (files moved, or the ranking came); `None` keeps the ranking."""
        if suspects is not None:
            self.suspects = list(suspects)
        self.queue = Queue(self.catalog.photos(), self.suspects)
        self.refresh()
        self.choose()

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
        path, label = self.queue.paths[row], self.queue.labels[row]
        suspect = self.queue.suspect(row, self.menus["kind"])
        shown = {"path": path, "label": label, "split": self.queue.splits[row]}
        shown["decision"] = _brief(self.standing.get(path))
        if suspect is None:
            return shown | {"suggested": None, "confidence": None, "score": None, "kind": "", "reason": ""}
        return shown | {
            "suggested": suspect.suggested if suspect.suggested != label else None,
            "confidence": _number(suspect.confidence),
            "given": _number(given_probability(suspect)),
            "score": _number(suspect.score),
            "kind": suspect.kind,
            "reason": suspect.reason,
            "accept": remedy(suspect, label),
        }

    def detail(self, path: str) -> dict:
        """What the card shows beside the row: every reason, and the nearest photos with their labels."""
        rows = self.queue.suspects.get(path, [])
        near = next((suspect.neighbours for suspect in rows if suspect.neighbours), [])
        known = [(other, self.queue.place.get(other)) for other in near if other != path]
        neighbours = [
            {"path": other, "label": self.queue.labels[at]} for other, at in known if at is not None
        ]
        reasons = [{"kind": suspect.kind, "reason": suspect.reason} for suspect in rows]
        return {"path": path, "reasons": reasons, "neighbours": neighbours[:12]}

    def progress(self) -> dict:
        """How many photos there are, were looked at, and wait for `apply`."""
        kinds = Counter(decision.kind for decision in self.pending.values())
        looked = sum(path in self.queue.place for path in self.standing)
        pending = {kind: kinds[kind] for kind in ("keep", "relabel", "remove")}
        return {"total": len(self.queue), "looked": looked, "pending": pending}

    # -- choices ------------------------------------------------------------------------------------

    def decide(self, choices: Sequence[Choice], *, why: str = "") -> tuple[list[str], list[str]]:
        """Journal choices; returns the paths done, and those left alone because somebody else was there first."""
        self.refresh()
        done, others, written = [], [], 0
        for choice in choices:
            if self._taken(choice):
                others.append(choice["path"])
            else:
                written += self._decide(choice, why)
                done.append(choice["path"])
        if written:
            self.steps.append(written)
        return done, others

    def _taken(self, choice: Choice) -> bool:
        """Whether another person decided on this photo since it was shown."""
        standing = self.standing.get(choice["path"])
        return bool(standing and standing.id not in self.mine and standing.id != choice.get("seen"))

    def _decide(self, choice: Choice, why: str) -> bool:
        """Journal one choice; false when it was there already."""
        path, action = choice["path"], choice["action"]
        said = {"by": self.by, "why": why}
        if action == "relabel":
            decision = self.catalog.relabel(path, choice["label"], **said)
        else:
            decision = {"keep": self.catalog.keep, "remove": self.catalog.remove}[action](path, **said)
        before = self.standing.get(path)
        self.mine.add(decision.id)
        self.pending[path] = self.standing[path] = decision
        return before is None or before.id != decision.id

    def above(self, threshold: float) -> list[Choice]:
        """Choices that accept every open suggestion in the list with at least this confidence."""
        return [choice for row in self.shown if (choice := self._acceptable(int(row), threshold))]

    def _acceptable(self, row: int, threshold: float) -> Choice | None:
        path, suspect = self.queue.paths[row], self.queue.suspect(row, self.menus["kind"])
        if suspect is None or path in self.standing or (suspect.confidence or 0) < threshold:
            return None
        wanted = remedy(suspect, self.queue.labels[row])
        return {"path": path, **wanted} if wanted and wanted["action"] == "relabel" else None

    def undo(self) -> list[Decision]:
        """Take back my last action, however many photos it was; without any of mine, the journal's last choice."""
        undone = self.catalog.undo(self.steps.pop() if self.steps else 1)
        self.load()
        return undone

    def apply(self) -> Applied:
        """Carry out what waits; the list follows the files."""
        applied = self.catalog.apply()
        moves = dict(applied.moved)
        self.suspects = [_moved(suspect, moves) for suspect in self.suspects]
        self.load()
        return applied

    # -- other people -------------------------------------------------------------------------------

    def refresh(self) -> list[str]:
        """Read the journal if another process wrote to it; returns the photos whose choice changed."""
        before = getattr(self, "standing", {})
        self.pending = self.catalog.pending()
        self.standing = self._applied() | self.pending
        changed = before.keys() ^ self.standing.keys()
        changed |= {
            path for path in before.keys() & self.standing.keys() if before[path] != self.standing[path]
        }
        return sorted(changed)

    def _applied(self) -> dict[str, Decision]:
        """The last applied choice on each photo: it has been looked at."""
        by_sha = {sha: path for path, sha in zip(self.queue.paths, self.queue.shas, strict=True)}
        looked = {}
        for decision in self.catalog.history():
            if decision.state == "applied":
                here = decision.path if decision.path in self.queue.place else by_sha.get(decision.sha256)
                looked[here] = decision
        looked.pop(None, None)
        return looked


def remedy(suspect: Suspect, label: str) -> Choice | None:
    """What accepting the suggestion does: relabel, remove, or nothing to accept."""
    if suspect.suggested and suspect.suggested != label:
        return {"action": "relabel", "label": suspect.suggested}
    return {"action": "remove"} if suspect.kind in REMOVABLE else None


def given_probability(suspect: Suspect) -> float | None:
    """Probability of the given label; the score is the suggestion's share of the two."""
    if suspect.kind != "label" or suspect.suggested == suspect.label or not suspect.score:
        return None
    return suspect.confidence * (1 - suspect.score) / suspect.score


def _moved(suspect: Suspect, moves: dict[str, str]) -> Suspect:
    """The same suspicion of a file that lies elsewhere now."""
    import dataclasses

    path = moves.get(suspect.path)
    return dataclasses.replace(suspect, path=path) if path else suspect


def _brief(decision: Decision | None) -> dict | None:
    if decision is None:
        return None
    return {name: getattr(decision, name) for name in ("id", "kind", "after", "state", "by", "at")}


def _number(value: float | None) -> float | None:
    """A float that JSON can carry."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return ""
