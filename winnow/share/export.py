"""Export a learner twice: `export.pkl` for fastai, `export.onnx` for the app (its format: prediction.py)."""

from __future__ import annotations

import os
import platform
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from winnow.images import open_image, sha256_of
from winnow.share.calibration import fit_temperature
from winnow.share.fastai_path import plain_facts
from winnow.share.graph import Unexportable, write_facts, write_graph
from winnow.share.prediction import ExportError, FastaiModel, OnnxModel, calibrate

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
    learn, path: Path | str = "export.pkl", *, knows: str | None = None, check: int = 50
) -> Export:
    """Write `learn` to `path` (fastai) and to the `.onnx` beside it (ONNX Runtime), and prove that they agree.

    `learn`: a fastai learner whose model is `Sequential(body, head)`, as `vision_learner` and `make_learner` give.
    `knows`: the sentence that the app shows about the model (default: made from the training set).
    `check`: how many validation photos, read from their original files, must get the same probabilities both
    ways within 1e-3. Both files are replaced together at the end; on an error neither is touched.
    Raises `Unexportable` or `ParityFailed`.
    """
    path = Path(path)
    files, labels = _validation(learn)
    with TemporaryDirectory(dir=_existing(path.parent), prefix=".export-") as folder, _portable(learn):
        pkl, onnx = Path(folder) / "export.pkl", Path(folder) / "export.onnx"
        facts = _facts(learn, files, labels, onnx, knows)
        _write_pickle(learn, facts, pkl)
        facts["digest"] = sha256_of(pkl)
        write_facts(onnx, facts)
        parity = _prove(pkl, onnx, files[:: max(1, len(files) // check)][:check])
        onnx.replace(path.with_suffix(".onnx"))
        pkl.replace(path)
    return Export(path, path.with_suffix(".onnx"), parity, min(check, len(files)), facts)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ExportError(f"There is no folder {folder} to write the export to: create it first.")
    if not os.access(folder, os.W_OK):
        raise ExportError(
            f"The folder {folder} is read-only: give export_learner a path that can be written."
        )
    return folder


# ---- facts -------------------------------------------------------------------------------------


def _facts(learn, files: list[Path], labels: np.ndarray, onnx: Path, knows: str | None) -> dict:
    """Write the bare graph to `onnx` and return all that the metadata holds, but the digest."""
    facts = plain_facts(learn)
    if facts["size"] is None:
        raise Unexportable("The loaders don't resize photos to a square: use make_loaders, or Resize(size).")
    main = facts["targets"][0]
    main["prior"] = _prior(learn, main["labels"])
    facts["cells"] = write_graph(learn, facts["size"], onnx)
    write_facts(onnx, {**facts, "digest": ""})
    logits = _logits(onnx, files)
    main["temperature"] = fit_temperature(logits, labels, np.asarray(main["prior"]))
    facts["trained"] = _trained(learn, main, logits, labels)
    facts["knows"] = knows or _knows(main["labels"], facts["trained"])
    facts |= {"recipe": _plain(getattr(learn, "recipe", {}) or {}), "versions": _versions()}
    return facts


def _logits(onnx: Path, files: Sequence[Path]) -> np.ndarray:
    model = OnnxModel(onnx)
    return np.concatenate(
        [model.run([open_image(f) for f in files[i : i + 32]]).logits for i in range(0, len(files), 32)]
    )


def _prior(learn, labels: list[str]) -> list[float]:
    """One factor a class, true share over sampled share: undoes what weighted sampling taught the model."""
    prior = (getattr(learn, "recipe", None) or {}).get("prior")
    return [float(prior[label]) for label in labels] if isinstance(prior, dict) else [1.0] * len(labels)


def _trained(learn, main: dict, logits: np.ndarray, labels: np.ndarray) -> dict:
    k = len(main["labels"])
    counts = np.bincount(_labels_of(learn.dls.train_ds), minlength=k)
    guess = logits[:, :k].argmax(1)
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "photos": int(counts.sum()),
        "counts": {label: int(n) for label, n in zip(main["labels"], counts, strict=True)},
        "checked": len(labels),
        "accuracy": float((guess == labels).mean()),
        "recall": {
            main["labels"][i]: float((guess[labels == i] == i).mean())
            for i in range(k)
            if (labels == i).any()
        },
    }


def _knows(labels: list[str], trained: dict) -> str:
    names = ", ".join(labels[:-1]) + " and " + labels[-1] if len(labels) > 1 else labels[0]
    return (
        f"Tells apart {names}. Trained on {trained['photos']:,} photos ({trained['date']}); right on "
        f"{trained['accuracy']:.0%} of {trained['checked']:,} photos that it had not seen."
    )


def _versions() -> dict:
    packages = {"winnow": "winnow-images", "fastai": "fastai", "torch": "torch", "timm": "timm"}
    found = {"python": platform.python_version()}
    for name, package in packages.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _plain(value):
    """`value` with nothing but JSON's types, folders left out: an export says nothing of the machine it was made on."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not isinstance(v, Path)}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return value.item() if isinstance(value, np.generic) else str(type(value).__name__)


# ---- the learner's photos ------------------------------------------------------------------------


def _validation(learn) -> tuple[list[Path], np.ndarray]:
    """The validation photos' files, and their classes as numbers."""
    files = [_file_of(item, learn) for item in learn.dls.valid_ds.items]
    missing = next((f for f in files if not f.is_file()), None)
    if missing or not files:
        raise Unexportable(f"The validation photo {missing} is gone: make the loaders again, then export.")
    return files, _labels_of(learn.dls.valid_ds)


def _labels_of(dataset) -> np.ndarray:
    return np.array([int(y) for y in dataset.tls[1]])


def _file_of(item, learn) -> Path:
    item = Path(getattr(item, "path", item))
    catalog = getattr(learn, "catalog", None)
    return catalog.file(item.as_posix()) if catalog is not None and not item.is_absolute() else item


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
    learn.export(path.resolve())  # an absolute name wins over learn.path, which is "." for now
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
    main = light.facts["targets"][0]
    target = {**main, "temperature": 1.0, "prior": [1.0] * len(main["labels"])}
    k = len(target["labels"])
    one, two = (
        np.concatenate(
            [calibrate(m.run(images[i : i + 16]).logits[:, :k], target) for i in range(0, len(images), 16)]
        )
        for m in (light, heavy)
    )
    parity = float(np.abs(one - two).max())
    if parity > TOLERANCE:
        raise ParityFailed(
            f"The exported model differs from the learner by {parity:.3f} in a probability: the loaders preprocess "
            "photos in a way that Winnow can't repeat, so use make_loaders, or Resize and Normalize alone."
        )
    return parity
