"""Answer photos with an exported model; importing this loads neither torch nor fastai.

`load_predictor("export.pkl")` takes the light path (ONNX Runtime, numpy, Pillow) where the `export.onnx` beside it
fits, and fastai otherwise; models.py says what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from winnow.images import BadImage, open_image, sha256_of
from winnow.share.models import (
    ExportError,
    FastaiModel,
    ForeignExport,
    MismatchedExport,
    MissingExport,
    OnnxModel,
    Raw,
    give_back_memory,
)

__all__ = [
    "ExportError",
    "FastaiModel",
    "ForeignExport",
    "Heat",
    "MismatchedExport",
    "MissingExport",
    "OnnxModel",
    "Prediction",
    "Predictor",
    "TargetAnswer",
    "calibrate",
    "give_back_memory",
    "heat_of",
    "load_predictor",
    "seen_box",
]

READERS = 4  # threads that decode photos: Pillow lets others run meanwhile
Source = Path | str | bytes | Image.Image


@dataclass(frozen=True)
class TargetAnswer:
    """The answer to one question: the likeliest class and every class's probability, highest first."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Heat:
    """What decided: `values` (rows, cols) from 0 to 1, over `box` (left, top, width, height as fractions)."""

    values: np.ndarray
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo; with `error` set (a sentence for the person who sent it) the rest is empty."""

    label: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    targets: dict[str, TargetAnswer] = field(default_factory=dict)
    unlike: bool = False
    nearest: tuple[str, ...] = ()
    heat: Heat | None = None


def calibrate(logits: np.ndarray, target: dict) -> np.ndarray:
    """Probabilities (n, k) of one target from its logits (n, k): see the module's formula."""
    z = logits.astype(np.float64) / target["temperature"] + np.log(
        np.asarray(target["prior"], dtype=np.float64)
    )
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def heat_of(cells: np.ndarray, shape: tuple[int, int], index: int) -> np.ndarray:
    """The heat of class `index`, (rows, cols) in 0..1: its logit in each cell above the classes' mean there."""
    raw = cells[:, index] - cells.mean(1)
    span = float(np.ptp(raw)) or 1.0
    return ((raw - raw.min()) / span).reshape(shape)


def seen_box(width: int, height: int, method: str) -> tuple[float, float, float, float]:
    """The part of an upright photo that the model saw, as fractions; beyond 0..1 where it was padded."""
    if method == "squish":
        return (0.0, 0.0, 1.0, 1.0)
    side = min(width, height) if method == "crop" else max(width, height)
    w, h = side / width, side / height
    return ((1 - w) / 2, (1 - h) / 2, w, h)


@dataclass(frozen=True)
class _Opened:
    """A photo made ready for the model and its own (width, height), or the sentence that says why there is none."""

    image: Image.Image | None = None
    size: tuple[int, int] = (0, 0)
    error: str | None = None


