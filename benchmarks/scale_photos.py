"""What the parts of benchmarks/scale.py share: photos of any ImageFolder, laid out or multiplied, and bars."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from winnow.catalog import Catalog
from winnow.images import BadImage, find_images, open_image

FEWEST = 8  # photos that a class of the sample must have: fewer can't be divided and fine-tuned


class TooFew(Exception):
    """The folder has too few classes or photos for this part."""


def bar(name: str, value, target: str, ok: bool) -> dict:
    return {"name": name, "value": value, "target": target, "ok": bool(ok)}


def not_measured(name: str, target: str, why: str) -> dict:
    return {"name": name, "value": f"not measured: {why}", "target": target, "ok": None}


def sample_photos(data: Path, count: int, *, seed: int = 0) -> list[tuple[Path, str]]:
    """At most `count` (file, class) pairs that can be read, drawn at random from all sides together."""
    files = find_images(data)
    random.Random(seed).shuffle(files)
    pairs: list[tuple[Path, str]] = []
    for file in files:
        if len(pairs) == count:
            break
        if _can_be_read(file):
            pairs.append((file, file.parent.name))
    if not pairs:
        raise TooFew(f"{data} holds no photos")
    return pairs


def _can_be_read(file: Path) -> bool:
    try:
        open_image(file)
    except BadImage:
        return False
    return True


def lay_out(data: Path, count: int, folder: Path) -> Catalog:
    """A catalog of `count` photos with a frozen split; classes with fewer than `FEWEST` of them are left out."""
    pairs = sample_photos(data, count)
    counts = Counter(label for _, label in pairs)
    kept = [(file, label) for file, label in pairs if counts[label] >= FEWEST]
    if len({label for _, label in kept}) < 2:
        raise TooFew(f"fewer than two classes of {data} have {FEWEST} photos among {len(pairs)}")
    for number, (file, label) in enumerate(kept):
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / label / f"{number:05}{file.suffix}")
    catalog = Catalog(folder)
    catalog.split()
    return catalog


def many_files(data: Path, count: int, folder: Path) -> list[Path]:
    """`count` files of different bytes: real photos, each with its number behind the end of the picture."""
    photos = [(file.read_bytes(), label, file.suffix) for file, label in sample_photos(data, 200)]
    files = []
    for number in range(count):
        content, label, suffix = photos[number % len(photos)]
        place = folder / label / f"{number:07}{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content + number.to_bytes(8, "big"))
        files.append(place)
    return files
