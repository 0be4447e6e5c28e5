"""How well "none of these" tells photos of other things, against what the probabilities alone would tell.

    python benchmarks/none_of_these.py --data FOLDER_OF_CLASS_FOLDERS

Classes are held out in turns; a linear head learns the rest. Then come unseen photos of the learnt classes, photos
of the held-out classes (near: the same kind of photo) and the sample's solar cells (far: another world). Each rule may
call 1 % of unseen photos of learnt classes "none of these"; printed is how many of the others it then catches.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import elpv_dataset
import numpy as np

from winnow.images import find_images
from winnow.learn.features import extract_features
from winnow.learn.probe import fit_probe
from winnow.share.likeness import FALSE_ALARMS, fit_likeness


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--data", type=Path, required=True, help="a folder of class folders, five classes or more"
    )
    options.add_argument("--photos", type=int, default=1500)
    args = options.parse_args()
    files, labels, classes = read(args.data, args.photos)
    cells = find_images(Path(elpv_dataset.__file__).parent / "data")[:400]
    with tempfile.TemporaryDirectory() as cache:
        features = extract_features(files, size=160, cache=Path(cache))
        far = extract_features(cells, size=160, cache=Path(cache))
    rows = [trial(features, labels, held, far) for held in np.array_split(np.arange(len(classes)), 3)]
    table = {rule: np.mean([row[rule] for row in rows], axis=0) for rule in rows[0]}
    print(f"{len(files)} photos, {len(classes)} classes, three trials\n")
    print(
        f"{'rule':<14}{'false alarms':>13}{'near caught':>13}{'near AUROC':>12}{'far caught':>12}{'far AUROC':>11}"
    )
    for rule, numbers in table.items():
        print(
            f"{rule:<14}"
            + "".join(f"{n:>{w}.3f}" for n, w in zip(numbers, (13, 13, 12, 12, 11), strict=True))
        )
    caught = float(table["likeness"][3])
    bar = {"name": "far photos caught", "value": round(caught, 3), "target": 0.9, "ok": caught >= 0.9}
    print(json.dumps({"bars": [bar]}))


def read(folder: Path, most: int) -> tuple[list[Path], np.ndarray, list[str]]:
    """At most `most` photos of class folders, any depth above them ignored."""
    files = find_images(folder)
    files = [files[i] for i in np.sort(np.random.default_rng(0).permutation(len(files))[:most])]
    classes = sorted({f.parent.name for f in files})
    return files, np.array([classes.index(f.parent.name) for f in files]), classes


def trial(features: np.ndarray, labels: np.ndarray, held: np.ndarray, far: np.ndarray) -> dict[str, tuple]:
    """One choice of held-out classes: numbers for each rule, higher scores are more alike."""
    inside = ~np.isin(labels, held)
    x, y = features[inside], np.unique(labels[inside], return_inverse=True)[1]
    side = np.random.default_rng(1).permutation(len(x)) % 10
    train, valid, test = side < 6, (side >= 6) & (side < 8), side >= 8
    k = int(y.max()) + 1
    probe = fit_probe(x[train], y[train], n_classes=k)
    likeness = fit_likeness(x[train], y[train], x[valid], classes=k)
    rules = {
        "likeness": lambda q: likeness.of(q).max(1),
        "probability": lambda q: probe.predict_proba(q).max(1),
        "energy": lambda q: np.logaddexp.reduce(probe.decide(q), axis=1),
    }
    near = features[~inside]
    return {
        name: numbers(rule(x[valid]), rule(x[test]), rule(near), rule(far)) for name, rule in rules.items()
    }


def numbers(valid, test, near, far) -> tuple:
    limit = np.quantile(valid, FALSE_ALARMS)
    caught = [((group < limit).mean(), auroc(test, group)) for group in (near, far)]
    return ((test < limit).mean(), *caught[0], *caught[1])


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """The chance that a photo of `higher` scores above one of `lower`."""
    return float((higher[:, None] > lower[None]).mean() + 0.5 * (higher[:, None] == lower[None]).mean())


if __name__ == "__main__":
    main()
