"""All that an export's metadata holds: fitted on the learner's own photos, read from their original files."""

from __future__ import annotations

import base64
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from winnow.images import BadImage, open_image, sha256_of, thumbnail
from winnow.learn.probe import fit_probe
from winnow.share.calibration import fit_temperature
from winnow.share.fastai_path import plain_facts
from winnow.share.graph import Served, Unexportable, write_facts, write_graph
from winnow.share.likeness import Likeness, fit_likeness
from winnow.share.models import OnnxModel

TRAIN_SAMPLE = 800  # photos of the training side that the further targets and the likeness are fitted on
FEWEST = 5  # photos of each value that a further target needs


@dataclass(frozen=True)
class Side:
    """Photos of one side of the split with the model's outputs: labels (n,), logits (n, K), vectors (n, d) or None."""

    files: list[Path]
    labels: np.ndarray
    logits: np.ndarray
    vectors: np.ndarray | None


@dataclass(frozen=True)
class TrainedHead:
    """A further target's linear head that was trained with the body: weight (k, d), bias (k,), its k labels."""

    weight: np.ndarray
    bias: np.ndarray
    labels: list[str]

    def decide(self, vectors: np.ndarray) -> np.ndarray:
        """Logits (n, k) of vectors (n, d)."""
        return vectors @ self.weight.T + self.bias


def gather(
    learn,
    onnx: Path,
    *,
    knows: str | None,
    examples: int,
    trained_heads: dict[str, TrainedHead] | None = None,
) -> tuple[dict, list[Path]]:
    """Write the final graph to `onnx`; returns the metadata (but the pickle's digest) and the validation files.

    `trained_heads`: further targets, by name, whose heads were trained; the catalog's others get a head fitted here.
    Sets `learn.winnow_heads`, the further targets' linear heads (weight (k, d), bias (k,)), for the pickle.
    """
    facts = _first_facts(learn)
    main = facts["targets"][0]
    bare = Served(learn, facts["size"], vectors=True)
    write_graph(bare, onnx)
    write_facts(onnx, {**facts, "digest": ""})
    train, valid = (
        _side(learn, learn.dls.train_ds, onnx, TRAIN_SAMPLE),
        _side(learn, learn.dls.valid_ds, onnx, None),
    )
    main["temperature"] = fit_temperature(valid.logits, valid.labels, np.asarray(main["prior"]))
    heads, further = _further_targets(learn, train, valid, trained_heads or {})
    likeness = _likeness(train, valid, len(main["labels"]))
    learn.winnow_heads = heads or None
    served = Served(learn, facts["size"], heads, likeness)
    write_graph(served, onnx)
    trained = _trained(learn, main["labels"], valid)
    facts |= {
        "targets": [main, *further],
        "cells": served.grid(),
        "unlike": likeness and {"threshold": likeness.threshold},
        "trained": trained,
        "knows": knows or _knows(main["labels"], trained),
        "examples": _examples(valid, main["labels"], examples),
        "dataset": _dataset_digest(learn),
        "recipe": _plain(getattr(learn, "recipe", None) or {}),
        "versions": _versions(),
    }
    return facts, valid.files


def _first_facts(learn) -> dict:
    facts = plain_facts(learn)
    if facts["size"] is None:
        raise Unexportable("The loaders don't resize photos to a square: use make_loaders, or Resize(size).")
    recipe = getattr(learn, "recipe", None) or {}
    facts["targets"][0] |= {
        "name": recipe.get("target") or "label",
        "prior": _prior(recipe, facts["targets"][0]),
    }
    return facts


def _prior(recipe: dict, target: dict) -> list[float]:
    """One factor a class, true share over sampled share: undoes what weighted sampling taught the model."""
    true, sampled = recipe.get("prior"), recipe.get("sampled_prior")
    if not true or not sampled or len(true) != len(target["labels"]):
        return target["prior"]
    return [float(t / s) if s > 0 else 1.0 for t, s in zip(true, sampled, strict=True)]


# ---- photos ----------------------------------------------------------------------------------------


def _side(learn, dataset, onnx: Path, most: int | None) -> Side:
    labels = np.array([int(y) for y in dataset.tls[1]])
    rows = np.arange(len(labels))
    if most and len(rows) > most:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    files = [_file_of(dataset.items[i], learn) for i in rows]
    if missing := next((f for f in files if not f.is_file()), None):
        raise Unexportable(f"The photo {missing.name} is gone: make the loaders again, then export.")
    if not files:
        raise Unexportable(
            "The loaders hold no photos to check the export with: make them again, then export."
        )
    return Side(files, labels[rows], *_outputs(onnx, files))


def _file_of(item, learn) -> Path:
    item = Path(getattr(item, "path", item))
    catalog = getattr(learn, "catalog", None)
    return catalog.file(item.as_posix()) if catalog is not None and not item.is_absolute() else item


def _outputs(onnx: Path, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray | None]:
    model, found = OnnxModel(onnx), []
    for start in range(0, len(files), 16):
        found.append(model.run([_open(f) for f in files[start : start + 16]]))
    vectors = None if found[0].vectors is None else np.concatenate([r.vectors for r in found])
    return np.concatenate([r.logits for r in found]), vectors


