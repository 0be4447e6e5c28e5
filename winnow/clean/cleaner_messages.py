"""What the kernel answers to each message of the cleaner's window: a function a message, refusals as sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from winnow.catalog import CatalogError
from winnow.clean.cleaner_desk import NotYours
from winnow.images import BadImage

if TYPE_CHECKING:
    from winnow.catalog import Applied, Catalog
    from winnow.clean.cleaner_desk import Desk
    from winnow.clean.cleaner_pictures import Courier, Pictures

Reply = tuple[dict, list[bytes]]  # JSON and buffers
SAMPLE = 24  # photos in the preview of accept-all
FIELDS = ("id", "kind", "path", "before", "after", "state", "by", "why", "at")


class Cleaner(Protocol):
    """What an answer needs of the widget; nothing may import the widget itself, not even for its type."""

    catalog: Catalog
    desk: Desk
    pictures: Pictures
    courier: Courier
    view: dict

    def list_may_change(self) -> AbstractContextManager[None]:
        """Afterwards the window hears of new progress, and of a new list."""

    def apply(self) -> Applied:
        """Carry out every choice."""


def answer(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    """The replies to one message; a message that isn't known has none."""
    handler = HANDLERS.get(message.get("type", ""))
    if handler is None:
        return
    try:
        yield from handler(cleaner, message)
    except (CatalogError, BadImage) as error:  # the latter: a visitor's photo can't be opened any more
        yield _refused(cleaner, message, str(error))
    except (OSError, sqlite3.Error) as error:  # the disk is full, gone or locked
        yield _refused(cleaner, message, f"Not written ({error}): check the disk, then try again.")


def _refused(cleaner: Cleaner, message: dict, text: str) -> Reply:
    """A sentence, and how the choices of the message stand all the same."""
    return {"type": "refused", "text": text, **_decisions(cleaner, message.get("choices", ()))}, []


def _rows(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    if message["version"] == cleaner.view["version"]:
        rows = cleaner.desk.rows(message["start"], message["stop"])
        yield {"type": "rows", "version": message["version"], "start": message["start"], "rows": rows}, []


def _thumbs(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    cleaner.courier.want(message["paths"])
    yield from ()


def _picture(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    path, size = message["path"], message["size"]
    try:
        data, mime = cleaner.pictures.large(cleaner.catalog.file(path), size)
    except BadImage as fault:
        yield {"type": "pictures", "size": size, "items": [{"path": path, "fault": str(fault)}]}, [b""]
    else:
        yield {"type": "pictures", "size": size, "items": [{"path": path, "mime": mime}]}, [data]


def _detail(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    yield {"type": "detail", **cleaner.desk.detail(message["path"])}, []


def _decide(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    with cleaner.list_may_change():
        _, others = cleaner.desk.decide(message["choices"])
    text = f"{photos(len(others))} left alone: somebody else decided first. Look again." if others else ""
    yield {"type": "decided", "text": text, **_decisions(cleaner, message["choices"])}, []


def _decisions(cleaner: Cleaner, choices: Iterable[dict]) -> dict:
    """The standing choices on these photos, and how many choices are no longer on the way."""
    paths = [choice["path"] for choice in choices]
    return {"decisions": {path: cleaner.desk.decision(path) for path in paths}, "saved": len(paths)}


def _undo(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    try:
        with cleaner.list_may_change():
            undone = cleaner.desk.undo(anybody=message.get("anybody", False))
    except NotYours as error:
        yield {"type": "undo-asks", "text": f"{error} Press U again to take it back."}, []
        return
    text = f"Took back: {_choice_words(undone)}." if undone else "Nothing to take back."
    position = cleaner.desk.position(undone[0].path) if undone else None
    choices = [{"path": decision.path} for decision in undone]
    yield (
        {"type": "undone", "text": text, "position": position, **_decisions(cleaner, choices), "saved": 0},
        [],
    )


def _choice_words(decisions: list) -> str:
    if len(decisions) > 1:
        return f"{len(decisions):,} choices"
    one = decisions[0]
    words = {"keep": "kept", "remove": "removed", "relabel": f"now {one.after}"}.get(one.kind, one.kind)
    return f"{one.path.rsplit('/', 1)[-1]} {words}"


def _apply(cleaner: Cleaner, _: dict) -> Iterator[Reply]:
    applied = cleaner.apply()
    what = f"{photos(len(applied.moved))} relabelled, {len(applied.removed):,} removed"
    yield {"type": "applied", "text": f"Applied: {what}. U takes it back.", "moved": len(applied.moved)}, []


def _history(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    newest = cleaner.desk.book.history()[::-1]
    rows = [{name: getattr(d, name) for name in FIELDS} for d in newest[: message.get("limit", 500)]]
    yield {"type": "history", "rows": rows, "total": len(newest)}, []


def _above(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    choices, desk = cleaner.desk.above(message["threshold"]), cleaner.desk
    sample = [choice | {"from": desk.label_of(choice["path"])} for choice in choices[:SAMPLE]]
    reply = {"type": "above", "threshold": message["threshold"], "count": len(choices), "sample": sample}
    yield reply | ({} if choices else {"surest": desk.surest()}), []


def _accept(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    choices = cleaner.desk.above(message["threshold"])
    why = f"accepted with all suggestions of at least {message['threshold']:.0%} confidence"
    with cleaner.list_may_change():
        done, _ = cleaner.desk.decide(choices, why=why)
    reply = {"type": "decided", "text": f"Accepted {len(done):,} suggestions. U takes all of them back."}
    yield reply | _decisions(cleaner, choices) | {"saved": 0}, []


def _next(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    yield {"type": "go", "position": cleaner.desk.next_open(message["position"], message.get("step", 1))}, []


def _find(cleaner: Cleaner, message: dict) -> Iterator[Reply]:
    position = cleaner.desk.position(message["path"])
    yield {"type": "go", "position": cleaner.view["first"] if position is None else position}, []


def _poll(cleaner: Cleaner, _: dict) -> Iterator[Reply]:
    with cleaner.list_may_change():
        changed = cleaner.desk.refresh()
    if changed:
        reply = {"type": "decided", "text": f"Somebody else decided on {photos(len(changed))}."}
        yield reply | _decisions(cleaner, [{"path": path} for path in changed]) | {"saved": 0}, []


HANDLERS: dict[str, Callable[[Any, dict], Iterator[Reply]]] = {
    "rows": _rows,
    "thumbs": _thumbs,
    "picture": _picture,
    "detail": _detail,
    "decide": _decide,
    "undo": _undo,
    "apply": _apply,
    "history": _history,
    "above": _above,
    "accept": _accept,
    "next": _next,
    "find": _find,
    "poll": _poll,
}


def photos(n: int) -> str:
    """`n` photos in words."""
    return f"{n:,} photo{'' if n == 1 else 's'}"
