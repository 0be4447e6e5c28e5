"""Scale: ranking recipes by probe against fine-tuning each, one Ray worker against two, cost against size.

    python benchmarks/scale.py --data FOLDER [--full]

FOLDER holds train/, validation/ and test/ class folders, or class folders. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray keeps to 127.0.0.1
from winnow.catalog import Catalog
from winnow.images import find_images

BACKBONES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
SIZES = {"quick": [64, 96, 128], "full": [128, 160, 192]}
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data" / "clothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument(
        "--full", action="store_true", help="the issue's sizes and three epochs; hours on two cores"
    )
    parser.add_argument("--only", choices=["ranking", "fleet", "growth", "gpu"], help="one part alone")
    options = parser.parse_args()
    parts = {"ranking": bench_ranking, "fleet": bench_fleet, "growth": bench_growth, "gpu": bench_gpu}
    bars = []
    for name, part in parts.items():
        if options.only in (None, name):
            bars += part(options.data, options.full)
    print(json.dumps({"bars": bars}))


def bar(name: str, value, target: str, ok: bool) -> dict:
    return {"name": name, "value": value, "target": target, "ok": bool(ok)}


def sample_photos(data: Path, count: int, *, seed: int = 0) -> list[tuple[Path, str]]:
    """`count` (file, class) pairs drawn at random from all sides together."""
    files = sorted((file, file.parent.name) for file in find_images(data))
    return random.Random(seed).sample(files, min(count, len(files)))


def lay_out(pairs: list[tuple[Path, str]], folder: Path) -> Catalog:
    for file, label in pairs:
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / label / file.name)
    catalog = Catalog(folder)
    catalog.split()
    return catalog


# -- ranking recipes --


def bench_ranking(data: Path, full: bool) -> list[dict]:
    """Does the order of the probes agree with the order of fine-tuning each, at a tenth of the time?"""
    from dataclasses import replace

    from winnow.learn.sweep import make_recipes, run_trials

    with tempfile.TemporaryDirectory() as folder:
        catalog = lay_out(sample_photos(data, 1000), Path(folder) / "photos")
        recipes = make_recipes(BACKBONES, SIZES["full" if full else "quick"])
        began = time.perf_counter()
        probes = run_trials(catalog, recipes)
        between = time.perf_counter()
        tuned = run_trials(catalog, [replace(r, epochs=3 if full else 1) for r in recipes])
        seconds = between - began, time.perf_counter() - between
    show_ranking(probes, tuned)
    tau = kendall([p.error for p in probes], [t.error for t in tuned])
    first = set(np.argsort([p.error for p in probes], kind="stable")[:3])
    best = min(t.error for t in tuned)
    agree = any(tuned[i].error == best for i in first)
    share = seconds[0] / seconds[1]
    return [
        bar("probe time / fine-tuning time", round(share, 3), "<= 0.1", share <= 0.1),
        bar("Kendall's tau, probe against fine-tuned", round(tau, 3), ">= 0.6", tau >= 0.6),
        bar("best fine-tuned is among the probe's first three", agree, "true", agree),
    ]


def kendall(first: list[float], second: list[float]) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def show_ranking(probes, tuned) -> None:
    table = Table(title="Recipes: probe against fine-tuned (error on the same validation photos)")
    for column in ("backbone", "size", "probe error", "s", "fine-tuned error", "s", "peak MB"):
        table.add_column(column, justify="left" if column == "backbone" else "right")
    for p, t in zip(probes, tuned, strict=True):
        cells = [p.recipe.backbone, p.recipe.size, f"{p.error:.3f}", f"{p.seconds:.1f}"]
        cells += [f"{t.error:.3f}", f"{t.seconds:.1f}", f"{t.peak_mb:.0f}"]
        table.add_row(*map(str, cells))
    Console(width=110).print(table)


# -- one worker against two --


def bench_fleet(data: Path, full: bool) -> list[dict]:
    """Photos a second with one Ray worker and with two, in turn, each held to one thread; the answers compared."""
    from winnow.share.prediction import load_predictor

    export = Path(__file__).parents[1] / "export.pkl"
    files = [file for file, _ in sample_photos(data, 3000 if full else 2000)]
    rates: dict[int, list[float]] = {1: [], 2: []}
    labels: dict[int, dict] = {}
    for _ in range(3):
        for workers in (1, 2):
            labels[workers], rate = _fleet_rate(export, files, workers)
            rates[workers].append(rate)
    here = load_predictor(export, threads=1).predict(files[:200])
    same = labels[1] == labels[2] and all(
        labels[1][f.resolve()] == a.label for f, a in zip(files, here, strict=False)
    )
    ratio = statistics.median(rates[2]) / statistics.median(rates[1])
    table = Table(title="Ray Data: photos a second (medians of 3, in turn)")
    table.add_column("workers")
    table.add_column("photos/s", justify="right")
    for workers, values in rates.items():
        table.add_row(str(workers), f"{statistics.median(values):.0f}")
    Console(width=110).print(table)
    return [
        bar("two Ray workers / one", round(ratio, 2), ">= 1.6", ratio >= 1.6),
        bar("answers identical on one worker, two and none", same, "true", same),
    ]


def _fleet_rate(export: Path, files: list[Path], workers: int) -> tuple[dict, float]:
    """Labels by path, and photos a second between the first answers and the last: starting up isn't counted."""
    from winnow.share.fleet import predict_on_ray

    labels, times = {}, []
    for path, answer in predict_on_ray(export, files, workers=workers, batch_size=32):
        labels[path] = answer.label
        times.append(time.perf_counter())
    warm = 32 * workers * 2
    return labels, (len(times) - warm) / (times[-1] - times[warm - 1])


