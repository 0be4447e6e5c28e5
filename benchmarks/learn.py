"""Plain fastai (the book's recipe) and Winnow in turn on the same photos, weights and cores, each in its own process.

    python benchmarks/learn.py [--data FOLDER] [--full] [--photos N] [--only speed progressive weighting sample]

FOLDER holds train/, validation/ (or valid/) and test/ with class folders; a folder of plain class folders gets sides,
70, 10 and 20 % of each class. Default: ../shared/data/clothing. Prints a table, then the bars as one line of JSON.
By default at most 2,200 photos are trained on, for 15 minutes on two quiet cores; `--full` takes all, repeats
the sample and progressive resizing over three seeds and fine-tunes longer; `--photos` sets the number. On a GPU the
same runs use it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START = time.time()
CLOTHING = Path(__file__).resolve().parents[2] / "shared/data/clothing"
PARTS = ("speed", "progressive", "weighting", "sample")
LITE = "tf_efficientnet_lite0"
VIEWS = [(LITE, 128), (LITE, 192), ("tf_efficientnet_lite1", 192), ("tf_efficientnet_lite2", 224)]


def main() -> None:
    """Run the parts that were asked for, each job in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=CLOTHING)
    parser.add_argument("--full", action="store_true")
    parser.add_argument(
        "--photos", type=int, help="at most about this many training photos (2,200 unless --full)"
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--picture", type=Path, help="write the accuracy-against-seconds picture here")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.photos = asked.photos or (None if asked.full else 2200)
    if asked.job:
        name, *arguments = asked.job.split(":")
        print(json.dumps(JOBS[name](asked, *arguments)))
        return
    bars = [bar for part in asked.only for bar in compare(part, asked)]
    for bar in bars:
        print(f"{'ok ' if bar['ok'] else 'NO '} {bar['name']}: {bar['value']} (target {bar['target']})")
    print(json.dumps({"bars": bars}))


def compare(part: str, asked) -> list[dict]:
    """The bars of one part; where it fails, a bar that says so, and the other parts go on."""
    try:
        return globals()[f"compare_{part}"](asked)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"{part} failed: {error}", flush=True)
        return [{"name": f"{part}: failed", "value": None, "target": "to run", "ok": False}]


def in_process(asked, job: str) -> dict:
    """Run one job in a fresh Python and give its last line as JSON; its seconds count from that Python's start."""
    command = [sys.executable, "-W", "ignore", __file__, "--data", str(asked.data), "--job", job]
    command += ["--full"] * asked.full + (["--photos", str(asked.photos)] if asked.photos else [])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def bar(name: str, value: float, target: str, ok: bool) -> dict:
    """One bar of the report."""
    return {"name": name, "value": round(float(value), 4), "target": target, "ok": bool(ok)}


# ---- speed: fastai's fine_tune(3) at 128 px against Winnow's answer after the same seconds ----


def compare_speed(asked) -> list[dict]:
    """Test accuracy and macro-F1 against seconds, both sides."""
    from winnow.learn.backbones import onnx_backbone

    began = time.time()
    for backbone, size in VIEWS:
        onnx_backbone(backbone, size=size)
    print(f"networks exported to ONNX (once on a machine): {time.time() - began:.0f} s")
    peer, ours = in_process(asked, "fastai"), in_process(asked, "winnow")
    for side, run in (("fastai", peer), ("winnow", ours)):
        for point in run["curve"]:
            print(f"{side:7} {point['seconds']:7.1f} s  accuracy {point['accuracy']:.3f}  "
                  f"macro-F1 {point['macro_f1']:.3f}  {point['what']}")  # fmt: skip
    if asked.picture:
        draw(peer["curve"], ours["curve"], asked.picture)
    end = peer["curve"][-1]
    reached = [p["seconds"] for p in ours["curve"] if p["accuracy"] >= end["accuracy"]]
    share = reached[0] / end["seconds"] if reached else float("inf")
    at_end = value_at(ours["curve"], end["seconds"])
    lead = min(value_at(ours["curve"], p["seconds"]) - p["macro_f1"] for p in peer["curve"])
    return [
        bar("time to fastai's accuracy, share of its time", share, "<= 0.05", share <= 0.05),
        bar("macro-F1 above fastai with as much time", at_end - end["macro_f1"], ">= 0.12",
            at_end - end["macro_f1"] >= 0.12),
        bar("smallest lead in macro-F1 at any time between", lead, ">= 0", lead >= 0),
    ]  # fmt: skip


def value_at(curve: list[dict], seconds: float) -> float:
    """The macro-F1 that was ready by then; 0 before the first answer."""
    ready = [point["macro_f1"] for point in curve if point["seconds"] <= seconds]
    return ready[-1] if ready else 0.0