class Predictor:
    """A loaded export that answers photos; make one with `load_predictor`."""

    def __init__(self, model: OnnxModel | FastaiModel):
        self.model = model
        self.facts = model.facts
        self.light = isinstance(model, OnnxModel)

    @property
    def labels(self) -> list[str]:
        """The classes of the main question, in the model's order."""
        return list(self.facts["targets"][0]["labels"])

    @property
    def targets(self) -> dict[str, list[str]]:
        """The further questions by name, each with its classes."""
        return {t["name"]: list(t["labels"]) for t in self.facts["targets"][1:]}

    @property
    def digest(self) -> str:
        """SHA-256 of the export.pkl that answers."""
        return self.facts.get("digest", "")

    def predict(
        self, images: Iterable[Source], *, batch_size: int = 32, heatmap: bool = False, tta: int = 0
    ) -> list[Prediction]:
        """One `Prediction` a photo, in order; a photo that can't be read gets its `error`, the others go on.

        `images`: paths, bytes or opened Pillow images, as many as you like: they are read a batch ahead of the model
        and only their answers are kept. `tta`: passes of test-time augmentation (fastai only).
        """
        if tta and self.light:
            raise ExportError("Test-time augmentation needs fastai: use load_predictor(path, light=False).")
        options = {"tta": tta} if tta else {}
        answers: list[Prediction] = []
        for batch in self._read(images, batch_size):
            good = [photo for photo in batch if not photo.error]
            raw = self.model.run([p.image for p in good], cells=heatmap, **options) if good else None
            rows = iter(range(len(good)))
            answers += [
                Prediction(error=p.error) if p.error else self._answer(raw, next(rows), p.size, heatmap)
                for p in batch
            ]
        return answers

    def _read(self, images: Iterable[Source], batch_size: int) -> Iterator[list[_Opened]]:
        """Batches of photos made ready, the next one in other threads while the model looks at this one."""
        if isinstance(images, Sequence) and len(images) == 1:
            yield [self._open(images[0])]
            return
        with ThreadPoolExecutor(READERS) as pool:
            ahead: list[Future] = []
            for batch in _batches(images, batch_size):
                coming = [pool.submit(self._open, source) for source in batch]
                if ahead:
                    yield [f.result() for f in ahead]
                ahead = coming
            if ahead:
                yield [f.result() for f in ahead]

    def _open(self, source: Source) -> _Opened:
        try:
            image = source if isinstance(source, Image.Image) else open_image(source)
            image = image if image.mode == "RGB" else image.convert("RGB")
            return _Opened(self.model.prepare(image), image.size)
        except BadImage as e:
            return _Opened(error=str(e))

    def _answer(self, raw: Raw, row: int, size: tuple[int, int], heatmap: bool) -> Prediction:
        main, *others = self._targets(raw.logits[row : row + 1])
        unlike, nearest = self._likeness(raw, row)
        return Prediction(
            label=main.label,
            probabilities=main.probabilities,
            targets=dict(zip(self.targets, others, strict=True)),
            unlike=unlike,
            nearest=nearest,
            heat=self._heat(raw, row, main.label, size) if heatmap and raw.cells is not None else None,
        )

    def _heat(self, raw: Raw, row: int, label: str, size: tuple[int, int]) -> Heat:
        values = heat_of(raw.cells[row], tuple(self.facts["cells"]), self.labels.index(label))
        return Heat(values, seen_box(*size, self.facts["method"]))

    def _targets(self, logits: np.ndarray) -> list[TargetAnswer]:
        answers, start = [], 0
        for target in self.facts["targets"]:
            stop = start + len(target["labels"])
            p = calibrate(logits[:, start:stop], target)[0]
            order = np.argsort(-p, kind="stable")
            shares = {target["labels"][i]: float(p[i]) for i in order}
            answers.append(TargetAnswer(target["labels"][order[0]], shares))
            start = stop
        return answers

    def _likeness(self, raw: Raw, row: int) -> tuple[bool, tuple[str, ...]]:
        rule = self.facts.get("unlike")
        if raw.likeness is None or not rule:
            return False, ()
        like = raw.likeness[row]
        nearest = tuple(self.labels[i] for i in np.argsort(-like, kind="stable")[:3])
        return bool(like.max() < rule["threshold"]), nearest


def load_predictor(
    path: Path | str = "export.pkl", *, light: bool | None = None, threads: int | None = None
) -> Predictor:
    """The predictor of an export.

    Takes the light path if the `.onnx` beside `path` carries the digest of `path`, and fastai otherwise.
    `light`: True or False insists on one path. `threads`: ONNX Runtime's (default: one a core).
    A pickle can run code: load only exports that you or people you trust have made.
    Raises `MissingExport`, `ForeignExport` or `MismatchedExport`, each with one sentence.
    """
    path = Path(path)
    onnx = path.with_suffix(".onnx")
    if not path.is_file():
        raise MissingExport(_missing(path, onnx))
    if path.suffix == ".onnx":
        return Predictor(OnnxModel(path, threads=threads))
    if light is not False and onnx.is_file():
        model = OnnxModel(onnx, threads=threads)
        if model.facts["digest"] == sha256_of(path):
            return Predictor(model)
        if light or not find_spec("fastai"):
            raise MismatchedExport(
                f"{onnx.name} was not made from this {path.name}: run export_learner(learn) once more, "
                "which writes both."
            )
    if light:
        raise MissingExport(
            f"There is no {onnx}: run export_learner(learn), which writes it beside {path.name}."
        )
    return Predictor(FastaiModel(path))


def _missing(path: Path, onnx: Path) -> str:
    if path.suffix != ".onnx" and onnx.is_file():
        return f"There is no {path}, only {onnx.name}: use load_predictor({str(onnx)!r}), or run train.ipynb again."
    return f"There is no {path}: run train.ipynb, which writes it, or give the path of your own export."


def _batches(images: Iterable[Source], size: int) -> Iterator[list[Source]]:
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch
