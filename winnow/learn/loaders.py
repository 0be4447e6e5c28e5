"""From a catalog to fastai's `DataLoaders`, by a `DataBlock` that keeps the frozen split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.torch_core import default_device, set_seed
from fastai.vision.augment import Normalize, PadMode, Resize, ResizeMethod, aug_transforms

from winnow.catalog import Catalog, Photo
from winnow.learn.blocks import Albumented, LabelOf, PhotoLoader, TrainOnlyCrop, photo_block
from winnow.learn.crops import SMALLEST, hold_crops, source_size
from winnow.learn.pixels import cached_pixels
from winnow.learn.resident import hold_pixels

METHODS = {
    "squish": "squish",
    "crop": "crop",
    "pad": "pad",
    "random": "crop",
}  # and what the validation side does
MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
AUGMENTS = ("upright", "any-way-up", "none")


class TooFewPhotos(ValueError):
    """A side of the split has less than training needs."""


class UnknownChoice(ValueError):
    """A parameter has a value that isn't one of its choices."""


def make_loaders(
    catalog: Catalog,
    *,
    size: int = 192,  # pixels, both sides
    method: str = "squish",  # "squish", "crop", "pad" or "random" (RandomResizedCrop)
    batch_size: int = 32,
    target: str | None = None,  # a further target's name; None: the class folders
    weighted: bool | float = False,  # True: 1/count**0.5; a number is the power
    augment: str = "upright",  # "upright" photos, things that lie "any-way-up", or "none"
    seed: int = 42,
    pipeline=None,  # an Albumentations pipeline, applied to each training photo after the resize
    scale: tuple = MEAN_STD,  # mean and standard deviation that the backbone was trained with
    workers: int | None = None,  # processes that read photos; None: 0 on a CPU, fastai's choice on a GPU
) -> DataLoaders:
    """fastai `DataLoaders` of a catalog: train and valid are its frozen split, photos are read upright.

    Photos without a side get one first. `dls.catalog` and `dls.recipe` are set. Raises `TooFewPhotos` where
    fastai would train on nothing with a NaN loss, `UnknownChoice` for a misspelled choice.
    """
    _check_choice("METHOD", method, tuple(METHODS))
    _check_choice("AUGMENT", augment, AUGMENTS)
    catalog.split()
    photos = [photo for photo in catalog.photos() if photo.split in ("train", "valid")]
    labels = _labels(photos, target)
    photos = [photo for photo in photos if photo.path in labels]
    _check_sides(photos, batch_size)
    set_seed(seed)
    pixels = ready_pixels(catalog, photos, size, method)
    block = DataBlock(
        blocks=(
            photo_block(pixels),
            CategoryBlock(vocab=_vocab(labels)),
        ),
        get_items=_Files(catalog, photos),
        splitter=_Sides(catalog, photos),
        get_y=LabelOf({catalog.file(path): label for path, label in labels.items()}),
        item_tfms=[*resizes(size, method), *([Albumented(pipeline)] if pipeline else [])],
        batch_tfms=[*augmentations(augment), Normalize.from_stats(*scale)],
        dl_type=PhotoLoader,
    )
    weights = sampling_weights([labels[p.path] for p in photos if p.split == "train"], weighted)
    dls = block.dataloaders(
        catalog,
        path=Path(),  # fastai writes models/ there: in the dataset that folder would become a class
        bs=batch_size,
        num_workers=0 if workers is None and default_device().type == "cpu" else workers,
        dl_kwargs=[{"weights": weights, "seed": seed}, {}],
    )
    hold(dls, catalog, photos, pixels, size=size, method=method, pipeline=pipeline)
    dls.catalog = catalog
    dls.loading = {
        "size": size, "method": method, "batch_size": batch_size, "target": target, "weighted": weighted,
        "augment": augment, "seed": seed, "pipeline": pipeline, "scale": scale,
        "workers": workers,
    }  # fmt: skip
    dls.recipe = {
        "size": size,
        "method": METHODS[method],
        "train_method": method,
        "batch_size": batch_size,
        "target": target,
        "weighted": float(weighted) if weighted is not True else 0.5,
        "augment": augment,
        "seed": seed,
        "mean": list(scale[0]),
        "std": list(scale[1]),
        "classes": list(dls.vocab),
        **_priors([labels[p.path] for p in photos if p.split == "train"], weights, dls.vocab),
    }
    return dls


def sampling_weights(labels: list[str], weighted: bool | float) -> np.ndarray | None:
    """How often each training photo is drawn: `1/count**power`, with a power of 0.5 for `True`; None for False."""
    if weighted is False or weighted == 0:
        return None
    counts = Counter(labels)
    power = 0.5 if weighted is True else float(weighted)
    return np.array([counts[label] ** -power for label in labels])