def draw(peer: list[dict], ours: list[dict], path: Path) -> None:
    """Accuracy-against-seconds, seconds on a log scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    end = max(p["seconds"] for p in (*peer, *ours))
    for name, curve in (("fastai fine_tune(3), 128 px", peer), ("Winnow", ours)):
        points = [(p["seconds"], p["macro_f1"]) for p in curve]
        seconds, scores = zip(*points, (end, points[-1][1]), strict=True)
        ax.step(seconds, scores, where="post", marker="o", markevery=range(len(points)), label=name)
    ax.set(xscale="log", xlabel="seconds since the process started", ylabel="macro-F1 on the test photos")
    ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000, 2000) if tick <= end * 1.2]
    ax.set_xticks(ticks, map(str, ticks))
    ax.set_xticks([], minor=True)
    ax.legend()
    figure.savefig(path, dpi=90)


def run_fastai(asked) -> dict:
    """The book's recipe: Resize and aug_transforms at 128 px, fine_tune(3); the clock stops while it is scored."""
    import pandas as pd
    from fastai.vision.all import (
        Callback,
        CategoryBlock,
        ColReader,
        ColSplitter,
        DataBlock,
        ImageBlock,
        Learner,
        Resize,
        aug_transforms,
        error_rate,
        vision_learner,
    )

    table = pd.DataFrame(listed(asked))
    table, test = table[table.side != "test"], table[table.side == "test"]
    table["is_valid"] = table.side == "validation"
    block = DataBlock((ImageBlock, CategoryBlock), get_x=ColReader("file"), get_y=ColReader("label"),
                      splitter=ColSplitter("is_valid"), item_tfms=Resize(128), batch_tfms=aug_transforms())  # fmt: skip
    dls = block.dataloaders(table, bs=64)
    with tempfile.TemporaryDirectory() as folder:
        weights = packaged_weights(Path(folder) / "lite0.pth")
        learn = vision_learner(dls, LITE, metrics=error_rate, pretrained_cfg_overlay={"file": str(weights)})
    labels = [list(dls.vocab).index(label) for label in test.label]
    curve, paused = [], 0.0

    class Score(Callback):
        order = 90

        def after_epoch(self):
            nonlocal paused
            began, dl = time.time(), dls.test_dl(list(test.file), bs=64)
            learner = Learner(dls, self.learn.model, loss_func=self.learn.loss_func)
            with learner.no_bar(), learner.no_logging():
                probs = learner.get_preds(dl=dl)[0].numpy()
            curve.append(point(began - START - paused, probs, labels, dls.vocab, f"epoch {len(curve) + 1}"))
            paused += time.time() - began

    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(3, cbs=Score())
    return {"curve": curve}


def packaged_weights(path: Path) -> Path:
    """The PyPI package's weights as timm expects them, so that fastai's own code path loads them without a hub."""
    import timm
    import torch

    from winnow.learn.backbones import _packaged_weights

    torch.save(_packaged_weights(LITE, timm.create_model(LITE).state_dict()), path)
    return path


def run_winnow(asked) -> dict:
    """Probes on more and more views; after each, the mean of those that help on the validation photos answers."""
    import numpy as np

    from winnow.learn.evaluation import evaluate
    from winnow.learn.features import extract_features
    from winnow.learn.probe import fit_probe

    rows = listed(asked)
    classes = sorted({row["label"] for row in rows})
    labels = np.array([classes.index(row["label"]) for row in rows])
    side = np.array([row["side"] for row in rows])
    files, curve, members, best = [row["file"] for row in rows], [], [], -1.0
    with tempfile.TemporaryDirectory() as cache:
        for backbone, size in VIEWS:
            features = extract_features(files, backbone=backbone, size=size, cache=cache)
            learned = fit_probe(features[side == "train"], labels[side == "train"], n_classes=len(classes))
            tried = [*members, learned.predict_proba(features)]
            mean = np.mean(tried, axis=0)
            chosen = evaluate(
                labels[side == "validation"], mean[side == "validation"], classes, resamples=0
            ).macro_f1
            if chosen <= best:
                continue
            members, best = tried, chosen
            what = f"{len(members)} views, the last {backbone} at {size} px"
            curve.append(
                point(time.time() - START, mean[side == "test"], labels[side == "test"], classes, what)
            )
    return {"curve": curve}


