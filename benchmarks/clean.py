"""Winnow against cleanlab and fastai's top losses at finding wrong labels, on the same photos, features and folds.

    python benchmarks/clean.py                                      # the sample (and ../shared/data/clothing if there)
    python benchmarks/clean.py --data FOLDER                        # plants errors into this ImageFolder's labels
    python benchmarks/clean.py --data FOLDER --truth true.csv       # CSV path,label: finds the folder's own errors

Planted errors follow the model's real confusions. The peers get Winnow's own out-of-fold probabilities.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import clean_cases as cases
import clean_fastai as fastai
import clean_round_plot as plot
import clean_scale as scale
import numpy as np
from clean_methods import METHODS, OURS, OURS_ALL, PEERS, TOP_LOSSES
from cleaner import cleaner_bars, has_browser

from winnow.clean.suspects import VIEWS

FIGURES = ("AP", "P@k", "AUROC", "reviews/error", "seconds")


def main() -> None:
    """Run what was asked for; the last line is JSON."""
    asked = _arguments()
    began = time.perf_counter()
    cache = Path(os.environ.get("WINNOW_CACHE") or Path.home() / ".cache/winnow") / "benchmark-clean"
    sources = cases.sources(asked.data, asked.truth, cache)
    rates = (0.05, 0.10, 0.20) if asked.noise is None else (asked.noise,)
    table = []
    for source in sources:
        for case in cases.cases_of(source, rates, range(asked.seeds)):
            table += [_run(name, method, case) for name, method in METHODS.items()]
        _print_source(source.name, table)
    bars = _bars(table)
    if not asked.quick:
        bars += fastai.bars(sources, measure)
    bars += scale.bars(full=not asked.quick) + plot.bars(sources, asked.plot)
    bars += cleaner_bars(asked.data, photos=10_000 if asked.quick else 100_000, browser=has_browser())
    print(f"\nViews that Winnow caches by default: {VIEWS}. Whole run: {time.perf_counter() - began:.0f} s.")
    _print_bars(bars)
    print(json.dumps({"bars": bars}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="an ImageFolder")
    parser.add_argument("--truth", type=Path, help="CSV path,label with the true labels of --data")
    parser.add_argument("--noise", type=float, help="share of planted errors, instead of 0.05, 0.10 and 0.20")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="where to save the picture of the cleaning round")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="no fastai training, no 50,000 photos or more",
    )
    return parser.parse_args()


def _run(name: str, method, case: cases.Case) -> dict:
    began = time.perf_counter()
    scores = method(case)
    seconds = time.perf_counter() - began
    return {
        "source": case.source,
        "case": case.name,
        "method": name,
        **measure(scores, case.wrong),
        "seconds": seconds,
    }


def measure(scores: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Average precision, precision at the true number, AUROC, reviews per error found at 90 % recall."""
    order = np.argsort(-scores, kind="stable")
    hits = wrong[order]
    found, total = np.cumsum(hits), hits.sum()
    ranks = np.empty(len(scores))
    ranks[order[::-1]] = np.arange(1, len(scores) + 1)
    pairs = total * (len(scores) - total)
    until = int(np.searchsorted(found, np.ceil(0.9 * total))) + 1
    return {
        "AP": float((found / np.arange(1, len(hits) + 1))[hits].mean()),
        "P@k": float(found[total - 1] / total),
        "AUROC": float((ranks[wrong].sum() - total * (total + 1) / 2) / pairs),
        "reviews/error": float(until / found[until - 1]),
    }


def _mean(table: list[dict], method: str, figure: str = "AP", **where) -> float:
    rows = [r for r in table if r["method"] == method and all(r[k] == v for k, v in where.items())]
    return float(np.mean([r[figure] for r in rows]))


def _print_source(source: str, table: list[dict]) -> None:
    names = list(dict.fromkeys(r["case"] for r in table if r["source"] == source))
    for case in names:
        print(f"\n{source}, {case}\n{'':34}" + "".join(f"{figure:>15}" for figure in FIGURES))
        for method in METHODS:
            row = [_mean(table, method, figure, source=source, case=case) for figure in FIGURES]
            print(f"{method:34}" + "".join(f"{value:15.3f}" for value in row), flush=True)


def _bars(table: list[dict]) -> list[dict]:
    """Ratios of the mean over data sets, and the worst data set's."""
    sets = sorted({(r["source"], r["case"]) for r in table})

    def over(method, peer, pairs=sets):
        values = [[_mean(table, m, source=s, case=c) for s, c in pairs] for m in (method, peer)]
        return float(np.mean(values[0]) / np.mean(values[1]))

    best = max(PEERS, key=lambda peer: np.mean([_mean(table, peer, source=s, case=c) for s, c in sets]))
    worst = min(over(OURS, peer, [pair]) for peer in PEERS for pair in sets)
    print(f"\ncleanlab's best score over all: {best}")
    return [
        cases.bar("AP, same features and folds, over cleanlab's best", over(OURS, best), 1.05),
        cases.bar("AP, same features and folds, worst data set over cleanlab's best there", worst, 1.0),
        cases.bar("AP, end to end, over cleanlab's best on one backbone", over(OURS_ALL, best), 1.15),
        cases.bar(
            "AP, end to end, over top losses of a linear head, in-sample", over(OURS_ALL, TOP_LOSSES), 1.4
        ),
    ]


def _print_bars(bars: list[dict]) -> None:
    for bar in bars:
        print(f"{'ok  ' if bar['ok'] else 'MISS'} {bar['name']}: {bar['value']:.3f} (target {bar['target']})")


if __name__ == "__main__":
    main()
