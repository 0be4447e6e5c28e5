"""Random crops (RandomResizedCrop) from cached pixels: a box of its own for each photo, a whole batch cut at once.

A photo is decoded once, squished to a square a bit larger than the crops (`source_size`); a box drawn in the photo's
own proportions is a box of that square. fastai's item transform decodes the whole photo for each crop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fastai.data.core import DataLoaders
from fastai.vision.core import TensorImage
from torchvision.transforms import RandomResizedCrop

from winnow.learn.resident import ResidentPhotos, labels_of

SMALLEST = 0.5  # share of the photo's area that a crop shows at least
RATIO = (3 / 4, 4 / 3)  # of a crop's width to its height


class ResidentCrops(ResidentPhotos):
    """`ResidentPhotos` that gives a new random crop of each photo in each batch, (b, 3, size, size) in 0..255."""

    def __init__(
        self,
        pixels: Sequence[np.ndarray],  # one squished (s, s, 3) uint8 array a photo
        labels: Sequence[torch.Tensor],
        shapes: Sequence[tuple[int, int]],  # each photo's own width and height
        size: int,
    ):
        super().__init__(pixels, labels)
        self.shapes, self.size = list(shapes), size

    def batch(self, rows: Sequence[int], device: torch.device | None) -> tuple:
        """Crops, then each target's labels (b,)."""
        images, *labels = super().batch(rows, device)
        boxes = draw_boxes([self.shapes[row] for row in rows])
        return (TensorImage(cut(images.as_subclass(torch.Tensor), boxes, self.size)), *labels)


def source_size(size: int) -> int:
    """The side of the square that crops of `size` are cut from: the smallest crop still has about `size` pixels."""
    return math.ceil(size / math.sqrt(SMALLEST) / 32) * 32


def draw_boxes(shapes: Sequence[tuple[int, int]]) -> torch.Tensor:
    """A random box (n, 4) for each photo's width and height: left, top, width, height as shares of the photo."""
    boxes = []
    for width, height in shapes:
        blank = torch.empty(1, height, width, device="meta")
        top, left, h, w = RandomResizedCrop.get_params(blank, (SMALLEST, 1.0), RATIO)
        boxes.append((left / width, top / height, w / width, h / height))
    return torch.tensor(boxes)


def cut(images: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """The `boxes` (b, 4) of `images` (b, 3, s, s), each resized to (size, size): (b, 3, size, size) float."""
    left, top, width, height = boxes.to(images.device).T
    zero = torch.zeros_like(left)
    across = torch.stack([width, zero, 2 * left + width - 1], dim=1)  # grid_sample counts from -1 to 1
    down = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    grid = F.affine_grid(
        torch.stack([across, down], dim=1), (len(images), 3, size, size), align_corners=False
    )
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def hold_crops(
    dls: DataLoaders, pixels: Mapping[Path, np.ndarray], shapes: Mapping[Path, tuple[int, int]], size: int
) -> DataLoaders:
    """Let the training loader cut random crops of `size` from squished `pixels`, where these hold every item."""
    files = list(dls.train_ds.items)
    if files and all(file in pixels for file in files):
        labels, own = labels_of(dls.train_ds), [shapes[file] for file in files]
        dls.train.hold(ResidentCrops([pixels[file] for file in files], labels, own, size))
    return dls
