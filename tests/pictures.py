"""Small pictures that tests make for themselves."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write `counts[label]` different small PNG files into each class folder."""
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder
