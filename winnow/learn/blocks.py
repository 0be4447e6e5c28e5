"""What a learner's loaders are made of. An exported learner names these classes: they keep their names and places."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from fastai.data.block import TransformBlock
from fastai.data.core import TfmdDL
from fastai.data.transforms import IntToFloatTensor
from fastai.vision.augment import RandomResizedCrop
from fastai.vision.core import PILImage
from fastcore.basics import chunked
from fasttransform import Transform
from PIL import Image

from winnow.images import open_image


class AnyPhoto(type(PILImage)):
    """Lets fastai's own `PILImage` pass for an `UprightPhoto`: notebooks call `learn.predict(PILImage.create(…))`."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, PILImage)


class UprightPhoto(PILImage, metaclass=AnyPhoto):
    """fastai's `PILImage`, opened as Winnow opens photos: upright, HEIC too, white where it was transparent."""

    @classmethod
    def create(cls, fn, **kwargs):
        """A photo from a path, bytes, an array, a tensor or another image."""
        if isinstance(fn, (str, Path, bytes)):
            return cls(open_image(fn))
        return super().create(fn, **kwargs)


class ReadPhoto(Transform):
    """A path to an `UprightPhoto`; photos of `pixels` (by path) were decoded and resized before."""

    def __init__(self, pixels: Mapping[Path, np.ndarray] | None = None):
        super().__init__()
        self.pixels = pixels or {}

    def encodes(self, source):
        known = self.pixels.get(source) if isinstance(source, Path) else None
        return UprightPhoto.create(source) if known is None else UprightPhoto(Image.fromarray(known))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "pixels": {}}  # an export carries no photos


def photo_block(pixels: Mapping[Path, np.ndarray] | None = None) -> TransformBlock:
    """A fastai block for photos; `pixels` are the ones that need no decoding."""
    return TransformBlock(type_tfms=ReadPhoto(pixels), batch_tfms=IntToFloatTensor)


class LabelOf:
    """A photo's label or further target by its path; an export carries no values."""

    def __init__(self, values: Mapping[Path, str]):
        self.values = dict(values)

    def __call__(self, path: Path) -> str:
        """The label of `path`; the name of its folder where it was never told."""
        return self.values.get(path, Path(path).parent.name)

    def __getstate__(self) -> dict:
        return {"values": {}}


class TrainOnlyCrop(RandomResizedCrop):
    """fastai's `RandomResizedCrop` for the training side; the validation side is left to a plain `Resize`."""

    split_idx = 0


class Albumented(Transform):
    """An Albumentations pipeline as an item transform of the training side."""

    split_idx, order = 0, 2

    def __init__(self, pipeline):
        super().__init__()
        self.pipeline = pipeline

    def encodes(self, photo: PILImage):
        return UprightPhoto(Image.fromarray(self.pipeline(image=np.asarray(photo))["image"]))


class PhotoLoader(TfmdDL):
    """fastai's loader, with three repairs and one short cut.

    The training side can be sampled by `weights`, which survive `new()` (a resize, TTA, `test_dl`); the order
    comes from one `seed`; and `tta(ds_idx=0)`, which asks for `shuffled=False`, is not shuffled. Where `held` photos
    stand ready (`winnow.learn.resident`), batches are cut from them without going through the items.
    """

    held, workers = None, 0

    def __init__(
        self,
        dataset=None,
        bs: int = 64,
        weights: Sequence[float] | None = None,  # one for each item, any scale; None: each item once an epoch
        seed: int | None = None,
        **kwargs,
    ):
        self.weights = None if weights is None else np.asarray(weights, float) / np.sum(weights)
        self.seed = seed
        if self.weights is not None and len(self.weights) != len(dataset):
            raise ValueError(f"{len(self.weights)} weights were given for {len(dataset)} training photos.")
        super().__init__(dataset, bs=bs, **kwargs)
        if seed is not None:
            self.rng = random.Random(seed)
        self.sampler = np.random.default_rng(seed)

    def get_idxs(self) -> list[int]:
        """Positions of the next epoch's items."""
        if self.weights is None or not self.shuffle or self.n == 0:
            return super().get_idxs()
        return self.sampler.choice(self.n, self.n, p=self.weights).tolist()

    def new(self, dataset=None, cls=None, *, shuffled: bool | None = None, **kwargs):
        """A loader like this one; weights and seed come along while the items are the same."""
        if shuffled is not None:
            kwargs.setdefault("shuffle", shuffled)
        same = dataset is None or dataset is self.dataset
        if same:
            kwargs = {"weights": self.weights, "seed": self.seed, **kwargs}
        keeps = self.held and same and not kwargs.keys() & {"after_item", "before_batch"}
        if self.held and not keeps:
            kwargs = {"num_workers": self.workers, **kwargs}
        loader = super().new(dataset, cls, **kwargs)
        if keeps:
            loader.held, loader.workers = self.held, self.workers
        return loader

    def hold(self, photos) -> None:
        """Cut batches from `photos` (a `ResidentPhotos`) in this process: nothing is left to do for workers."""
        self.held, self.workers = photos, self.fake_l.num_workers
        self.fake_l.num_workers = 0

    def create_batches(self, samps):
        """Batches as fastai makes them, item by item, or cut from the held photos."""
        if self.held is None or self.bs is None:
            yield from super().create_batches(samps)
            return
        for rows in chunked(samps, self.bs, self.drop_last):
            yield self.held.batch(rows, self.device)
