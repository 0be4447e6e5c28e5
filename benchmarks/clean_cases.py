"""Data for benchmarks/clean.py: photos with labels, some of them known to be wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from winnow.clean.folder import LookedAtFolder
from winnow.clean.suspects import VIEWS
from winnow.collect.sample import write_sample
from winnow.learn.features import extract_features
from winnow.learn.probe import out_of_fold

CLOTHING = Path(__file__).resolve().parents[2] / "shared/data/clothing"


@dataclass
class Source:
    """One data set: features by view, labels as given, and what is known about them."""

    name: str
    folder: object  # a catalog, or a folder that is only read
    photos: list
    labels: np.ndarray
    classes: list[str]
    wrong: np.ndarray | None  # known errors; None: labels are taken as true and errors are planted
    cache: Path

    @cached_property
    def blocks(self) -> list[np.ndarray]:
        """Features (n, d) of each default view, in order."""
        files = [self.folder.file(photo.path) for photo in self.photos]
        return [extract_features(files, backbone=name, size=size, cache=self.cache) for name, size in VIEWS]

    @cached_property
    def confusion(self) -> np.ndarray:
        """How likely the model takes a photo of class c for class j (k, k), from out-of-fold probabilities."""
        probs = out_of_fold(self.blocks[0], self.labels, n_classes=len(self.classes))
        return np.stack([probs[self.labels == c].mean(axis=0) for c in range(len(self.classes))])


@dataclass
class Case:
    """Given labels and which of them are wrong."""

    source: str
    name: str
    blocks: list[np.ndarray]
    given: np.ndarray
    wrong: np.ndarray
    n_classes: int

    @cached_property
    def out_of_fold(self) -> np.ndarray:
        """The probabilities (n, k) that every peer gets: Winnow's probe on the first view."""
        return out_of_fold(self.blocks[0], self.given, n_classes=self.n_classes)


def sources(data: Path | None, truth: Path | None, cache: Path) -> list[Source]:
    """The sample, and the folder that was named (or clothing where it lies beside the repository)."""
    found = [_sample(cache)]
    data = data or (CLOTHING if CLOTHING.is_dir() else None)
    return [_folder(data, truth, cache), *found] if data else found


def cases_of(source: Source, rates: Iterable[float], seeds: Iterable[int]) -> Iterator[Case]:
    """The source's own errors where they are known, else each rate of planted errors with each seed."""
    k = len(source.classes)
    if source.wrong is not None:
        yield Case(source.name, "known errors", source.blocks, source.labels, source.wrong, k)
        return
    for rate in rates:
        for seed in seeds:
            given = plant(source.labels, source.confusion, rate, seed)
            wrong = given != source.labels
            yield Case(source.name, f"{rate:.0%} planted", source.blocks, given, wrong, k)


def plant(labels: np.ndarray, confusion: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Labels of which a share `rate` is exchanged for what the model confuses their class with."""
    random = np.random.default_rng(1000 + seed)
    given = labels.copy()
    odds = confusion * (1 - np.eye(len(confusion)))
    odds /= odds.sum(axis=1, keepdims=True)
    for row in random.choice(len(labels), round(rate * len(labels)), replace=False):
        given[row] = random.choice(len(odds), p=odds[labels[row]])
    return given


def bar(name: str, value: float, target: float, *, at_most: bool = False) -> dict:
    """One line of the verdict."""
    ok = value <= target if at_most else value >= target
    return {"name": name, "value": round(float(value), 4), "target": target, "ok": bool(ok)}


def _sample(cache: Path) -> Source:
    """The solar cells; the truth is which of them the experts were unsure about."""
    catalog = write_sample(cache / "sample")
    photos = catalog.photos()
    unsure = np.array([0.1 < photo.extra["probability"] < 0.9 for photo in photos])
    return _source("sample (experts unsure)", catalog, photos, unsure, cache)


def _folder(data: Path, truth: Path | None, cache: Path) -> Source:
    folder = LookedAtFolder(data)
    folder.drop_unreadable()
    photos, wrong = folder.photos(), None
    if truth:
        true = read_truth(truth, data)
        photos = [photo for photo in photos if photo.path in true]
        wrong = np.array([photo.label != true[photo.path] for photo in photos], bool)
        if not 0 < wrong.sum() < len(wrong):
            raise SystemExit(
                f"{truth}: {wrong.sum()} of {len(wrong)} photos found in {data} have another label than the folder: "
                "nothing to rank. Paths in it are relative to the folder, e.g. shirt/0001.jpg."
            )
    return _source(data.name, folder, photos, wrong, cache)


def read_truth(truth: Path, data: Path) -> dict[str, str]:
    """True labels by path relative to `data`; absolute ones and such that begin with its name are taken too."""
    with truth.open(newline="", encoding="utf-8-sig") as file:
        rows = [(Path(row["path"]), row["label"]) for row in csv.DictReader(file)]
    true = {}
    for path, label in rows:
        if path.is_absolute() and path.is_relative_to(data.resolve()):
            path = path.relative_to(data.resolve())
        elif not (data / path).exists() and path.parts and path.parts[0] == data.name:
            path = path.relative_to(data.name)
        true[path.as_posix()] = label
    return true


def _source(name, folder, photos, wrong, cache) -> Source:
    classes = sorted({photo.label for photo in photos})
    labels = np.array([classes.index(photo.label) for photo in photos])
    return Source(name, folder, photos, labels, classes, wrong, cache)
