"""A side of the split as one block of pixels: whole batches at once, from the GPU's own memory where it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from fastai.data.core import DataLoaders, Datasets
from fastai.torch_core import TensorCategory
from fastai.vision.core import TensorImage

from winnow.learn.store import Lease

ROOM = 0.4  # at most this share of the GPU's free memory holds photos; the rest is training's


class ResidentPhotos:
    """Decoded, resized photos of one side and their labels; `batch(rows)` is what the loader's items would give.

    On a CPU the pixels stay in the memory-mapped cache. On a GPU they go there once, at the first batch, if they take
    at most `ROOM` of its free memory; else each batch is copied from page-locked memory.
    """

    def __init__(
        self,
        pixels: Sequence[np.ndarray],  # one (size, size, 3) uint8 array an item
        labels: Sequence[torch.Tensor],  # one (n,) tensor of class numbers a target
    ):
        self.pixels, self.labels = pixels, [labels_of_one.long() for labels_of_one in labels]
        self.resident: torch.Tensor | None = None  # (n, size, size, 3) uint8 on a GPU
        self.tried, self.lease = False, Lease()

    @property
    def bytes(self) -> int:
        """What all pixels take."""
        return len(self.pixels) * self.pixels[0].nbytes

    def batch(self, rows: Sequence[int], device: torch.device | None) -> tuple:
        """Images (b, 3, size, size) uint8, `channels_last` in memory, then each target's labels (b,)."""
        images = self._images(list(rows), device).permute(0, 3, 1, 2)
        index = torch.tensor(list(rows))
        return (TensorImage(images), *(TensorCategory(labels[index]) for labels in self.labels))

    def _images(self, rows: list[int], device: torch.device | None) -> torch.Tensor:
        on_gpu = device is not None and torch.device(device).type == "cuda"
        if on_gpu and not self.tried:
            self._move(device)
        if self.resident is not None:
            return self.resident[torch.tensor(rows, device=self.resident.device)]
        images = torch.from_numpy(np.stack([self.pixels[row] for row in rows]))
        self.lease.looked_at(self.pixels[rows[0]], len(rows))
        return images.pin_memory().to(device, non_blocking=True) if on_gpu else images

    def _move(self, device: torch.device) -> None:
        self.tried = True
        free, _ = torch.cuda.mem_get_info(device)
        if self.bytes <= ROOM * free:
            self.resident = torch.from_numpy(np.stack(self.pixels)).to(device)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "resident": None, "tried": False}


def hold_pixels(dls: DataLoaders, pixels: Mapping[Path, np.ndarray], sides: Sequence[str]) -> DataLoaders:
    """Let the loaders of `sides` ("train", "valid") take whole batches from `pixels`, where these hold every item.

    Only for a side whose item transforms would give exactly these pixels: no random crop, no Albumentations.
    """
    for side in sides:
        loader = getattr(dls, side)
        files = list(loader.dataset.items)
        if files and all(file in pixels for file in files):
            loader.hold(ResidentPhotos([pixels[file] for file in files], labels_of(loader.dataset)))
    return dls


def labels_of(dataset: Datasets) -> list[torch.Tensor]:
    """Each target's class numbers (n,), in the order of the items."""
    return [torch.tensor([int(tl[row]) for row in range(len(tl))]) for tl in dataset.tls[1:]]
