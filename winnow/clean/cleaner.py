"""`ImageClassifierCleaner`: look at the most suspect photos first, and decide without fear.

The window is `static/cleaner*.js`, what it does is `Desk`; this module holds the two together and keeps fastai's
interface. Every choice is in the catalog's journal before the next message is read.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from winnow.catalog import Applied, Catalog, CatalogError, NoSuchPhoto
from winnow.clean import cleaner_messages
from winnow.clean.cleaner_desk import Desk
from winnow.clean.cleaner_pictures import Courier, Parcel, Pictures
from winnow.clean.cleaner_ranking import Estimator, estimate_words, rank_in_background
from winnow.images import BadImage

if TYPE_CHECKING:
    from winnow.clean.suspects import Suspect

STATIC = Path(__file__).parent / "static"
PARTS = ("_dom", "_store", "_list", "_card", "_dialogs", "_bar", "_marks", "_keys", "")
SCRIPTS = [f"cleaner{part}.js" for part in PARTS]


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
    counts = t.Dict().tag(sync=True)  # photos of each class
    splits = t.List(t.Unicode()).tag(sync=True)
    kinds = t.List(t.Unicode()).tag(sync=True)
    targets = t.List(t.Unicode()).tag(sync=True)  # what can be cleaned beside the class folders
    target = t.Unicode("").tag(sync=True)  # target menu; "" is the class folders
    label = t.Unicode("").tag(sync=True)  # class menu; "" is every class
    split = t.Unicode("").tag(sync=True)  # split menu; "" is every side
    kind = t.Unicode("").tag(sync=True)  # what is suspected; "" is anything
    mode = t.Enum(("queue", "grid"), "queue").tag(sync=True)
    view = t.Dict({"version": 0, "total": 0}).tag(sync=True)  # which list the positions in messages mean
    progress = t.Dict().tag(sync=True)
    estimate = t.Dict().tag(sync=True)  # about how many labels are wrong, and whether to go on
    busy = t.Unicode("").tag(sync=True)  # what goes on in the background, in words
    sorry = t.Unicode("").tag(sync=True)  # why there is nothing to show

    def __init__(
        self,
        learn: Any,  # a fastai `Learner` (its `catalog`, or the folder of its loaders), a `Catalog`, or a folder
        *,
        suspects: Iterable[Suspect]
        | None = None,  # from `find_suspects`; found in the background if not given
        target: str = "",  # clean this further target first, instead of the class folders
        by: str | None = None,  # who decides, for the journal; the login name by default
        max_n: int | None = None,  # how many photos `fns` holds, for code written for fastai; all by default
        **kwargs: Any,
    ):
        self.catalog = find_catalog(learn)
        self.learn = learn if hasattr(learn, "dls") else None
        self.max_n, self.by = max_n, by
        self.pictures = Pictures(self.catalog.cache)
        self._lock = threading.RLock()  # the kernel's thread and background threads share the desk
        self._found: dict[str, Any] = {} if suspects is None else {target: suspects}
        self.desk = Desk(self.catalog, self._found.get(target, ()), target=target or None, by=by)
        self.courier = Courier(self._fetch_thumb, self._deliver)
        self._estimator = Estimator(self._work_out_estimate, self._show_estimate)
        super().__init__(target=target, targets=self.catalog.target_names(), **kwargs)
        self._show_list()
        self.observe(self._choose, ["label", "split", "kind"])
        self.observe(self._change_target, "target")
        self.on_msg(self._hear)
        self._rank()

    # -- fastai's interface ----------------------------------------------------------------------

    @property
    def fns(self) -> list[Path]:
        """The files in the list that the menus leave, in its order."""
        return [self.catalog.file(path) for path in self._listed()]

    def values(self) -> list[str]:
        """For each of `fns`: "<Keep>", "<Delete>" or the new class."""
        return [_fastai_value(self.desk.pending.get(path)) for path in self._listed()]

    def delete(self) -> list[int]:
        """Indices into `fns` of the photos to remove."""
        return [i for i, value in enumerate(self.values()) if value == "<Delete>"]

    def change(self) -> list[tuple[int, str]]:
        """(index into `fns`, new class) of the photos to relabel."""
        return [(i, value) for i, value in enumerate(self.values()) if value not in ("<Keep>", "<Delete>")]

    def _listed(self) -> list[str]:
        with self._lock:
            self.desk.refresh()
            return [self.desk.queue.paths[row] for row in self.desk.shown[: self.max_n]]

    def apply(self) -> Applied:
        """Carry out every choice: move relabelled files, put removed ones under `.removed/`."""
        with self._lock, self.list_may_change():
            return self.desk.apply()

    # -- the window --------------------------------------------------------------------------------

    def _hear(self, _: Any, message: dict, __: list) -> None:
        for reply, buffers in self.answer(message):
            self.send(reply, buffers)

    def answer(self, message: dict) -> Iterator[cleaner_messages.Reply]:
        """What the kernel says to a message of the window."""
        with self._lock:
            yield from cleaner_messages.answer(self, message)

    @contextmanager
    def list_may_change(self) -> Iterator[None]:
        """Afterwards the window hears of new progress, and of a new list if files moved."""
        before = self.desk.queue
        try:
            yield
        finally:
            if self.desk.queue is not before:
                self._show_list(stay=True)
            self.progress = self.desk.progress()
            self._estimator.poke()

    def _show_list(self, *, stay: bool = False) -> None:
        """Tell the window that positions mean something else now; `stay` keeps the photo that one looks at."""
        queue = self.desk.queue
        self.classes, self.kinds, self.counts = self.desk.classes, queue.kinds, queue.counts()
        self.splits = [side for side in ("train", "valid", "test", "none") if side in self.desk.sides]
        self.sorry = "" if len(queue) else _nothing(self.catalog)
        version, first = self.view["version"] + 1, self.desk.next_open(-1)
        self.view = {"version": version, "total": len(self.desk.shown), "first": max(first, 0), "stay": stay}
        self.progress = self.desk.progress()

    def _choose(self, _: Any) -> None:
        with self._lock:
            self.desk.choose(label=self.label, split=self.split, kind=self.kind)
            self._show_list()

    def _change_target(self, _: Any) -> None:
        """Another book: its own labels, choices and ranking."""
        with self._lock:
            self.desk.close()
            found = self._found.get(self.target, ())
            self.desk = Desk(self.catalog, found, target=self.target or None, by=self.by)
            with self.hold_trait_notifications():
                self.label = self.split = self.kind = ""
            self.estimate = {}
            self._show_list()
        self._rank()

    # -- pictures ----------------------------------------------------------------------------------

    def _fetch_thumb(self, path: str) -> bytes:
        file = self.catalog.file(path)
        try:
            return self.pictures.thumb(file, self.catalog.photo(path).sha256)
        except NoSuchPhoto:  # it can't be read, or has moved since
            return self.pictures.thumb(file)

    def _deliver(self, parcel: Parcel) -> None:
        items = [_picture_item(path, picture) for path, picture in parcel]
        buffers = [b"" if isinstance(picture, BadImage) else picture for _, picture in parcel]
        self.send({"type": "pictures", "size": "thumb", "items": items}, buffers)

    # -- ranking -----------------------------------------------------------------------------------

    def _rank(self) -> None:
        """Rank the current target, unless that was done or given."""
        target = self.target
        if target in self._found:
            self._estimator.poke()
        elif len(self.desk.queue):
            rank_in_background(
                self.catalog,
                target or None,
                learn=self.learn,
                done=lambda found: self._take(target, found),
                say=self._say_busy,
            )

    def _take(self, target: str, found: Any) -> None:
        with self._lock:
            self._found[target] = found
            if target == self.target:
                self.desk.load(found)
                self._show_list(stay=bool(self.desk.mine))
        self._estimator.poke()

    def _say_busy(self, text: str) -> None:
        self.busy = text

    def _work_out_estimate(self) -> dict:
        """From the scores and the choices so far."""
        found = self._found.get(self.target)
        if not hasattr(found, "estimate") or not len(found):
            return {}
        return estimate_words(found.estimate())

    def _show_estimate(self, words: dict) -> None:
        self.estimate = words

    def close(self) -> None:
        """Take the widget off the page and end its threads; every choice is in the catalog already."""
        self.courier.close()
        self._estimator.close()
        self.desk.close()
        super().close()


def find_catalog(source: Any) -> Catalog:
    """The catalog of a learner, a catalog itself, or the one of a folder."""
    if isinstance(source, Catalog):
        return source
    if isinstance(source, str | Path):
        return Catalog(source)
    if (catalog := getattr(source, "catalog", None)) is not None:
        return catalog
    dls = getattr(source, "dls", None)
    if dls is None:
        raise CatalogError(
            "The cleaner opens a learner, a catalog or a folder of class folders: give it one of these."
        )
    return getattr(dls, "catalog", None) or Catalog(dls.path)


def _nothing(catalog: Catalog) -> str:
    return f"There is no photo in {catalog.folder.name} yet: put photos into class folders there, then open it again."


def _fastai_value(decision: Any) -> str:
    if decision is None or decision.kind == "keep":
        return "<Keep>"
    return "<Delete>" if decision.kind == "remove" else decision.after


def _picture_item(path: str, picture: bytes | BadImage) -> dict:
    if isinstance(picture, BadImage):
        return {"path": path, "fault": str(picture)}
    return {"path": path, "mime": "image/jpeg"}
