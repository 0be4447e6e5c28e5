"""One cleaning round: a careful reviewer looks at 15 % of the training photos, in each method's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clean_cases import Case, Source, bar, plant
from clean_methods import PEERS, top_losses, winnow_all

from winnow.learn.probe import fit_probe

REVIEWED, NOISE = 0.15, 0.10


def bars(sources: list[Source], picture: Path | None) -> list[dict]:
    """Errors fixed and test accuracy after the round, on the first source whose labels are taken as true."""
    source = next((source for source in sources if source.wrong is None), None)
    if source is None:
        return []
    train, test = _sides(source)
    truth, given = source.labels[train], plant(source.labels, source.confusion, NOISE, seed=7)[train]
    blocks = [block[train] for block in source.blocks]
    case = Case(source.name, "one round", blocks, given, given != truth, len(source.classes))
    orders = _orders(case)
    count = round(REVIEWED * len(truth))
    fixed = {
        name: float(case.wrong[order[:count]].sum() / case.wrong.sum()) for name, order in orders.items()
    }
    cleaned = given.copy()
    cleaned[orders["Winnow"][:count]] = truth[orders["Winnow"][:count]]
    accuracy = {name: _accuracy(source, train, test, y) for name, y in
                (("clean", truth), ("noisy", given), ("cleaned", cleaned))}  # fmt: skip
    _print(source, count, fixed, accuracy)
    if picture:
        _draw(picture, case.wrong, orders, count)
    return [
        bar("share of errors fixed by looking at 15 % of the training photos", fixed["Winnow"], 0.75),
        bar("test accuracy lost against clean labels after the round",
            accuracy["clean"] - accuracy["cleaned"], 0.01, at_most=True),
    ]  # fmt: skip


def _sides(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and to test on: the folder's own sides, else every fifth photo tests."""
    sides = np.array([photo.split or "" for photo in source.photos])
    if (sides == "test").any():
        return np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    order = np.random.default_rng(0).permutation(len(sides))
    return np.sort(order[len(order) // 5 :]), np.sort(order[: len(order) // 5])


def _orders(case: Case) -> dict[str, np.ndarray]:
    peer = PEERS["cleanlab self_confidence"]
    scores = {"Winnow": winnow_all(case), "cleanlab": peer(case), "top losses": top_losses(case)}
    scores["random"] = np.random.default_rng(0).random(len(case.given))
    return {name: np.argsort(-values, kind="stable") for name, values in scores.items()}


def _accuracy(source: Source, train, test, labels) -> float:
    """Accuracy on the test side's true labels of a probe trained with `labels`; the mean of three seeds."""
    right = []
    for seed in range(3):
        head = fit_probe(source.blocks[0][train], labels, n_classes=len(source.classes), seed=seed)
        right.append((head.decide(source.blocks[0][test]).argmax(axis=1) == source.labels[test]).mean())
    return float(np.mean(right))


def _print(source, count, fixed, accuracy) -> None:
    print(f"\nOne cleaning round on {source.name}: {NOISE:.0%} planted errors, {count} photos looked at")
    print("  errors fixed: " + ", ".join(f"{name} {share:.1%}" for name, share in fixed.items()))
    print("  test accuracy: " + ", ".join(f"{name} labels {value:.3f}" for name, value in accuracy.items()))


def _draw(picture: Path, wrong, orders, count) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    for name, order in orders.items():
        axes.plot(np.arange(1, len(wrong) + 1), np.cumsum(wrong[order]) / wrong.sum(), label=name)
    axes.axvline(count, color="0.7", linewidth=1, linestyle="--")
    axes.set(
        xlabel="photos looked at", ylabel="share of wrong labels fixed", ylim=(0, 1.02), xlim=(0, len(wrong))
    )
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