def point(seconds: float, probs, labels, classes, what: str) -> dict:
    """One point of a curve."""
    from winnow.learn.evaluation import evaluate

    scores = evaluate(labels, probs, list(classes), resamples=0)
    return {"seconds": seconds, "accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "what": what}


def listed(asked) -> list[dict]:
    """Every photo: file, label, side. `--photos` thins each class of the training side evenly."""
    rows = given_sides(asked.data) or own_sides(asked.data)
    total = sum(row["side"] == "train" for row in rows)
    step = -(-total // asked.photos) if asked.photos else 1
    of_class: dict[tuple, int] = {}
    kept = []
    for row in rows:
        key = row["side"], row["label"]
        of_class[key] = of_class.get(key, -1) + 1
        if row["side"] != "train" or of_class[key] % step == 0:
            kept.append(row)
    return kept


def given_sides(folder: Path) -> list[dict]:
    """Rows of train/, validation/ (or valid/) and test/; none where one of them is missing."""
    sides = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
    found = {
        side: next((folder / n for n in names if (folder / n).is_dir()), None)
        for side, names in sides.items()
    }
    if not all(found.values()):
        return []
    return [row | {"side": side} for side, path in found.items() for row in labelled(path)]


def own_sides(folder: Path) -> list[dict]:
    """Plain class folders: 70 % of each class to train on, 10 % to choose by, 20 % to test with; from one seed."""
    parent = folder / "train" if (folder / "train").is_dir() else folder
    rows = labelled(parent)
    random.Random(0).shuffle(rows)
    count: dict[str, int] = {}
    for row in rows:
        count[row["label"]] = count.get(row["label"], -1) + 1
        row["side"] = ("test", "validation", "test")[p] if (p := count[row["label"]] % 10) < 3 else "train"
    return sorted(rows, key=lambda row: row["file"])


def labelled(folder: Path) -> list[dict]:
    """File and label of each photo in the class folders of `folder`."""
    from winnow.images import find_images

    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [{"file": str(file), "label": path.name} for path in classes for file in find_images(path)]


# ---- progressive resizing, weighting, and fine-tuning on the sample ----


def compare_progressive(asked) -> list[dict]:
    """Fine-tuning from the probe at one size against small, then large pictures; `--full`: the mean of three seeds."""
    fixed, grown = [], []
    for seed in range(3 if asked.full else 1):
        fixed.append(in_process(asked, f"resizing:fixed:{seed}"))
        grown.append(in_process(asked, f"resizing:grown:{seed}"))
        for name, run in (("fixed, 192 px", fixed[-1]), ("112, then 192 px", grown[-1])):
            scores = f"macro-F1 {run['probe']:.3f} -> {run['macro_f1']:.3f}, accuracy {run['accuracy']:.3f}"
            print(f"seed {seed}, {name:16} {run['seconds']:6.1f} s  {scores}  {run['floor']}")
    share = sum(run["seconds"] for run in grown) / sum(run["seconds"] for run in fixed)
    small, large = (statistics.mean(run["macro_f1"] for run in runs) for runs in (grown, fixed))
    gap = small - large
    name = f"progressive resizing, share of fixed size's time (macro-F1 {gap:+.3f}, seeds: {len(fixed)})"
    return [bar(name, share, "<= 0.6 with the same result, within 0.005", share <= 0.6 and gap >= -0.005)]


def run_resizing(asked, how: str, seed: str) -> dict:
    """Eight epochs at 192 px, or four at 112, random crops, and three at 192; scored on validation and test photos."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = as_catalog(asked, Path(folder), most=600)
        from winnow.learn.evaluation import evaluate
        from winnow.learn.floor import count_floor
        from winnow.learn.loaders import make_loaders
        from winnow.learn.progressive import Step, train_progressively
        from winnow.learn.training import make_learner

        held_out = [row for row in listed(asked) if row["side"] != "train"]
        classes = catalog.classes
        labels = [classes.index(row["label"]) for row in held_out]

        def scored() -> dict:
            dl = learn.dls.test_dl([Path(row["file"]) for row in held_out])
            probs = learn.get_preds(dl=dl)[0].numpy()
            scores = evaluate(labels, probs, classes, resamples=0)
            return {"macro_f1": scores.macro_f1, "accuracy": scores.accuracy}

        large = [Step(192, 8 if how == "fixed" else 3, method="squish", lr=4e-4)]
        schedule = large if how == "fixed" else [Step(112, 4, method="random", lr=4e-4), *large]
        learn = make_learner(make_loaders(catalog, size=192, seed=int(seed)))
        with learn.no_bar(), learn.no_logging():
            probe = scored()["macro_f1"]
            outcomes = train_progressively(learn, schedule, keep="last")
            seconds = sum(outcome.seconds for outcome in outcomes)
            floor = count_floor(learn.model, 192)  # of the parts that were trained
            told = floor.tell(seconds / (len(learn.dls.train_ds) * 8)) if how == "fixed" else ""
            return {"seconds": seconds, "probe": probe, "floor": told, **scored()}


def as_catalog(asked, folder: Path, most: int | None):
    """A catalog of train and validation with links to the photos (the folder of a benchmark may be read-only)."""
    from winnow.catalog import Catalog

    rows = [row for row in listed(asked) if row["side"] != "test"]
    keep = max(1, sum(row["side"] == "train" for row in rows) // most) if most else 1
    seen = 0
    for row in rows:
        seen += row["side"] == "train"
        if row["side"] == "train" and seen % keep:
            continue
        home = folder / {"train": "train", "validation": "valid"}[row["side"]] / row["label"]
        home.mkdir(parents=True, exist_ok=True)
        (home / Path(row["file"]).name).write_bytes(Path(row["file"]).read_bytes())
    return Catalog(folder)


def compare_weighting(asked) -> list[dict]:
    """Recall of the three rarest classes and macro-F1 with and without weights, ten seeds, paired."""
    run = in_process(asked, "weighting")
    print(f"weighting: recall of {', '.join(run['rare'])} {run['plain_recall']:.3f} -> {run['weighted_recall']:.3f}, "
          f"macro-F1 {run['plain_f1']:.3f} -> {run['weighted_f1']:.3f}")  # fmt: skip
    gain, cost = run["weighted_recall"] - run["plain_recall"], run["weighted_f1"] - run["plain_f1"]
    name = f"weighting: recall gained in rare classes (macro-F1 {cost:+.3f})"
    return [bar(name, gain, "> 0, macro-F1 not lower", gain > 0 and cost >= -0.001)]


def run_weighting(asked) -> dict:
    """Probes at 192 px; weights 1/count**0.5."""
    import numpy as np

    from winnow.learn.evaluation import evaluate
    from winnow.learn.features import extract_features
    from winnow.learn.loaders import sampling_weights
    from winnow.learn.probe import fit_probe

    rows = listed(asked)
    classes = sorted({row["label"] for row in rows})
    labels, side = np.array([classes.index(r["label"]) for r in rows]), np.array([r["side"] for r in rows])
    with tempfile.TemporaryDirectory() as cache:
        features = extract_features([row["file"] for row in rows], cache=cache)
    train, test = side == "train", side == "test"
    rare = [classes[i] for i in np.argsort(np.bincount(labels[train], minlength=len(classes)))[:3]]
    weights, found = sampling_weights(labels[train].tolist(), True), {}
    for name, given in (("plain", None), ("weighted", weights)):
        runs = []
        for seed in range(10):
            probe = fit_probe(
                features[train], labels[train], n_classes=len(classes), weights=given, seed=seed
            )
            runs.append(evaluate(labels[test], probe.predict_proba(features[test]), classes, resamples=0))
        found[f"{name}_recall"] = float(np.mean([[run.recall[label] for label in rare] for run in runs]))
        found[f"{name}_f1"] = float(np.mean([run.macro_f1 for run in runs]))
    return {"rare": rare, **found}


def compare_sample(asked) -> list[dict]:
    """Fine-tuning after the probe against the probe, on the sample's frozen split."""
    runs = [in_process(asked, f"sample:{seed}") for seed in range(3 if asked.full else 1)]
    for run in runs:
        print(f"sample: probe macro-F1 {run['probe']:.3f}, tuned {run['tuned']:.3f}, accuracy {run['accuracy']:.3f} "
              f"(Deitsch et al. 2019, VGG-19 fine-tuned, another split: 0.884), {run['seconds']:.0f} s")  # fmt: skip
    gain = sum(run["tuned"] - run["probe"] for run in runs) / len(runs)
    return [
        bar(
            f"fine-tuning above the probe, sample, macro-F1, {len(runs)} seeds",
            gain,
            ">= 0.02",
            gain >= 0.02,
        )
    ]


def run_sample(asked, seed: str) -> dict:
    """train.ipynb's defaults, with another seed for training and another split."""
    from winnow.collect.sample import write_sample
    from winnow.learn.loaders import make_loaders
    from winnow.learn.training import fine_tune, make_learner

    with tempfile.TemporaryDirectory() as folder:
        catalog = write_sample(folder, limit=asked.photos)
        catalog.split(seed=42 + int(seed))
        learn = make_learner(make_loaders(catalog, augment="any-way-up", seed=int(seed)))
        with learn.no_bar(), learn.no_logging():
            outcome = fine_tune(learn, 8 if asked.full else 6, keep="last")
    after = outcome.after
    return {"probe": outcome.before.macro_f1, "tuned": after.macro_f1, "accuracy": after.accuracy,
            "seconds": outcome.seconds}  # fmt: skip


JOBS = {
    "fastai": run_fastai,
    "winnow": run_winnow,
    "resizing": run_resizing,
    "weighting": run_weighting,
    "sample": run_sample,
}

if __name__ == "__main__":
    main()
