"""Winnow against imagededup at finding near-duplicates: planted copies among real photos, and 10,000 images in time.

    python benchmarks/duplicates.py                      # the sample's cells, which look alike
    python benchmarks/duplicates.py --data FOLDER        # 2,000 photos of FOLDER with 500 planted copies, too

Copies are resized, recompressed, cropped by 5 %, bordered, watermarked, mirrored and grey, each kind equally often.
imagededup's own CNN weights come from a hub; offline its method runs on the features of Winnow's backbone.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import math
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from planted import KINDS, plant_copies

from winnow.clean.duplicates import find_duplicates
from winnow.images import BadImage, find_images, open_image, sha256_of

Pairs = set[frozenset[Path]]


def main() -> None:
    """Run what was asked for; the last line is JSON."""
    asked = _arguments()
    print(json.dumps({"bars": measure(asked.data, **{k: v for k, v in vars(asked).items() if k != "data"})}))


def measure(
    data: Path | None = None,
    *,
    photos: int = 2000,
    copies: int = 500,
    many: int = 10_000,
    seed: int = 0,
    quick: bool = False,
    peers: bool = True,
) -> list[dict]:
    """Every bar, as `{name, value, target, ok}`; a table on the way."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore", RuntimeWarning)  # imagededup: "num_enc_workers has no effect"
    sources = {"cells": _cells()} | ({"photos": _readable(find_images(data))} if data else {})
    bars = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in sources.items():
            chosen = sorted(random.Random(seed).sample(files, min(photos, len(files))))
            bars += _planted(name, chosen, Path(folder) / name, min(copies, len(chosen)), seed, peers)
        if not quick:
            bars += _in_time(list(sources.values())[-1], Path(folder) / "many", many)
    return bars


def _readable(files: list[Path]) -> list[Path]:
    """One file for each content that can be opened: what is broken or there twice proves nothing about copies."""
    found: dict[str, Path] = {}
    for file in files:
        with contextlib.suppress(BadImage):
            open_image(file, max_side=32)
            found.setdefault(sha256_of(file), file)
    if len(found) < 100:
        raise SystemExit(
            f"Only {len(found)} different photos could be read: give --data a folder of 100 or more."
        )
    return list(found.values())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder of photos")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--many", type=int, default=10_000, help="images in the run against time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="leave out the run against time")
    parser.add_argument("--no-peers", action="store_false", dest="peers", help="leave imagededup out")
    return parser.parse_args()


def _cells() -> list[Path]:
    import elpv_dataset

    return find_images(Path(elpv_dataset.__file__).parent / "data")


def _planted(name: str, chosen: list[Path], folder: Path, copies: int, seed: int, peers: bool) -> list[dict]:
    """Plant copies, let each method find them, print a table."""
    folder.mkdir()
    truth = plant_copies(chosen, folder, count=copies, seed=seed)
    everything = [*chosen, *truth]
    print(f"\n{name}: {len(chosen)} photos, {len(truth)} copies")
    print(
        f"{'':34}{'recall':>8}{'precision':>11}{'seconds':>9}   " + "  ".join(f"{kind:>12}" for kind in KINDS)
    )
    methods: dict[str, Callable] = {"Winnow": _winnow, "imagededup PHash (distance 10)": _phash}
    methods["imagededup CNN 0.9, Lite0 weights"] = _cnn
    scores = {}
    for title, method in list(methods.items())[: None if peers else 1]:
        start = time.perf_counter()
        found = method(everything)
        scores[title] = _score(title, found, truth, time.perf_counter() - start)
    recall, precision = scores["Winnow"]
    least = 0 if name == "cells" else 0.95  # recall among look-alikes goes as far as it goes
    return [
        _bar(f"duplicates: recall on {name}", recall, least),
        _bar(f"duplicates: precision on {name}", precision, 0.99),
    ]


def _score(title: str, found: Pairs, truth: dict, seconds: float) -> tuple[float, float]:
    """Recall over copies; precision over pairs, where a pair of two different originals counts as wrong."""
    wanted = {frozenset((copy, original)): kind for copy, (original, kind) in truth.items()}
    total = Counter(wanted.values())
    hits = Counter(kind for pair, kind in wanted.items() if pair in found)
    original = {copy: photo for copy, (photo, _) in truth.items()}
    wrong = [pair for pair in found if len({original.get(file, file) for file in pair}) > 1]
    recall, precision = hits.total() / len(wanted), 1 - len(wrong) / max(len(found), 1)
    kinds = "  ".join(f"{hits[kind] / max(total[kind], 1):12.3f}" for kind in KINDS)
    print(f"{title:34}{recall:8.3f}{precision:11.3f}{seconds:9.1f}   {kinds}", flush=True)
    for pair in sorted(map(sorted, wrong))[:5] if title == "Winnow" else []:
        print("    counted as wrong:", *[file.name for file in pair])
    return recall, precision


def _winnow(files: list[Path]) -> Pairs:
    return {frozenset((Path(a), Path(b))) for a, b, _ in find_duplicates(files).pairs}


def _phash(files: list[Path]) -> Pairs:
    from imagededup.methods import PHash

    method = PHash(verbose=False)
    codes = {str(file): method.encode_image(str(file)) for file in files}
    return _as_pairs(method.find_duplicates(encoding_map=codes, max_distance_threshold=10))


def _cnn(files: list[Path]) -> Pairs:
    import torch
    from imagededup.methods import CNN
    from imagededup.utils import CustomModel

    from winnow.learn.features import extract_features

    model = CustomModel(name="lite0", model=torch.nn.Identity(), transform=lambda image: image)
    codes = dict(zip(map(str, files), extract_features(files), strict=True))
    method = CNN(verbose=False, model_config=model)
    return _as_pairs(method.find_duplicates(encoding_map=codes, min_similarity_threshold=0.9))


def _as_pairs(found: dict[str, list[str]]) -> Pairs:
    return {frozenset((Path(name), Path(other))) for name, others in found.items() for other in others}


def _in_time(files: list[Path], folder: Path, count: int) -> list[dict]:
    """Hash, compare and group `count` different images: parts of photos, with one copy in twenty."""
    folder.mkdir()
    parts = _write_parts(files, folder, round(count / 1.05))
    truth = plant_copies(parts, folder, count=count - len(parts))
    start, busy = time.perf_counter(), time.process_time()
    found = _winnow([*parts, *truth])
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"\n{count} images hashed, compared and grouped: {seconds:.0f} s ({busy:.0f} s of processor time)")
    _score("Winnow", found, truth, seconds)
    return [_bar(f"duplicates: seconds for {count} images", seconds, 120, least=False)]


def _write_parts(files: list[Path], folder: Path, count: int) -> list[Path]:
    """`count` different pictures: each photo cut into as many parts, in rows and columns, as it takes."""
    written: list[Path] = []
    grid = max(2, math.ceil(math.sqrt(count / len(files))))
    for place, file in itertools.product(range(grid * grid), files):
        if len(written) == count:
            break
        image = open_image(file)
        width, height = image.width // grid, image.height // grid
        x, y = place % grid * width, place // grid * height
        written.append(folder / f"{len(written):06}.jpg")
        part = image.crop((x, y, x + width, y + height))
        part.resize((round(image.width * 0.9), round(image.height * 0.9))).save(written[-1], quality=90)
    return written


def _bar(name: str, value: float, target: float, *, least: bool = True) -> dict:
    ok = value >= target if least else value <= target
    return {"name": name, "value": round(float(value), 4), "target": target, "ok": bool(ok)}


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