def _open(file: Path):
    try:
        return open_image(file)
    except BadImage as e:
        raise Unexportable(f"{e} The export checks the learner's photos, and needs all of them.") from e


def _examples(valid: Side, labels: list[str], count: int) -> list[dict]:
    """Small copies of validation photos that the model gets right, class after class, the surest of each first."""
    right = valid.logits[:, : len(labels)].argmax(1) == valid.labels
    sure = np.argsort(-valid.logits[:, : len(labels)].max(1), kind="stable")
    queues = [[i for i in sure if right[i] and valid.labels[i] == c] for c in range(len(labels))]
    turns = [
        i for turn in zip(*[q[:count] + [None] * (count - len(q)) for q in queues], strict=True) for i in turn
    ]
    chosen = [i for i in turns if i is not None][:count]
    return [{"name": f"example {n}.jpg", "url": _data_url(valid.files[i])} for n, i in enumerate(chosen, 1)]


def _data_url(file: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(file, 320)).decode()}"


# ---- what is fitted --------------------------------------------------------------------------------


def _further_targets(
    learn, train: Side, valid: Side, trained: dict[str, TrainedHead]
) -> tuple[list, list[dict]]:
    """A linear head on the model's own vectors for each further target of the catalog, and its metadata."""
    catalog = getattr(learn, "catalog", None)
    if catalog is None or train.vectors is None:
        return [], []
    main = (getattr(learn, "recipe", None) or {}).get("target") or "label"
    by_file = {catalog.file(p.path): {**p.targets, "label": p.label} for p in catalog.photos()}
    names = [n for n in [*trained, *(n for n in catalog.target_names() if n not in trained)] if n != main]
    made = [
        _target(name, trained.get(name) or _fit_head(name, train, by_file), valid, by_file) for name in names
    ]
    return [m[0] for m in made if m], [m[1] for m in made if m]


def _fit_head(name: str, train: Side, by_file: dict) -> TrainedHead | None:
    values = [by_file.get(f, {}).get(name) for f in train.files]
    labels = sorted({v for v in values if v is not None and values.count(v) >= FEWEST})
    if len(labels) < 2:
        return None
    rows = [i for i, v in enumerate(values) if v in labels]
    probe = fit_probe(train.vectors[rows], [labels.index(values[i]) for i in rows], n_classes=len(labels))
    return TrainedHead(np.asarray(probe.weight, np.float32), np.asarray(probe.bias, np.float32), labels)


def _target(name: str, head: TrainedHead | None, valid: Side, by_file: dict) -> tuple[tuple, dict] | None:
    """A head's weights and its metadata: calibrated, and measured, on the validation side."""
    if head is None:
        return None
    labels = head.labels
    target = {"name": name, "labels": labels, "temperature": 1.0, "prior": [1.0] * len(labels)}
    known = [(i, by_file.get(f, {}).get(name)) for i, f in enumerate(valid.files)]
    known = [(i, labels.index(v)) for i, v in known if v in labels]
    if known:
        logits, truth = head.decide(valid.vectors[[i for i, _ in known]]), np.array([y for _, y in known])
        target["temperature"] = fit_temperature(logits, truth, np.ones(len(labels)))
        target["accuracy"] = float((logits.argmax(1) == truth).mean())
    return (head.weight, head.bias), target


def _likeness(train: Side, valid: Side, classes: int) -> Likeness | None:
    return (
        None
        if train.vectors is None
        else fit_likeness(train.vectors, train.labels, valid.vectors, classes=classes)
    )


# ---- what is told ----------------------------------------------------------------------------------


def _trained(learn, labels: list[str], valid: Side) -> dict:
    counts = np.bincount([int(y) for y in learn.dls.train_ds.tls[1]], minlength=len(labels))
    guess, truth = valid.logits[:, : len(labels)].argmax(1), valid.labels
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "photos": int(counts.sum()),
        "counts": {label: int(n) for label, n in zip(labels, counts, strict=True)},
        "checked": len(truth),
        "accuracy": float((guess == truth).mean()),
        "recall": {labels[c]: float((guess[truth == c] == c).mean()) for c in sorted(set(truth.tolist()))},
    }


def _knows(labels: list[str], trained: dict) -> str:
    names = ", ".join(labels[:-1]) + " and " + labels[-1] if len(labels) > 1 else labels[0]
    return (
        f"Tells apart {names}. Trained on {trained['photos']:,} photos ({trained['date']}); right on "
        f"{trained['accuracy']:.0%} of {trained['checked']:,} photos that it had not seen."
    )


def _dataset_digest(learn) -> str | None:
    """SHA-256 over every photo's hash, label and side: says which state of the dataset the model learnt from."""
    catalog = getattr(learn, "catalog", None)
    if catalog is None:
        return None
    lines = sorted(f"{p.sha256} {p.label} {p.split}" for p in catalog.photos())
    return sha256_of("\n".join(lines).encode())


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
    return value.item() if isinstance(value, np.generic) else type(value).__name__
