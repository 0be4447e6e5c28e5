"""Scale: ranking recipes by probe against fine-tuning each, one Ray worker against two, cost against size.

    python benchmarks/scale.py --data FOLDER [--only ranking|fleet|growth|gpu] [--minutes 15] [--full]

FOLDER holds train/, validation/ and test/ class folders, or class folders. The last line is JSON; a bar that could
not be measured here says why, and its `ok` is null.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray keeps to 127.0.0.1
from scale_growth import GROWTH_BAR, MEMORY_BAR, ROOM, bench_growth
from scale_photos import TooFew, bar, lay_out, many_files, not_measured

BACKBONES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
SIZES = {"quick": [64, 96, 128], "full": [128, 160, 192]}
EPOCHS = 3  # what sweep.ipynb fine-tunes
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data" / "clothing"
GPU_BAR = "fine-tunings an hour on one GPU (224 px, 3,000 photos, 5 epochs, half precision)", ">= 60"
RANKING_BARS = {
    "probe time / fine-tuning time": "<= 0.1",
    "Kendall's tau, probe against fine-tuned": ">= 0.6",
    "best fine-tuned is among the probe's first three": "true",
}
FLEET_BARS = {"two Ray workers / one": ">= 1.6", "answers identical on one worker, two and none": "true"}
BARS_OF = {
    "ranking": RANKING_BARS,
    "fleet": FLEET_BARS,
    "gpu": dict([GPU_BAR]),
    "growth": {GROWTH_BAR: f"<= {ROOM}", MEMORY_BAR: "< 2048"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument(
        "--full", action="store_true", help="larger sizes and every count; hours on two cores"
    )
    parser.add_argument("--minutes", type=float, default=14, help="growth leaves out what would end later")
    parser.add_argument("--only", choices=["ranking", "fleet", "growth", "gpu"], help="one part alone")
    options = parser.parse_args()
    end = time.monotonic() + (options.minutes * 60 if not options.full else float("inf"))
    half = time.monotonic() + (end - time.monotonic()) * 0.55
    parts = {
        "ranking": lambda: bench_ranking(options.data, options.full, half),
        "fleet": lambda: bench_fleet(options.data, options.full),
        "gpu": lambda: bench_gpu(options.data),
        "growth": lambda: bench_growth(options.data, end),
    }
    bars = []
    for name, part in parts.items():
        if options.only in (None, name):
            bars += _bars_of(name, part)
    print(json.dumps({"bars": bars}))


def _bars_of(name: str, part) -> list[dict]:
    """A part's bars; a part that breaks is one bar with its reason, and the others go on."""
    try:
        return part()
    except TooFew as error:
        targets = BARS_OF[name].items()
        return [not_measured(bar_name, target, str(error)) for bar_name, target in targets]
    except Exception as error:
        traceback.print_exc()
        return [bar(name, f"broke: {type(error).__name__}: {error}", "to end", False)]


def _bars(targets: dict[str, str], values: list[tuple]) -> list[dict]:
    return [
        bar(name, value, target, ok)
        for (name, target), (value, ok) in zip(targets.items(), values, strict=True)
    ]


# -- ranking recipes --


def bench_ranking(data: Path, full: bool, end: float) -> list[dict]:
    """Does the order of the probes agree with the order of fine-tuning each, at a tenth of the time?"""
    from winnow.learn.sweep import make_recipes, run_trials

    recipes = make_recipes(BACKBONES, SIZES["full" if full else "quick"])
    made = _make_networks(recipes)
    with tempfile.TemporaryDirectory() as folder:
        catalog = lay_out(data, 1000, Path(folder) / "photos")
        photos, classes = len(catalog.photos()), len(catalog.classes)
        probes = _probes(run_trials, catalog, recipes)
        tuned = []
        while len(tuned) < len(recipes) and (time.monotonic() < end or len(tuned) < 3):
            tuned.append(_timed(run_trials, catalog, replace(recipes[len(tuned)], epochs=EPOCHS)))
    probes = probes[: len(tuned)]
    done = f"{len(tuned)} of {len(recipes)} recipes in time"
    show_ranking(
        [trial for trial, _ in probes],
        [trial for trial, _ in tuned],
        f"{photos} photos, {classes} classes, {EPOCHS} epochs; networks made in {made:.0f} s; {done}",
    )
    bars = _ranking_bars(probes, tuned)
    return (
        bars if len(tuned) == len(recipes) else [{**one, "name": f"{one['name']} ({done})"} for one in bars]
    )


def _probes(run_trials, catalog, recipes) -> list[tuple]:
    """The probes' trials in one go, as a sweep runs them; starting and decoding counts in equal parts."""
    began = time.perf_counter()
    trials = run_trials(catalog, recipes)
    rest = time.perf_counter() - began - sum(trial.seconds or 0 for trial in trials)
    return [(trial, (trial.seconds or 0) + rest / len(trials)) for trial in trials]


def _timed(run_trials, catalog, recipe) -> tuple:
    """A trial, and its seconds with its process's start."""
    began = time.perf_counter()
    (trial,) = run_trials(catalog, [recipe])
    return trial, time.perf_counter() - began


