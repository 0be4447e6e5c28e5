"""`ImageClassifierCleaner`: look at the most suspect photos first, and decide without fear.

The window is `static/cleaner*.js`; what it does is `Desk`; this module carries messages between the two and keeps
fastai's interface. Every choice is in the catalog's journal before the next message is read.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from winnow.catalog import Catalog, CatalogError
from winnow.clean.cleaner_desk import Desk
from winnow.clean.cleaner_pictures import Courier, Parcel, Pictures
from winnow.images import BadImage

if TYPE_CHECKING:
    from winnow.clean.suspects import Suspect

STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    "cleaner_dom.js",
    "cleaner_store.js",
    "cleaner_list.js",
    "cleaner_card.js",
    "cleaner_dialogs.js",
    "cleaner.js",
)
Reply = tuple[dict, list[bytes]]


def join_scripts(names: Iterable[str], folder: Path = STATIC) -> str:
    """One ES module out of several: a widget is sent to the browser as a single text, and needs no bundler."""
    text = "\n".join((folder / name).read_text("utf-8") for name in names)
    text = re.sub(r"^import \{[^}]*\} from \"\./.*?\";\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE)


class ImageClassifierCleaner(anywidget.AnyWidget):
    """Photos ranked by how likely their label is wrong, to relabel, remove or keep; with fastai's interface.

    `cleaner.fns[i]` are the files that the menus leave, `cleaner.delete()` and `cleaner.change()` the choices among
    them. Unlike fastai's, choices are kept when a menu changes, the tab closes or the kernel restarts, and
    `cleaner.apply()` (or the button) carries them out; nothing is deleted for good.
    """

    _esm = join_scripts(SCRIPTS)
    _css = STATIC / "cleaner.css"

    classes = t.List(t.Unicode()).tag(sync=True)
    splits = t.List(t.Unicode()).tag(sync=True)
    kinds = t.List(t.Unicode()).tag(sync=True)
    label = t.Unicode("").tag(sync=True)  # class menu; "" is every class
    split = t.Unicode("").tag(sync=True)  # split menu; "" is every side
    kind = t.Unicode("").tag(sync=True)  # what is suspected; "" is anything
    mode = t.Enum(("queue", "grid"), "queue").tag(sync=True)
    view = t.Dict({"version": 0, "total": 0}).tag(sync=True)  # which list the positions in messages mean
    progress = t.Dict().tag(sync=True)
    estimate = t.Unicode("").tag(sync=True)  # about how many labels are wrong, in words
    busy = t.Unicode("").tag(sync=True)  # what goes on in the background, in words
    sorry = t.Unicode("").tag(sync=True)  # why there is nothing to show

    def __init__(
        self,
        learn: Any,  # a fastai `Learner` (its `catalog`, or the folder of its loaders), a `Catalog`, or a folder
        *,
        suspects: Iterable[Suspect]
        | None = None,  # from `find_suspects`; found in the background if not given
        by: str | None = None,  # who decides, for the journal; the login name by default
        max_n: int | None = None,  # how many photos `fns` holds, for code written for fastai; all by default
        **kwargs: Any,
    ):
        self.catalog = find_catalog(learn)
        self.learn = learn if hasattr(learn, "dls") else None
        self.max_n = max_n
        self._lock = threading.RLock()  # kernel thread and background ranking share the desk
        self.desk = Desk(self.catalog, suspects or (), by=by)
        self._pictures = Pictures(self.catalog.cache)
        self._courier = Courier(self._fetch_thumb, self._deliver)
        super().__init__(classes=self.catalog.classes, **kwargs)
        self._refresh_menus()
        self._show_list()
        self.observe(self._menus_changed, ["label", "split", "kind"])
        self.on_msg(self._hear)
        if suspects is None:
            self._rank_in_background()
        else:
            self._say_estimate(suspects)

    # -- fastai's interface ----------------------------------------------------------------------

    @property
    def fns(self) -> list[Path]:
        """The files in the list that the menus leave, in its order."""
        with self._lock:
            paths = self.desk.queue.paths
            return [self.catalog.file(paths[row]) for row in self.desk.shown[: self.max_n]]

    def values(self) -> list[str]:
        """For each of `fns`: "<Keep>", "<Delete>" or the new class."""
        with self._lock:
            paths = [self.desk.queue.paths[row] for row in self.desk.shown[: self.max_n]]
            return [_fastai_value(self.desk.pending.get(path)) for path in paths]

    def delete(self) -> list[int]:
        """Indices into `fns` of the photos to remove."""
        return [i for i, value in enumerate(self.values()) if value == "<Delete>"]

    def change(self) -> list[tuple[int, str]]:
        """(index into `fns`, new class) of the photos to relabel."""
        return [(i, value) for i, value in enumerate(self.values()) if value not in ("<Keep>", "<Delete>")]

    def apply(self):
        """Carry out every choice: move relabelled files, put removed ones under `.removed/`."""
        with self._lock:
            applied = self.desk.apply()
        self._show_list()
        return applied

    # -- messages ----------------------------------------------------------------------------------

    def _hear(self, _: Any, message: dict, __: list) -> None:
        for reply, buffers in self.answer(message):
            self.send(reply, buffers)

    def answer(self, message: dict) -> Iterator[Reply]:
        """What the kernel says to a message of the window; a refusal is a sentence."""
        handler = getattr(self, f"_on_{message.get('type', '')}", None)
        if handler is None:
            return
        try:
            with self._lock:
                yield from handler(message)
        except CatalogError as error:
            yield {"type": "refused", "text": str(error), **self._decisions(message)}, []

    def _on_rows(self, message: dict) -> Iterator[Reply]:
        if message["version"] == self.view["version"]:
            rows = self.desk.rows(message["start"], message["stop"])
            yield {"type": "rows", "version": message["version"], "start": message["start"], "rows": rows}, []

    def _on_thumbs(self, message: dict) -> Iterator[Reply]:
        self._courier.want(message["paths"])
        yield from ()

    def _on_picture(self, message: dict) -> Iterator[Reply]:
        path, size = message["path"], message["size"]
        try:
            data, mime = self._pictures.large(self.catalog.file(path), size)
        except BadImage as fault:
            yield {"type": "pictures", "size": size, "items": [{"path": path, "fault": str(fault)}]}, [b""]
        else:
            yield {"type": "pictures", "size": size, "items": [{"path": path, "mime": mime}]}, [data]

    def _on_detail(self, message: dict) -> Iterator[Reply]:
        yield {"type": "detail", **self.desk.detail(message["path"])}, []

    def _on_decide(self, message: dict) -> Iterator[Reply]:
        _, others = self.desk.decide(message["choices"])
        self.progress = self.desk.progress()
        text = (
            f"{_photos(len(others))} left alone: somebody else decided first. Look again." if others else ""
        )
        yield {"type": "decided", "text": text, **self._decisions(message)}, []

    def _decisions(self, message: dict) -> dict:
        """The standing choices on the photos of a message, and how many of its choices are no longer on the way."""
        paths = [choice["path"] for choice in message.get("choices", ())]
        standing = {path: self.desk.row(self.desk.queue.place[path])["decision"] for path in paths}
        return {"decisions": standing, "saved": len(paths)}

    def _on_undo(self, _: dict) -> Iterator[Reply]:
        undone = self.desk.undo()
        self._show_list()
        text = f"Took back {_photos(len(undone))}." if undone else "Nothing to take back."
        yield {"type": "undone", "text": text, "paths": [decision.path for decision in undone]}, []

    def _on_apply(self, _: dict) -> Iterator[Reply]:
        applied = self.apply()
        text = f"{_photos(len(applied.moved))} moved to another class, {len(applied.removed)} removed."
        yield (
            {"type": "applied", "text": text, "moved": len(applied.moved), "removed": len(applied.removed)},
            [],
        )

    def _on_history(self, message: dict) -> Iterator[Reply]:
        newest = self.catalog.history()[::-1]
        rows = [_history_row(decision) for decision in newest[: message.get("limit", 500)]]
        yield {"type": "history", "rows": rows, "total": len(newest)}, []

    def _on_above(self, message: dict) -> Iterator[Reply]:
        choices = self.desk.above(message["threshold"])
        sample = [choice | {"from": self._label_of(choice["path"])} for choice in choices[:24]]
        yield (
            {"type": "above", "threshold": message["threshold"], "count": len(choices), "sample": sample},
            [],
        )

    def _on_accept(self, message: dict) -> Iterator[Reply]:
        choices = self.desk.above(message["threshold"])
        why = f"accepted with all suggestions of at least {message['threshold']:.0%} confidence"
        done, _ = self.desk.decide(choices, why=why)
        self.progress = self.desk.progress()
        reply = {"type": "decided", "text": f"Accepted {len(done)} suggestions.", "saved": 0}
        yield reply | self._decisions({"choices": choices}) | {"saved": 0}, []

    def _on_poll(self, _: dict) -> Iterator[Reply]:
        if changed := self.desk.refresh():
            self.progress = self.desk.progress()
            yield (
                {
                    "type": "decided",
                    "text": "",
                    **self._decisions({"choices": [{"path": p} for p in changed]}),
                    "saved": 0,
                },
                [],
            )

    # -- pictures ----------------------------------------------------------------------------------

    def _fetch_thumb(self, path: str) -> bytes:
        place = self.desk.queue.place.get(path)
        sha = None if place is None else self.desk.queue.shas[place]
        return self._pictures.thumb(self.catalog.file(path), sha)

    def _deliver(self, parcel: Parcel) -> None:
        items = [_picture_item(path, picture) for path, picture in parcel]
        buffers = [b"" if isinstance(picture, BadImage) else picture for _, picture in parcel]
        self.send({"type": "pictures", "size": "thumb", "items": items}, buffers)

    # -- the list ----------------------------------------------------------------------------------

    def _menus_changed(self, _: Any) -> None:
        with self._lock:
            self.desk.choose(label=self.label, split=self.split, kind=self.kind)
        self._show_list()

    def _refresh_menus(self) -> None:
        queue = self.desk.queue
        self.classes = self.catalog.classes
        self.splits = [side for side in ("train", "valid", "test", "none") if side in set(queue.splits)]
        self.kinds = queue.kinds

    def _show_list(self) -> None:
        """Tell the window that positions mean something else now."""
        self.sorry = "" if len(self.desk.queue) else _nothing(self.catalog)
        self.view = {"version": self.view["version"] + 1, "total": len(self.desk.shown)}
        self.progress = self.desk.progress()

    def _label_of(self, path: str) -> str:
        return self.desk.queue.labels[self.desk.queue.place[path]]

    # -- ranking -----------------------------------------------------------------------------------

    def _rank_in_background(self) -> None:
        self.busy = "Looking for wrong labels…"
        threading.Thread(target=self._rank, daemon=True, name="winnow-ranking").start()

    def _rank(self) -> None:
        from winnow.clean.suspects import find_suspects

        try:
            suspects = find_suspects(self.catalog)
            with self._lock:
                self.desk.load(suspects)
            self._refresh_menus()
            self._show_list()
            self._say_estimate(suspects)
            self.busy = ""
        except Exception as error:  # a thread has nobody above it to catch this; the list stays usable
            self.busy = f"The photos could not be ranked: {error}"

    def _say_estimate(self, suspects: Any) -> None:
        if hasattr(suspects, "estimate") and len(suspects):
            self.estimate = estimate_words(suspects.estimate())

    def close(self) -> None:
        """Take the widget off the page and end its threads; every choice is in the catalog already."""
        self._courier.close()
        super().close()


def find_catalog(source: Any) -> Catalog:
    """The catalog of a learner, a catalog itself, or the one of a folder."""
    if isinstance(source, Catalog):
        return source
    if isinstance(source, str | Path):
        return Catalog(source)
    return getattr(source, "catalog", None) or Catalog(source.dls.path)


def estimate_words(estimate: Any) -> str:
    """About how many labels are wrong, and how long to go on."""
    wrong = f"About {estimate.wrong:,.0f} labels are wrong ({estimate.low:,.0f} to {estimate.high:,.0f})"
    return f"{wrong}, {estimate.found:,} found. {estimate.advice}"


def _nothing(catalog: Catalog) -> str:
    return f"There is no photo in {catalog.folder.name} yet: put photos into class folders there, then open it again."


def _fastai_value(decision: Any) -> str:
    if decision is None or decision.kind == "keep":
        return "<Keep>"
    return "<Delete>" if decision.kind == "remove" else decision.after


def _history_row(decision: Any) -> dict:
    names = ("id", "kind", "path", "before", "after", "state", "by", "why", "at")
    return {name: getattr(decision, name) for name in names}


def _picture_item(path: str, picture: bytes | BadImage) -> dict:
    if isinstance(picture, BadImage):
        return {"path": path, "fault": str(picture)}
    return {"path": path, "mime": "image/jpeg"}


def _photos(n: int) -> str:
    return f"{n:,} photo{'' if n == 1 else 's'}"
