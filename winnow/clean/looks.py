"""How a picture looks at a glance: a small grey version, and vectors that find its copies among many pictures.

A vector is a perceptual hash before it is cut to bits: the picture at 24×24 pixels, with what all pictures of the
dataset share taken out (PCA whitening; Jégou and Chum 2012), so that solar cells, which look alike, differ again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from winnow.clean import opencv as cv2
from winnow.images import BadImage, open_image

SIDE = 256  # pixels of the grey version's longer side
GRID = 24  # pixels of a vector's picture
KEEP = 0.95  # share of the width and height that a cropped copy shows
TURNS = 8  # four rotations, each plain and mirrored


@dataclass(frozen=True)
class Look:
    """A picture at a glance."""

    packed: bytes  # the grey version, as a JPEG
    trim: tuple[int, int, int, int]  # left, top, right, bottom of what lies inside a plain border
    grids: np.ndarray  # (18, 24, 24) uint8: 8 turns, trimmed, 9 windows

    @property
    def grey(self) -> np.ndarray:
        """The grey version (h, w) uint8."""
        return cv2.imdecode(np.frombuffer(self.packed, np.uint8), cv2.IMREAD_GRAYSCALE)

    def trim_off(self, grey: np.ndarray) -> np.ndarray:
        """`grey` without the plain border; of the same shape where there is none."""
        left, top, right, bottom = self.trim
        return grey[top:bottom, left:right]


def look_at(file: Path) -> Look | None:
    """The look of an image file; None if it can't be read."""
    try:
        image = open_image(file, max_side=2 * SIDE).convert("L")
    except BadImage:
        return None
    image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    grey = np.asarray(image)
    packed = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    box = find_border(grey)
    return Look(packed, box, _grids(grey, box))


def look_at_all(files: Sequence[Path]) -> Iterator[Look | None]:
    """Looks in the order of `files`, made in threads."""
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        yield from pool.map(look_at, files)


def find_border(grey: np.ndarray, *, tolerance: int = 10) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) inside a plain border of at most a fifth of each side."""
    height, width = grey.shape
    top, bottom = _plain_edge(grey, tolerance), _plain_edge(grey[::-1], tolerance)
    left, right = _plain_edge(grey.T, tolerance), _plain_edge(grey.T[::-1], tolerance)
    return left, top, width - right, height - bottom


def _plain_edge(grey: np.ndarray, tolerance: int) -> int:
    """How many first rows are of one colour, the same for all of them."""
    rows = grey[: max(len(grey) // 5, 1)].astype(np.int16)
    plain = np.abs(rows - np.median(rows[0])).max(axis=1) <= tolerance
    count = int(plain.argmin()) if not plain.all() else len(plain)
    return 0 if count < 2 else min(count + 1, len(plain))  # one more: scaling mixes the border's last row


def _grids(grey: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    whole, left, top, right, bottom = _small(grey), *box
    turns = [turned(whole, turn) for turn in range(TURNS)]
    height, width = grey.shape
    free_y, free_x = height * (1 - KEEP), width * (1 - KEEP)
    windows = [
        _small(grey[y : y + round(height * KEEP), x : x + round(width * KEEP)])
        for y in (0, round(free_y / 2), round(free_y))
        for x in (0, round(free_x / 2), round(free_x))
    ]
    return np.stack([*turns, _small(grey[top:bottom, left:right]), *windows])


def _small(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(grey), (GRID, GRID), interpolation=cv2.INTER_AREA)


def turned(grey: np.ndarray, turn: int) -> np.ndarray:
    """A picture rotated by `turn // 2` quarters, then mirrored if `turn` is odd."""
    rotated = np.rot90(grey, turn // 2)
    return np.ascontiguousarray(rotated[:, ::-1] if turn % 2 else rotated)


class Whitening:
    """Takes out what the vectors of a dataset share, and scales what is left."""

    def __init__(
        self,
        sample: np.ndarray,  # (n, d)
        *,
        dimensions: int,
        floor: float = 0.01,  # of the largest deviation: what is below is noise
    ):
        self.mean = sample.mean(0)
        self.basis = None
        if len(sample) >= 64:  # too few pictures share nothing that could be told from chance
            values, vectors = np.linalg.eigh(np.cov((sample - self.mean).T))
            keep = min(dimensions, len(sample) // 4)
            scale = np.sqrt(np.maximum(values[::-1][:keep], 0))
            self.basis = (vectors[:, ::-1][:, :keep] / (scale + floor * scale[0])).astype(np.float32)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Unit vectors (n, k) float32."""
        centred = (vectors - self.mean).astype(np.float32)
        return _unit(centred if self.basis is None else centred @ self.basis)


def as_vectors(grids: np.ndarray) -> np.ndarray:
    """Grids (…, 24, 24) as vectors (…, 576) float32, free of brightness and contrast."""
    flat = grids.reshape(*grids.shape[:-2], -1).astype(np.float32)
    return _unit(flat - flat.mean(-1, keepdims=True))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