def _make_networks(recipes) -> float:
    """Seconds for the networks' ONNX files, which a machine makes once for all its datasets."""
    from winnow.learn.backbones import onnx_backbone

    began = time.perf_counter()
    for recipe in recipes:
        onnx_backbone(recipe.backbone, size=recipe.size)
    return time.perf_counter() - began


def _ranking_bars(probes: list[tuple], tuned: list[tuple]) -> list[dict]:
    both = [(p, t) for p, t in zip(probes, tuned, strict=True) if p[0].reason is None and t[0].reason is None]
    if len(both) < 3:
        why = next((t.reason for t, _ in [*probes, *tuned] if t.reason), "fewer than three recipes")
        return [not_measured(name, target, why) for name, target in RANKING_BARS.items()]
    share = sum(p[1] for p, _ in both) / sum(t[1] for _, t in both)
    probe, fine = (np.array([trial.error for trial, _ in side]) for side in zip(*both, strict=True))
    tau = kendall(probe, fine)
    agree = bool(fine[np.argsort(probe, kind="stable")[:3]].min() == fine.min())
    values = [(round(share, 3), share <= 0.1), (round(tau, 3), tau >= 0.6), (agree, agree)]
    return _bars(RANKING_BARS, values)


def kendall(first, second) -> float:
    """Kendall's tau-b; 0 where one side doesn't tell the recipes apart at all."""
    from scipy.stats import kendalltau

    return float(np.nan_to_num(kendalltau(first, second).statistic))


def show_ranking(probes, tuned, caption: str) -> None:
    table = Table(
        title="Recipes: probe against fine-tuned (error on the same validation photos)", caption=caption
    )
    for column in ("backbone", "size", "probe error", "s", "fine-tuned error", "s", "peak MB"):
        table.add_column(column, justify="left" if column == "backbone" else "right")
    for p, t in zip(probes, tuned, strict=True):
        table.add_row(p.recipe.backbone, str(p.recipe.size), *_cells(p)[:2], *_cells(t))
    Console(width=110).print(table)


def _cells(trial) -> list[str]:
    if trial.reason:
        return [trial.reason[:20], "", ""]
    return [f"{trial.error:.3f}", f"{trial.seconds:.1f}", f"{trial.peak_mb:.0f}"]


# -- one worker against two --


def bench_fleet(data: Path, full: bool) -> list[dict]:
    """Photos a second with one Ray worker and with two, in turn, each held to one thread; the answers compared."""
    from winnow.share.prediction import load_predictor

    if len(os.sched_getaffinity(0)) < 2:
        return [
            not_measured(name, target, "this machine has one core") for name, target in FLEET_BARS.items()
        ]
    export = Path(__file__).parents[1] / "export.pkl"
    rates: dict[int, list[float]] = {1: [], 2: []}
    answers: dict[int, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = many_files(data, 6000 if full else 2000, Path(folder).resolve())
        for _ in range(3):
            for workers in (1, 2):
                answers[workers], rate = _fleet_rate(export, files, workers)
                rates[workers].append(rate)
        here = load_predictor(export, threads=1).predict(files)
    alone = dict(zip(files, here, strict=True))
    same = answers[1] == answers[2] == alone
    _show_fleet(rates)
    ratio = statistics.median(rates[2]) / statistics.median(rates[1])
    return _bars(FLEET_BARS, [(round(ratio, 2), ratio >= 1.6), (same, same)])


def _fleet_rate(export: Path, files: list[Path], workers: int) -> tuple[dict, float]:
    """Answers by path, and photos a second between the first answers and the last: starting up isn't counted."""
    from winnow.share.fleet import predict_on_ray

    answers, times = {}, []
    for path, answer in predict_on_ray(export, files, workers=workers, batch_size=32):
        answers[path] = answer
        times.append(time.perf_counter())
    warm = 32 * 4  # the same for both
    return answers, (len(times) - warm) / (times[-1] - times[warm - 1])


def _show_fleet(rates: dict[int, list[float]]) -> None:
    table = Table(title="Ray Data: photos a second (three runs each, in turn)")
    for column in ("workers", "runs", "median"):
        table.add_column(column, justify="right")
    for workers, values in rates.items():
        table.add_row(str(workers), " ".join(f"{v:.0f}" for v in values), f"{statistics.median(values):.0f}")
    Console(width=110).print(table)


# -- fine-tunings an hour on one GPU --


def bench_gpu(data: Path) -> list[dict]:
    """Fine-tunings an hour at 224 px on 3,000 photos, where there is a GPU; nothing is claimed where there is none."""
    import torch

    if not torch.cuda.is_available():
        return [not_measured(*GPU_BAR, "there is no GPU here")]
    from winnow.learn.sweep import Recipe, run_trials

    with tempfile.TemporaryDirectory() as folder:
        catalog = lay_out(data, 3000, Path(folder) / "photos")
        began = time.perf_counter()
        trials = run_trials(catalog, [Recipe(size=224, epochs=5, seed=seed) for seed in range(3)])
        per_hour = len(trials) * 3600 / (time.perf_counter() - began)
    if failed := [trial.reason for trial in trials if trial.reason]:
        return [bar(GPU_BAR[0], failed[0], GPU_BAR[1], False)]
    return [bar(GPU_BAR[0], round(per_hour), GPU_BAR[1], per_hour >= 60)]


if __name__ == "__main__":
    main()
