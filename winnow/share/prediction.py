"""Answer photos with an exported model: ONNX Runtime where `export.onnx` fits, fastai otherwise.

The light path needs ONNX Runtime, numpy and Pillow only. `export.onnx` holds (format 1, written by
`winnow.share.export`):

- input ``pixels``: uint8 (n, size, size, 3), RGB, upright, resized as the metadata says. Scaling and
  normalisation are inside the graph, so preprocessing is nothing but the resize.
- output ``logits``: float32 (n, K), every target's classes one after another, before softmax and calibration.
- output ``cells`` (n, rows*cols, K1): the main target's logits from each place of the last feature map alone.
- output ``likeness`` (n, K1): how near the photo lies to each class's training photos, higher is nearer.
- metadata ``winnow``: JSON with ``digest`` (SHA-256 of the export.pkl), ``size``, ``method``, ``targets``
  (``name, labels, temperature, prior`` each, the main one first), ``cells`` [rows, cols], ``unlike``
  {threshold}: below it for every class, a photo is none of these), ``examples``, ``trained``, ``knows``, ``versions``.

Probabilities of a target are softmax(logits / temperature + log(prior)), outside the graph.
"""

from __future__ import annotations

import ctypes
import json
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from winnow.images import BadImage, open_image, resize, sha256_of

FORMAT = 1
KEY = "winnow"
Source = Path | str | bytes | Image.Image


class ExportError(Exception):
    """The export can't be used as it is; the message says what to do."""


class MissingExport(ExportError):
    """There is no export where one was expected."""


class ForeignExport(ExportError):
    """The file is not something that `export_learner` or fastai's `learn.export` wrote."""


class MismatchedExport(ExportError):
    """`export.onnx` was made from another `export.pkl`, and fastai isn't there to read the pickle."""


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


@dataclass(frozen=True)
class Raw:
    """What a model gives for n photos: logits (n, K), and cells and likeness where it has them."""

    logits: np.ndarray
    cells: np.ndarray | None = None
    likeness: np.ndarray | None = None
    vectors: np.ndarray | None = None  # only while an export is made


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


class OnnxModel:
    """The light path: one ONNX Runtime session and the facts in its metadata."""

    def __init__(self, path: Path, *, threads: int | None = None):
        self.session = _open_session(path, threads)
        give_back_memory()  # reading and optimising the graph took twice what running it needs
        self.facts = _facts_of(self.session, path)
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, images: Sequence[Image.Image], *, cells: bool = False) -> Raw:
        """Logits and the rest for upright RGB `images`."""
        facts = self.facts
        pixels = np.stack([np.asarray(resize(i, facts["size"], facts["method"])) for i in images])
        names = [n for n in self.outputs if n != "cells" or cells]
        return Raw(**dict(zip(names, self.session.run(names, {"pixels": pixels}), strict=True)))


class FastaiModel:
    """The other path: any learner that fastai's `load_learner` reads, imported only when it is needed."""

    def __init__(self, path: Path):
        self.learn = _load_learner(path)
        self.facts = getattr(self.learn, "winnow", None) or _facts_of_learner(self.learn)
        self.facts = {**self.facts, "digest": sha256_of(path)}

    def run(self, images: Sequence[Image.Image], *, cells: bool = False, tta: int = 0) -> Raw:
        """Logits for upright RGB `images`; `tta`: also the mean of that many augmented passes."""
        from winnow.share.fastai_path import logits_of

        return Raw(logits=logits_of(self.learn, images, self.facts, tta=tta))


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

        `images`: paths, bytes or opened Pillow images. `tta`: passes of test-time augmentation (fastai only).
        """
        if tta and self.light:
            raise ExportError("Test-time augmentation needs fastai: use load_predictor(path, light=False).")
        answers: list[Prediction] = []
        for batch in _batches(images, batch_size):
            answers += self._predict_batch(batch, heatmap, tta)
        return answers

    def _predict_batch(self, batch: list[Source], heatmap: bool, tta: int) -> list[Prediction]:
        opened = [_try_open(source) for source in batch]
        good = [i for i in opened if isinstance(i, Image.Image)]
        options = {"tta": tta} if tta else {}
        raw = self.model.run(good, cells=heatmap, **options) if good else None
        rows = iter(range(len(good)))
        return [
            self._answer(raw, next(rows), i, heatmap) if isinstance(i, Image.Image) else Prediction(error=i)
            for i in opened
        ]

    def _answer(self, raw: Raw, row: int, image: Image.Image, heatmap: bool) -> Prediction:
        main, *others = self._targets(raw.logits[row : row + 1])
        heat = None
        if heatmap and raw.cells is not None:
            index = self.labels.index(main.label)
            values = heat_of(raw.cells[row], tuple(self.facts["cells"]), index)
            heat = Heat(values, seen_box(*image.size, self.facts["method"]))
        unlike, nearest = self._likeness(raw, row)
        names = list(self.targets)
        return Prediction(
            main.label, main.probabilities, None, dict(zip(names, others, strict=True)), unlike, nearest, heat
        )

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


def give_back_memory() -> None:
    """Return freed memory to the system where the C library can (glibc): a kernel each visitor makes it count."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _open_session(path: Path, threads: int | None):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # idle sessions leave the cores alone
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime raises its own unrelated classes
        raise ForeignExport(
            f"{path} is not an ONNX model that can be read: run export_learner(learn) again."
        ) from e


def _facts_of(session, path: Path) -> dict:
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    facts = json.loads(text) if text else {}
    if facts.get("format") != FORMAT:
        raise ForeignExport(
            f"{path} was not written by this version's export_learner: run export_learner(learn) again."
        )
    return facts


def _load_learner(path: Path):
    if not zipfile.is_zipfile(path):
        raise ForeignExport(f"{path} is not an export of fastai: make one with export_learner(learn).")
    if not find_spec("fastai"):
        raise ForeignExport(
            f"{path} has no matching {path.with_suffix('.onnx').name} beside it, and fastai isn't installed to "
            "read it alone: copy that file too, or pip install 'winnow-images[train]'."
        )
    from winnow.share.fastai_path import load

    return load(path)


def _facts_of_learner(learn) -> dict:
    from winnow.share.fastai_path import plain_facts

    return plain_facts(learn)


def _try_open(source: Source) -> Image.Image | str:
    """The upright RGB image, or the sentence that says why there is none."""
    if isinstance(source, Image.Image):
        return source if source.mode == "RGB" else source.convert("RGB")
    try:
        return open_image(source if isinstance(source, bytes) else Path(source))
    except BadImage as e:
        return str(e)
    except OSError as e:
        return f"{source if not isinstance(source, bytes) else 'The photo'} can't be read: {e.strerror or e}."


def _batches(images: Iterable[Source], size: int) -> Iterable[list[Source]]:
    batch: list[Source] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
