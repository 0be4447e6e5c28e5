"""Export a learner twice: `export.pkl` for fastai, `export.onnx` for the app (its format: models.py)."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from winnow.images import open_image, sha256_of
from winnow.share.facts import TrainedHead, gather
from winnow.share.graph import Unexportable, write_facts
from winnow.share.models import ExportError, FastaiModel, OnnxModel
from winnow.share.prediction import calibrate

__all__ = ["Export", "ParityFailed", "Unexportable", "export_learner"]

TOLERANCE = 1e-3


class ParityFailed(ExportError):
    """The exported model and the learner don't give the same probabilities for the same files."""


@dataclass(frozen=True)
class Export:
    """What `export_learner` wrote: both files, and the largest difference of a probability between them."""

    pkl: Path
    onnx: Path
    parity: float  # over `checked` original validation files, preprocessing included
    checked: int
    facts: dict

    def __str__(self) -> str:
        size = self.pkl.stat().st_size / 1e6
        return (
            f"{self.pkl.name} ({size:.1f} MB) and {self.onnx.name}: probabilities of {self.checked} validation "
            f"photos agree within {self.parity:.1e}."
        )


def export_learner(
    learn, path: Path | str = "export.pkl", *, knows: str | None = None, examples: int = 0, check: int = 50
) -> Export:
    """Write `learn` to `path` (fastai) and to the `.onnx` beside it (ONNX Runtime), and prove that they agree.

    `learn`: a fastai learner whose model is `Sequential(body, head)`, as `vision_learner` and `make_learner` give, or
    `make_multi_learner`'s with several heads: its first target is the main one, the others answer beside it.
    `knows`: the sentence that the app shows about the model (default: made from the training set).
    `examples`: how many validation photos, shrunk, the export carries for visitors to try: they become public.
    `check`: how many validation photos, read from their original files, must get the same probabilities both
    ways within 1e-3. Both files are replaced together at the end; on an error neither is touched.
    Raises `Unexportable` or `ParityFailed`.
    """
    path = Path(path)
    learn, heads = _main_and_heads(learn)
    with TemporaryDirectory(dir=_existing(path.parent), prefix=".export-") as folder:
        pkl, onnx = Path(folder) / "export.pkl", Path(folder) / "export.onnx"
        facts, files = gather(learn, onnx, knows=knows, examples=examples, trained_heads=heads)
        _write_pickle(learn, facts, pkl)
        facts["digest"] = sha256_of(pkl)
        write_facts(onnx, facts)
        parity = _prove(pkl, onnx, files[:: max(1, len(files) // check)][:check])
        onnx.replace(path.with_suffix(".onnx"))
        pkl.replace(path)
    return Export(path, path.with_suffix(".onnx"), parity, min(check, len(files)), facts)


def _main_and_heads(learn) -> tuple[object, dict[str, TrainedHead]]:
    """The learner of the main target, and what the other targets' heads have learned."""
    several = getattr(learn, "targets", None)
    if not isinstance(several, dict):
        return learn, {}
    main, *others = several
    return several[main], {name: _head_of(several[name]) for name in others}


def _head_of(learn) -> TrainedHead:
    linear = learn.model[1][-1]
    weight, bias = (part.detach().cpu().float().numpy().copy() for part in (linear.weight, linear.bias))
    return TrainedHead(weight, bias, list(learn.dls.vocab))


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ExportError(f"There is no folder {folder} to write the export to: create it first.")
    if not os.access(folder, os.W_OK):
        raise ExportError(
            f"The folder {folder} is read-only: give export_learner a path that can be written."
        )
    return folder


# ---- the pickle -----------------------------------------------------------------------------------


@contextmanager
def _portable(learn) -> Iterator[None]:
    """Without catalog and paths for as long as it is pickled: they are this machine's."""
    owners = [learn, learn.dls, *learn.dls.loaders]
    kept = [
        (o, n, o.__dict__[n]) for o in owners for n in ("catalog", "path") if n in getattr(o, "__dict__", {})
    ]
    try:
        for owner, name, _ in kept:
            setattr(owner, name, Path() if name == "path" else None)
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _write_pickle(learn, facts: dict, path: Path) -> None:
    learn.winnow = facts
    try:
        with _portable(learn):
            learn.export(path.resolve())  # an absolute name wins over learn.path, which is "." for now
    finally:  # a `learn.export()` after more training must not carry what was fitted to these weights
        for name in ("winnow", "winnow_heads"):
            learn.__dict__.pop(name, None)
    home = str(Path.home()).encode()
    with zipfile.ZipFile(path) as archive:
        inside = b"".join(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))
    if len(home) > 1 and home in inside:
        warnings.warn(
            f"{path.name} names a folder of this machine: a transform of the loaders holds it.", stacklevel=3
        )


# ---- proof ------------------------------------------------------------------------------------------


def _prove(pkl: Path, onnx: Path, files: list[Path]) -> float:
    """The largest difference between both paths' uncalibrated probabilities; raises above the tolerance."""
    images = [open_image(f) for f in files]
    light, heavy = OnnxModel(onnx), FastaiModel(pkl)
    one, two = (
        np.concatenate([_probabilities(m, images[i : i + 16]) for i in range(0, len(images), 16)])
        for m in (light, heavy)
    )
    parity = float(np.abs(one - two).max())
    if parity > TOLERANCE:
        raise ParityFailed(
            f"The exported model differs from the learner by {parity:.3f} in a probability: the loaders preprocess "
            "photos in a way that Winnow can't repeat, so use make_loaders, or Resize and Normalize alone."
        )
    return parity


def _probabilities(model: OnnxModel | FastaiModel, images: list) -> np.ndarray:
    """Every target's uncalibrated probabilities, side by side: (n, K)."""
    logits, start, parts = model.run(images).logits, 0, []
    for target in model.facts["targets"]:
        stop = start + len(target["labels"])
        flat = {"temperature": 1.0, "prior": [1.0] * len(target["labels"])}
        parts.append(calibrate(logits[:, start:stop], flat))
        start = stop
    return np.concatenate(parts, 1)
