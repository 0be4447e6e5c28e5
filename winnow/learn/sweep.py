"""Which backbone, size and resize method suits this dataset: probes first, fine-tuning only for the best.

After Howard & Capelle's comparison of timm's backbones for fine-tuning ("Which image models are best for
fine-tuning?", 2022): each recipe is one row with its error, its time and its peak memory. Trials run one at
a time in processes of their own, or on a Ray cluster; a finished trial is in the catalog's journal and is not run
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.catalog import Catalog
from winnow.cluster import connect_ray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Recipe:
    """What one trial does: a probe on frozen features, or (with `epochs`) fine-tuning from that probe."""

    backbone: str = "tf_efficientnet_lite0"
    size: int = 192  # pixels
    method: str = "squish"
    epochs: int = 0  # 0: the probe alone
    seed: int = 42

    @property
    def stage(self) -> str:
        """ "probe" or "fine_tune"."""
        return "fine_tune" if self.epochs else "probe"


@dataclass(frozen=True)
class Trial:
    """One finished recipe: its scores on the frozen split and what it cost, or the reason why there are none."""

    recipe: Recipe
    error: float | None = None  # share of validation photos answered wrongly
    macro_f1: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None  # resident memory of its process at the most
    reason: str | None = None  # why it failed, in a sentence

    def __str__(self) -> str:
        r = self.recipe
        result = self.reason or f"error {self.error:.3f}   {self.seconds:5.1f} s   {self.peak_mb:5.0f} MB"
        return f"{r.stage:9} {r.backbone:24} {r.size:4} {r.method:7} {result}"


FAULTS = (MemoryError, ValueError, RuntimeError, OSError, ImportError)  # of one recipe: the others go on


class NoSplit(ValueError):
    """The dataset has no validation photos yet, so no recipe could be scored."""


def make_recipes(
    backbones: Sequence[str], sizes: Sequence[int], methods: Sequence[str] = ("squish",), *, seed: int = 42
) -> list[Recipe]:
    """Every combination, as probes."""
    return [Recipe(b, s, m, seed=seed) for b, s, m in itertools.product(backbones, sizes, methods)]


def sweep(
    catalog: Catalog,
    recipes: Iterable[Recipe],
    *,
    fine_tune_best: int = 3,  # this many of the best probes are fine-tuned; 0 for none
    epochs: int = 3,
    ray_address: str | None = None,  # "local", "auto" or an address; None runs here, without Ray
    report: Callable[[Trial], None] = lambda trial: None,  # called as each trial ends
) -> list[Trial]:
    """Run `recipes` as probes, then the best of them as fine-tunings; best first, failures last.

    A trial that the catalog's journal holds for the same photos, labels and split is taken from there. With Ray,
    every machine must see the catalog's folder under the same path. Raises `NoSplit`, and `NoRay` or `NoCluster`.
    """
    probes = run_trials(catalog, recipes, ray_address=ray_address, report=report)
    best = [trial.recipe for trial in rank(probes) if trial.reason is None][:fine_tune_best]
    tuned = [replace(recipe, epochs=epochs) for recipe in best]
    return rank(probes + run_trials(catalog, tuned, ray_address=ray_address, report=report))


def rank(trials: Iterable[Trial]) -> list[Trial]:
    """Fewest errors first, the quicker one first among equals, failures at the end."""
    return sorted(trials, key=lambda t: (t.reason is not None, t.error or 0.0, t.seconds or 0.0))


def run_trials(
    catalog: Catalog,
    recipes: Iterable[Recipe],
    *,
    ray_address: str | None = None,
    report: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """A trial for each recipe, in their order; finished ones come from the journal, new ones go into it."""
    if not catalog.photos(split="valid"):
        raise NoSplit(f"{catalog.folder.name} has no validation photos: call catalog.split() first.")
    state = dataset_state(catalog)
    known = dict(_finished(catalog, state))
    recipes = list(dict.fromkeys(recipes))
    for trial in map(known.get, recipes):
        if trial:
            report(trial)
    missing = [recipe for recipe in recipes if recipe not in known]
    runner = _on_ray if ray_address else _here
    for trial in runner(str(catalog.folder), missing, ray_address) if missing else ():
        known[trial.recipe] = trial
        params = {**asdict(trial.recipe), "state": state}
        catalog.record_run("sweep", params, {k: v for k, v in asdict(trial).items() if k != "recipe"})
        report(trial)
    return [known[recipe] for recipe in recipes]


def dataset_state(catalog: Catalog) -> str:
    """A digest of what a score depends on: each photo's bytes, label and side."""
    rows = sorted(f"{photo.sha256} {photo.label} {photo.split}" for photo in catalog.photos())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def run_trial(folder: str, recipe: Recipe) -> Trial:
    """Run one recipe on the catalog in `folder`, in this process; a failure is a value with its reason."""
    began = time.monotonic()
    try:
        scores = (_fine_tune if recipe.epochs else _probe)(Catalog(folder), recipe)
    except FAULTS as error:
        return Trial(recipe, reason=_first_sentence(error))
    return Trial(
        recipe,
        error=1 - scores.accuracy,
        macro_f1=scores.macro_f1,
        seconds=time.monotonic() - began,
        peak_mb=_peak_mb(),
    )


