"""Winnow against imagededup at finding near-duplicates: planted copies among real photos, and 10,000 images in time.

    python benchmarks/duplicates.py                      # the sample's cells, which look alike
    python benchmarks/duplicates.py --data FOLDER        # 2,000 photos of FOLDER with 500 planted copies, too

Copies are resized, recompressed, cropped by 5 %, bordered, watermarked, mirrored and grey, each kind equally often.
imagededup's own CNN weights come from a hub; offline its method runs on the features of Winnow's backbone.
"""

from __future__ import annotations

import argparse
import json
import logging
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
from winnow.images import find_images, open_image

Pairs = set[frozenset[Path]]


def main() -> None:
    """Run what was asked for; the last line is JSON."""
    asked = _arguments()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore", RuntimeWarning)  # imagededup: "num_enc_workers has no effect"
    bars = []
    with tempfile.TemporaryDirectory() as folder:
        sources = {"cells": _cells()} | ({"photos": find_images(asked.data)} if asked.data else {})
        for name, files in sources.items():
            bars += _planted(name, files, Path(folder) / name, asked)
        if not asked.quick:
            bars += _in_time(sources.get("photos", sources["cells"]), Path(folder) / "many", asked.many)
    print(json.dumps({"bars": bars}))


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
    parser.add_argument("--no-peers", action="store_true")
    return parser.parse_args()


def _cells() -> list[Path]:
    import elpv_dataset

    return find_images(Path(elpv_dataset.__file__).parent / "data")


def _planted(name: str, files: list[Path], folder: Path, asked) -> list[dict]:
    """Plant copies, let each method find them, print a table."""
    folder.mkdir()
    chosen = sorted(random.Random(asked.seed).sample(files, min(asked.photos, len(files))))
    truth = plant_copies(chosen, folder, count=asked.copies, seed=asked.seed)
    everything = [*chosen, *truth]
    print(f"\n{name}: {len(chosen)} photos, {len(truth)} copies")
    print(
        f"{'':34}{'recall':>8}{'precision':>11}{'seconds':>9}   " + "  ".join(f"{kind:>12}" for kind in KINDS)
    )
    methods: dict[str, Callable] = {"Winnow": _winnow, "imagededup PHash (distance 10)": _phash}
    methods["imagededup CNN 0.9, Lite0 weights"] = _cnn
    scores = {}
    for title, method in list(methods.items())[: 1 if asked.no_peers else None]:
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
    kinds = "  ".join(f"{hits[kind] / total[kind]:12.3f}" for kind in KINDS)
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
    """Hash, compare and group `count` different images: quarters of photos, with one copy in twenty."""
    folder.mkdir()
    quarters = _write_quarters(files, folder, round(count / 1.05))
    truth = plant_copies(quarters, folder, count=count - len(quarters))
    start, busy = time.perf_counter(), time.process_time()
    found = _winnow([*quarters, *truth])
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"\n{count} images hashed, compared and grouped: {seconds:.0f} s ({busy:.0f} s of processor time)")
    _score("Winnow", found, truth, seconds)
    return [_bar(f"duplicates: seconds for {count} images", seconds, 120, least=False)]


def _write_quarters(files: list[Path], folder: Path, count: int) -> list[Path]:
    written: list[Path] = []
    for file in files:
        image = open_image(file)
        width, height = image.width // 2, image.height // 2
        for x, y in ((0, 0), (width, 0), (0, height), (width, height)):
            if len(written) == count:
                return written
            written.append(folder / f"{len(written):06}.jpg")
            image.crop((x, y, x + width, y + height)).resize((2 * width, 2 * height)).save(
                written[-1], quality=90
            )
    return written


def _bar(name: str, value: float, target: float, *, least: bool = True) -> dict:
    ok = value >= target if least else value <= target
    return {"name": name, "value": round(float(value), 4), "target": target, "ok": bool(ok)}


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
