"""An exported model that gives logits: through ONNX Runtime, or through fastai.

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
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from winnow.images import resize, sha256_of

FORMAT = 1
KEY = "winnow"


class ExportError(Exception):
    """The export can't be used as it is; the message says what to do."""


class MissingExport(ExportError):
    """There is no export where one was expected."""


class ForeignExport(ExportError):
    """The file is not something that `export_learner` or fastai's `learn.export` wrote."""


class MismatchedExport(ExportError):
    """`export.onnx` was made from another `export.pkl`, and fastai isn't there to read the pickle."""


@dataclass(frozen=True)
class Raw:
    """What a model gives for n photos: logits (n, K), and cells and likeness where it has them."""

    logits: np.ndarray
    cells: np.ndarray | None = None
    likeness: np.ndarray | None = None
    vectors: np.ndarray | None = None  # only while an export is made


class OnnxModel:
    """The light path: one ONNX Runtime session and the facts in its metadata."""

    def __init__(self, path: Path, *, threads: int | None = None):
        self.session = _open_session(path, threads)
        give_back_memory()  # reading and optimising the graph took twice what running it needs
        self.facts = _facts_of(self.session, path)
        self.outputs = [o.name for o in self.session.get_outputs()]

    def prepare(self, image: Image.Image) -> Image.Image:
        """The photo at the model's size: all that a batch has to hold of it."""
        size = self.facts["size"]
        return image if image.size == (size, size) else resize(image, size, self.facts["method"])

    def run(self, images: Sequence[Image.Image], *, cells: bool = False) -> Raw:
        """Logits and the rest for upright RGB `images`, prepared or not."""
        pixels = np.stack([np.asarray(self.prepare(image)) for image in images])
        names = [n for n in self.outputs if n != "cells" or cells]
        return Raw(**dict(zip(names, self.session.run(names, {"pixels": pixels}), strict=True)))


class FastaiModel:
    """The other path: any learner that fastai's `load_learner` reads, imported only when it is needed."""

    def __init__(self, path: Path):
        self.learn = _load_learner(path)
        self.facts = getattr(self.learn, "winnow", None) or _facts_of_learner(self.learn)
        self.facts = {**self.facts, "digest": sha256_of(path)}

    def prepare(self, image: Image.Image) -> Image.Image:
        """The photo as it is: the learner's own transforms resize it."""
        return image

    def run(self, images: Sequence[Image.Image], *, cells: bool = False, tta: int = 0) -> Raw:
        """Logits for upright RGB `images`; `tta`: also the mean of that many augmented passes."""
        from winnow.share.fastai_path import logits_of

        return Raw(logits=logits_of(self.learn, images, self.facts, tta=tta))


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