def resizes(size: int, method: str) -> list:
    """fastai's item transforms for a resize method; the validation side matches `winnow.images.resize`."""
    how = {"squish": ResizeMethod.Squish, "crop": ResizeMethod.Crop, "pad": ResizeMethod.Pad}
    plain = Resize(size, method=how[METHODS[method]], pad_mode=PadMode.Zeros)
    return [TrainOnlyCrop(size, min_scale=SMALLEST), plain] if method == "random" else [plain]


def augmentations(augment: str) -> list:
    """fastai's batch transforms for one of `AUGMENTS`; only the training side goes through them."""
    if augment == "none":
        return []
    if augment == "any-way-up":  # exact: a turn by ten degrees would blur and fill corners (docs/learn.md)
        return aug_transforms(flip_vert=True, max_rotate=0.0, max_zoom=1.0, max_warp=0.0, max_lighting=0.1)
    return aug_transforms()


def hold(
    dls: DataLoaders, catalog: Catalog, photos: list[Photo], pixels, *, size: int, method: str, pipeline=None
) -> DataLoaders:
    """Let whole batches come from decoded photos, on the sides where items would add nothing but a random crop."""
    as_they_are = method == "squish" and pipeline is None
    hold_pixels(dls, pixels, ["train", "valid"] if as_they_are else ["valid"])
    if method == "random" and pipeline is None:
        training = [photo for photo in photos if photo.split == "train"]
        sources = ready_pixels(catalog, training, source_size(size), "squish")
        shapes = {catalog.file(photo.path): (photo.width, photo.height) for photo in training}
        hold_crops(dls, sources, shapes, size)
    return dls


def _labels(photos: list[Photo], target: str | None) -> dict[str, str]:
    if target is None:
        return {photo.path: photo.label for photo in photos}
    return {photo.path: photo.targets[target] for photo in photos if target in photo.targets}


def _vocab(labels: dict[str, str]) -> list[str]:
    return sorted(set(labels.values()))


class _Files:
    """The photos' absolute paths, in the catalog's order; an export carries no paths."""

    def __init__(self, catalog: Catalog, photos: list[Photo]):
        self.files = [catalog.file(photo.path) for photo in photos]

    def __call__(self, source) -> list[Path]:
        return self.files


class _Sides:
    """The catalog's frozen split as a fastai splitter."""

    def __init__(self, catalog: Catalog, photos: list[Photo]):
        self.side = {catalog.file(photo.path): photo.split for photo in photos}

    def __call__(self, files: list[Path]) -> tuple[list[int], list[int]]:
        sides = [self.side[file] for file in files]
        return tuple([i for i, side in enumerate(sides) if side == name] for name in ("train", "valid"))


def ready_pixels(catalog: Catalog, photos: list[Photo], size: int, method: str) -> dict[Path, np.ndarray]:
    """Pixels that need no decoding: all where training resizes like validation, else the validation side's."""
    wanted = photos if method == "squish" else [photo for photo in photos if photo.split == "valid"]
    files = {photo.sha256: catalog.file(photo.path) for photo in wanted}
    pixels = cached_pixels(files, size=size, method=METHODS[method], cache=catalog.cache)
    return {catalog.file(photo.path): pixels[photo.sha256] for photo in wanted if photo.sha256 in pixels}


def _priors(labels: list[str], weights: np.ndarray | None, vocab) -> dict[str, list[float]]:
    """Each class's share of the training photos, and its share of what training draws."""
    hits = np.array([[label == name for name in vocab] for label in labels], float)
    drawn = hits.mean(axis=0) if weights is None else (weights / weights.sum()) @ hits
    return {"prior": hits.mean(axis=0).tolist(), "sampled_prior": drawn.tolist()}


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownChoice(f"{name} can't be {value!r}: choose one of {', '.join(choices)}.")


def _check_sides(photos: list[Photo], batch_size: int) -> None:
    sides = Counter(photo.split for photo in photos)
    if not sides["valid"]:
        raise TooFewPhotos("No photo is on the validation side: add photos, at least five of each class.")
    if sides["train"] < batch_size:
        raise TooFewPhotos(
            f"{sides['train']} photos to train on are fewer than one batch of {batch_size}: "
            f"add photos, or set batch_size to {max(sides['train'] // 2, 1)}."
        )
    if len({photo.label for photo in photos}) < 2:
        raise TooFewPhotos("All photos have one label: telling things apart needs at least two classes.")
