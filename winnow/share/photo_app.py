"""The photo app as a widget: the front end in static/, answered by a predictor in this kernel."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import anywidget
import traitlets

from winnow.images import BadImage, open_image, read_header, thumbnail
from winnow.share.feedback import BoxFull, FeedbackBox
from winnow.share.prediction import Prediction, Predictor, give_back_memory, load_predictor
from winnow.share.spare import Spare
from winnow.share.uploads import BadUpload, Uploads

STATIC = Path(__file__).parent / "static"
MODULES = (
    "engine",
    "dom",
    "chart",
    "heat",
    "camera",
    "results",
    "correction",
    "card",
    "pace",
    "photo_app",
    "upright",
    "shrink",
    "spare",
    "widget",
)
MAX_SIDE = 1024  # larger photos are shrunk to this before the model's own resize, in the browser or here
MAX_PIXELS = (
    64_000_000  # of a photo that the browser could not shrink: decoding more would take the memory of others
)
PRIVACY = "Photos are answered in this app's memory and forgotten at once."
PRIVACY_FEEDBACK = (
    PRIVACY + " Only one that you report as wrong, and agree to give, is kept for its owner to review."
)

LARGE = 2**20  # bytes: decoding a photo of this size takes memory that the next visitor could use

log = logging.getLogger(__name__)


def join_modules(names: Iterable[str] = MODULES, *, folder: Path = STATIC) -> str:
    """The modules as one ES module: import lines dropped, `export` kept for the default export alone."""
    text = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in names)
    text = re.sub(r"^import .* from \"\./[\w.]+\";$\n?", "", text, flags=re.M)
    return re.sub(r"^export (?!default)", "", text, flags=re.M)


def photo_app(
    predictor: Predictor | Path | str = "export.pkl",
    *,
    feedback: FeedbackBox | Path | str | bool = False,
    examples: Iterable[Path | str] = (),
    title: str = "What is on this photo?",
    page: Path | str | None = None,
) -> PhotoApp:
    """The app for `predictor` (or for the export at that path).

    `feedback`: a folder or `FeedbackBox` that keeps what visitors correct and agree to give; True means "feedback".
    `examples`: photos that a visitor may try; those inside the export are used if there are none.
    `page`: a folder that `winnow page` wrote for the same export: its model goes to the visitor's browser in the
    background (10 MB) and answers there when the kernel is gone. Raises `NoPage` where it is another's.
    """
    if not isinstance(predictor, Predictor):
        predictor = load_predictor(predictor)
    spare = Spare(page, digest=predictor.digest) if page else None
    return PhotoApp(predictor, _box(feedback), list(examples), title, spare)


def _box(feedback: FeedbackBox | Path | str | bool) -> FeedbackBox | None:
    if isinstance(feedback, FeedbackBox):
        return feedback  # even an empty one, which is false as a list is
    return FeedbackBox("feedback" if feedback is True else feedback) if feedback else None


class PhotoApp(anywidget.AnyWidget):
    """Takes photos in parts, answers each by itself, keeps none. Make one with `photo_app`."""

    _esm = join_modules()
    _css = STATIC / "photo_app.css"
    info = traitlets.Dict().tag(sync=True)

    def __init__(self, predictor: Predictor, box: FeedbackBox | None, examples: list, title: str, spare=None):
        self.predictor, self.box, self.uploads, self.spare = predictor, box, Uploads(), spare
        info = describe(predictor, feedback=box is not None, examples=examples, title=title)
        super().__init__(info={**info, "spare": spare.names if spare else None})
        self.on_msg(self._receive)

    def _receive(self, _widget, message: dict, buffers: list) -> None:
        """One message of the browser; whatever happens, the visitor gets a sentence and the app lives."""
        key = str(message.get("id", ""))[:64]
        try:
            self._take_part(key, message, bytes(buffers[0]) if buffers else b"")
        except (BadImage, BadUpload, BoxFull) as e:
            self._reply(key, message, error=re.sub("^This image", "This file", str(e)))
        except Exception:
            log.exception("A photo could not be answered")
            self._reply(
                key, message, error="Something went wrong with this photo: try it once more, or another one."
            )

    def _take_part(self, key: str, message: dict, part: bytes) -> None:
        if message.get("kind") == "drop":
            return self.uploads.drop(key)
        if message.get("kind") == "spare":
            return self._hand_out(str(message["name"]), int(message["offset"]))
        index, count = int(message["index"]), int(message["count"])
        photo = self.uploads.add(key, index, count, part)
        if photo is None:
            return self.send({"kind": "got", "id": key, "index": index})
        if message.get("kind") == "correct":
            return self._keep(key, message, photo)
        self._answer(key, message, photo)

    def _hand_out(self, name: str, offset: int) -> None:
        if self.spare:
            part, size = self.spare.part(name, max(offset, 0))
            self.send({"kind": "spare", "name": name, "offset": offset, "size": size}, buffers=[part])

    def _answer(self, key: str, message: dict, photo: bytes) -> None:
        image = open_upload(photo)
        answer = self.predictor.predict([image], heatmap=True)[0]
        preview = [thumbnail(image, 640)] if message.get("preview") else []
        self.send({"kind": "answer", "id": key, "answer": as_json(key, answer)}, buffers=preview)
        if len(photo) > LARGE:
            give_back_memory()

    def _keep(self, key: str, message: dict, photo: bytes) -> None:
        if self.box is None:
            raise BadUpload("This app keeps no corrections.")
        if message.get("label") not in self.predictor.labels:
            raise BadUpload("That is none of this app's answers: choose one of the list.")
        answer = self.predictor.predict([open_upload(photo)])[0]
        kept = self.box.add(photo, label=message["label"], answer=answer, digest=self.predictor.digest)
        self.send({"kind": "kept", "id": key, "kept": True, "message": kept})

    def _reply(self, key: str, message: dict, *, error: str) -> None:
        self.uploads.drop(key)
        if message.get("kind") == "correct":
            self.send({"kind": "kept", "id": key, "kept": False, "message": error})
        else:
            self.send({"kind": "answer", "id": key, "answer": as_json(key, Prediction(error=error))})


def open_upload(photo: bytes):
    """The photo, upright and at most `MAX_SIDE` pixels a side; raises `BadImage` before anything large is decoded."""
    width, height = read_header(photo)
    if width * height > MAX_PIXELS:
        raise BadImage(
            f"This photo has {width * height / 1e6:.0f} megapixels, more than this app can open: shrink it."
        )
    return open_image(photo, max_side=MAX_SIDE)


def describe(predictor: Predictor, *, feedback: bool, examples: list, title: str) -> dict:
    """What the app may say before the first photo: engine.js's `Info`, and the title."""
    facts = predictor.facts
    return {
        "title": title,
        "labels": predictor.labels,
        "targets": predictor.targets,
        "knows": facts.get("knows", ""),
        "privacy": PRIVACY_FEEDBACK if feedback else PRIVACY,
        "digest": predictor.digest[:12],
        "version": facts.get("versions", {}).get("winnow", ""),
        "feedback": feedback,
        "heatmap": bool(facts.get("cells")) and predictor.light,
        "examples": [_example(e) for e in examples] or facts.get("examples", []),
        "maxSide": MAX_SIDE,
    }


def _example(path: Path | str) -> dict:
    jpeg = base64.b64encode(thumbnail(Path(path), 512)).decode()
    return {"name": Path(path).name, "url": f"data:image/jpeg;base64,{jpeg}"}


def as_json(key: str, answer: Prediction) -> dict:
    """engine.js's `Answer`."""
    heat = answer.heat
    return {
        "id": key,
        "error": answer.error,
        "label": answer.label,
        "probabilities": _shares(answer.probabilities),
        "targets": {
            name: {"label": t.label, "probabilities": _shares(t.probabilities)}
            for name, t in answer.targets.items()
        },
        "unlike": answer.unlike,
        "nearest": list(answer.nearest),
        "heatmap": heat
        and {
            "rows": heat.values.shape[0],
            "cols": heat.values.shape[1],
            "values": [round(float(v), 3) for v in heat.values.ravel()],
            "box": list(heat.box),
        },
        "preview": None,
    }


def _shares(probabilities: dict[str, float]) -> list[dict]:
    return [{"label": label, "p": p} for label, p in probabilities.items()]
