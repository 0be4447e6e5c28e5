"""One photo of the cleaner's list as the screen shows it: what speaks against its label, and what would mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from winnow.clean.cleaner_queue import UNREADABLE, Queue

if TYPE_CHECKING:
    from winnow.catalog import Decision
    from winnow.clean.suspects import Suspect

REMOVABLE = frozenset({"duplicate", "leak", "off_topic", "quality"})  # kinds whose remedy is to remove


def make_row(
    queue: Queue,
    row: int,
    kind: str,  # only suspicions of this kind; "" for the strongest
    decision: dict | None,  # what was decided, from `brief`
    visitor: dict | None = None,  # a visitor's correction in place of a suspicion
) -> dict:
    """A row of the list: path, label, suggestion, confidence, score, reason, and what accepting would do."""
    path, label = queue.paths[row], queue.labels[row]
    shown = {"path": path, "label": label, "decision": decision}
    shown |= {"suggested": None, "confidence": None, "score": None}
    if fault := queue.faults.get(path):
        return shown | {"kind": UNREADABLE, "reason": fault, "fault": fault, "accept": {"action": "remove"}}
    suspect = queue.suspect(row, kind)
    if suspect is None:
        return shown | {"kind": "", "reason": ""}
    if visitor is not None:
        return shown | visitor
    return shown | {
        "suggested": suspect.suggested if suspect.suggested != label else None,
        "confidence": _number(suspect.confidence),
        "given": _number(given_probability(suspect)),
        "score": _number(suspect.score),
        "kind": suspect.kind,
        "reason": suspect.reason,
        "accept": remedy(suspect, label),
    }


def make_detail(queue: Queue, path: str) -> dict:
    """Every reason, and the nearest photos with their labels."""
    rows = queue.suspicions(queue.place[path])
    near = next((suspect.neighbours for suspect in rows if suspect.neighbours), [])
    known = [(other, queue.place.get(other)) for other in near if other != path]
    neighbours = [{"path": other, "label": queue.labels[at]} for other, at in known if at is not None]
    reasons = [{"kind": suspect.kind, "reason": suspect.reason} for suspect in rows]
    return {"reasons": reasons, "neighbours": neighbours[:12]}


def remedy(suspect: Suspect, label: str) -> dict | None:
    """What accepting the suggestion does: relabel, remove, or nothing to accept."""
    if suspect.suggested and suspect.suggested != label:
        return {"action": "relabel", "label": suspect.suggested}
    return {"action": "remove"} if suspect.kind in REMOVABLE else None


def given_probability(suspect: Suspect) -> float | None:
    """Probability of the given label; the score is the suggestion's share of the two."""
    if suspect.kind != "label" or suspect.suggested == suspect.label or not suspect.score:
        return None
    return suspect.confidence * (1 - suspect.score) / suspect.score


def brief(decision: Decision | None) -> dict | None:
    """A decision, ready for the screen."""
    if decision is None:
        return None
    return {name: getattr(decision, name) for name in ("id", "kind", "after", "state", "by", "at")}


def _number(value: float | None) -> float | None:
    """A float that JSON can carry."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