def _probe(catalog: Catalog, recipe: Recipe):
    import numpy as np
    from threadpoolctl import threadpool_limits

    from winnow.learn.evaluation import evaluate
    from winnow.learn.features import extract_features
    from winnow.learn.probe import fit_probe

    features = extract_features(catalog, backbone=recipe.backbone, size=recipe.size, method=recipe.method)
    photos, classes = catalog.photos(), catalog.classes
    labels = np.array([classes.index(photo.label) for photo in photos])
    train, valid = (np.array([photo.split == side for photo in photos]) for side in ("train", "valid"))
    # the probe's many small products would wait for each other's threads, the longer on busy cores
    with threadpool_limits(1):
        probe = fit_probe(features[train], labels[train], n_classes=len(classes), seed=recipe.seed)
    return evaluate(labels[valid], probe.predict_proba(features[valid]), classes)


def _fine_tune(catalog: Catalog, recipe: Recipe):
    """The fine-tuned weights' own scores, also where the probe's are better: that one has a row of its own."""
    from winnow.learn.loaders import make_loaders
    from winnow.learn.training import fine_tune, make_learner

    dls = make_loaders(catalog, size=recipe.size, method=recipe.method, seed=recipe.seed)
    learn = make_learner(dls, backbone=recipe.backbone)
    with learn.no_bar(), learn.no_logging():
        return fine_tune(learn, recipe.epochs, keep="last").after


def _here(folder: str, recipes: Sequence[Recipe], address: str | None) -> Iterator[Trial]:
    """One process for each trial, one at a time: its memory is its own, and its death costs one row."""
    if len({recipe.size for recipe in recipes}) > 1:
        # where this fails each trial decodes for itself, and says what is wrong with it
        with contextlib.suppress(*FAULTS):
            _in_process(_decode, folder, recipes)
    for recipe in recipes:
        try:
            yield _in_process(run_trial, folder, recipe)
        except BrokenProcessPool:
            yield Trial(recipe, reason=DIED)


def _in_process(work: Callable, *arguments):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _decode(folder: str, recipes: Sequence[Recipe]) -> None:
    """Decode each photo once for all sizes; reading a large photo costs more than any of the probes' networks."""
    from winnow.learn.pixels import cache_sizes

    catalog = Catalog(folder)
    files = {photo.sha256: catalog.file(photo.path) for photo in catalog.photos()}
    for method in dict.fromkeys(recipe.method for recipe in recipes):
        sizes = sorted({recipe.size for recipe in recipes if recipe.method == method})
        cache_sizes(files, sizes=sizes, method=method, cache=catalog.cache)


DIED = "Its process was killed, most often for want of memory: choose a smaller size or backbone."


def _on_ray(folder: str, recipes: Sequence[Recipe], address: str | None) -> Iterator[Trial]:
    """Ray schedules the trials over its nodes and runs a trial again whose worker was killed."""
    ray = connect_ray(address)
    remote = ray.remote(num_cpus=1, max_retries=2, max_calls=1)(
        run_trial
    )  # max_calls: memory measured afresh
    running = {remote.remote(folder, recipe): recipe for recipe in recipes}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        recipe = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError:
            yield Trial(recipe, reason=DIED)


def _finished(catalog: Catalog, state: str) -> Iterator[tuple[Recipe, Trial]]:
    for run in catalog.runs():
        if run.kind == "sweep" and run.params.get("state") == state and run.metrics.get("reason") is None:
            recipe = Recipe(**{key: value for key, value in run.params.items() if key != "state"})
            yield recipe, Trial(recipe, **run.metrics)


def sweep_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row for each trial, as `rank` orders them."""
    import pandas as pd

    rows = [{**asdict(t.recipe), **asdict(t), "stage": t.recipe.stage} for t in rank(trials)]
    columns = [
        "stage",
        "backbone",
        "size",
        "method",
        "epochs",
        "error",
        "macro_f1",
        "seconds",
        "peak_mb",
        "reason",
    ]
    return pd.DataFrame(rows, columns=columns)


def plot_sweep(trials: Sequence[Trial], *, ax: Axes | None = None) -> Axes:
    """Error against time: a colour for each backbone, a mark for each stage, the size of a dot is peak memory."""
    import matplotlib.pyplot as plt

    ax = ax or plt.subplots(figsize=(7, 4))[1]
    done = [trial for trial in trials if trial.reason is None]
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(t.recipe.backbone for t in done))}
    for trial in done:
        mark, colour = {"probe": "o", "fine_tune": "D"}[trial.recipe.stage], colours[trial.recipe.backbone]
        ax.scatter(trial.seconds, trial.error, s=trial.peak_mb / 10, marker=mark, color=colour, alpha=0.7)
        ax.annotate(
            str(trial.recipe.size), (trial.seconds, trial.error), fontsize=8, ha="center", va="center"
        )
    for name, colour in colours.items():
        ax.scatter([], [], color=colour, label=name)
    ax.set(xlabel="seconds (log scale)", ylabel="error on the frozen split", xscale="log")
    ax.legend(frameon=False, title="○ probe   ◇ fine-tuned; a dot's area is peak memory", title_fontsize=8)
    return ax


def _peak_mb() -> float:
    """This process's resident memory at the most so far, in megabytes.

    Not `ru_maxrss` where it can be helped: on Linux that counts the process which started this one, a notebook say.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )


def _first_sentence(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else f"It failed with {type(error).__name__}."