# -- cost against size --

CLASSES = 10
WIDTH = 1280


def bench_growth(data: Path, full: bool) -> list[dict]:
    """Seconds and peak memory of each step at 10^3, 10^4 and 10^5; each cell in a process of its own."""
    steps = {
        "import": [10**3, 10**4, 10**5],
        "probe": [10**3, 10**4, 10**5],
        "suspects": [10**3, 10**4, 10**5],
    }
    steps |= {name: [10**3, 10**4] + [10**5] * full for name in ("features", "predict")}
    table = Table(title="Cost against size")
    for column in ("step", "images", "seconds", "s per 1,000", "peak MB", "n log n would be"):
        table.add_column(column, justify="left" if column == "step" else "right")
    worst, peak = {}, 0.0
    for step, counts in steps.items():
        first = None
        for count in counts:
            seconds, memory = _measure(step, count, data)
            peak = max(peak, memory)
            first = first or seconds
            allowed = first * count * np.log(count) / (counts[0] * np.log(counts[0]))
            worst[step] = seconds / allowed  # of the largest count, as the last one stays
            row = [
                f"{count:,}",
                f"{seconds:.1f}",
                f"{seconds / count * 1000:.2f}",
                f"{memory:.0f}",
                f"{allowed:.1f}",
            ]
            table.add_row(step, *row)
    Console(width=110).print(table)
    slowest = max(worst, key=worst.get)
    return [
        bar(
            f"growth against n log n, worst step ({slowest})",
            round(worst[slowest], 2),
            "<= 1.1 (a tenth for noise)",
            worst[slowest] <= 1.1,
        ),
        bar("peak memory of any step, MB", round(peak), "< 2048", peak < 2048),
    ]


def _measure(step: str, count: int, data: Path) -> tuple[float, float]:
    """Seconds of the step itself and the peak memory (MB) of its process."""
    command = [sys.executable, __file__, "--child", step, str(count), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{step} at {count} failed: {done.stderr[-2000:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def child(step: str, count: int, data: Path) -> None:
    """One step at one size, as its own process."""
    import resource

    with tempfile.TemporaryDirectory() as folder:
        run = {"import": _import, "features": _features, "predict": _predict}.get(step)
        work = (
            run(count, data, Path(folder)) if run else {"probe": _probe, "suspects": _suspects}[step](count)
        )
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def many_files(data: Path, count: int, folder: Path) -> list[Path]:
    """`count` files of different bytes: real photos, each with its number behind the end of the picture."""
    photos = [(file.read_bytes(), label) for file, label in sample_photos(data, 200)]
    files = []
    for i in range(count):
        content, label = photos[i % len(photos)]
        place = folder / label / f"{i:07}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content + i.to_bytes(8, "big"))
        files.append(place)
    return files


def _import(count: int, data: Path, folder: Path):
    many_files(data, count, folder)
    return lambda: Catalog(folder)


def _features(count: int, data: Path, folder: Path):
    from winnow.learn.features import extract_features

    files = many_files(data, count, folder)
    extract_features(files[:16], size=128)  # the network is loaded and exported before the clock starts
    return lambda: extract_features(files, size=128, cache=folder / ".cache")


def _predict(count: int, data: Path, folder: Path):
    from winnow.share.prediction import load_predictor

    files = many_files(data, count, folder)
    predictor = load_predictor(Path(__file__).parents[1] / "export.pkl")
    return lambda: predictor.predict(files)


def made_features(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features in clusters, one a class, with 5 % of the labels wrong."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=count)
    centres = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    features = rng.standard_normal((count, WIDTH), dtype=np.float32)
    for start in range(0, count, 10_000):
        features[start : start + 10_000] += centres[labels[start : start + 10_000]] * 0.3
    wrong = rng.random(count) < 0.05
    labels[wrong] = rng.integers(CLASSES, size=wrong.sum())
    return features, labels


def _probe(count: int):
    from winnow.learn.probe import fit_probe

    features, labels = made_features(count)
    return lambda: fit_probe(features, labels, n_classes=CLASSES)


def _suspects(count: int):
    from winnow.clean.scoring import score_labels

    features, labels = made_features(count)
    return lambda: score_labels([features], labels, n_classes=CLASSES)


# -- fine-tunings an hour on one GPU --


def bench_gpu(data: Path, full: bool) -> list[dict]:
    """Fine-tunings an hour at 224 px on 3,000 photos, where there is a GPU; nothing is claimed where there is none."""
    import torch

    if not torch.cuda.is_available():
        Console().print("No GPU here: fine-tunings an hour were not measured.")
        return []
    from winnow.learn.sweep import Recipe, run_trials

    with tempfile.TemporaryDirectory() as folder:
        catalog = lay_out(sample_photos(data, 3000), Path(folder) / "photos")
        began = time.perf_counter()
        trials = run_trials(catalog, [Recipe(size=224, epochs=5, seed=seed) for seed in range(3)])
        per_hour = len(trials) * 3600 / (time.perf_counter() - began)
    return [bar("fine-tunings an hour on one GPU", round(per_hour), ">= 60", per_hour >= 60)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
