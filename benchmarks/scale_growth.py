"""Cost against size: seconds, processor time, memory and disk of each step at 10^3, 10^4 and 10^5 images.

Each cell runs in a process of its own. Pictures are 200 real photos repeated with different bytes, features are made
in clusters: both say what a step costs, not how well it does.
"""

from __future__ import annotations

import atexit
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from rich.console import Console
from rich.table import Table
from scale_photos import bar, many_files, not_measured

SERVER = """
import http.server, os, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
os.chdir(sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
# Several threads that wait for each other count as processor time: numpy's and torch's own are held to one.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
CLASSES, WIDTH = 10, 1280
COUNTS = (10**3, 10**4, 10**5)
SIZE = 128  # pixels, of features and fine-tuning
SET_UP = 0.002  # seconds for each image, about: writing the files before the clock starts
GROWTH_BAR = "processor time over n log n from one size to the next, worst step"
MEMORY_BAR = "peak memory of any step measured, MB"
ROOM = 1.1  # a tenth above n log n is put down to noise


@dataclass(frozen=True)
class Cell:
    """What one step took at one size."""

    seconds: float
    cpu: float  # seconds of all cores together
    memory: float  # MB at the most
    disk: float  # MB that it left behind


def bench_growth(data: Path, end: float) -> list[dict]:
    """Each step at each size that ends before `end` (monotonic seconds); a step that gets no further is named."""
    found: dict[str, dict[int, Cell]] = {step: {} for step in STEPS}
    for count in COUNTS:  # all steps at a small size before any at a large one
        for step, cells in found.items():
            if _expected(cells, count) < end - time.monotonic():
                cells[count] = _measure(step, count, data)
    _show(found)
    return _bars(found)


def _expected(cells: dict[int, Cell], count: int) -> float:
    """Seconds that a cell will take, its files included, from the size before."""
    if count == COUNTS[0]:
        return 0.0
    before = cells.get(count // 10)
    return math.inf if before is None else 11 * before.seconds + SET_UP * count + 10


def growth(cells: dict[int, Cell]) -> float:
    """The worst step from one size to the next in processor time, over what n log n would be.

    Wall time would also grow with whatever else the machine does meanwhile.
    """
    sizes = sorted(cells)
    return max(
        (cells[b].cpu / cells[a].cpu) / (b * math.log(b) / (a * math.log(a)))
        for a, b in itertools.pairwise(sizes)
    )


def _bars(found: dict[str, dict[int, Cell]]) -> list[dict]:
    name, target = GROWTH_BAR, f"<= {ROOM}"
    grown = {step: growth(cells) for step, cells in found.items() if len(cells) > 1}
    peak = max(cell.memory for cells in found.values() for cell in cells.values())
    short = [f"{step} to {max(cells):,}" for step, cells in found.items() if max(cells) < COUNTS[-1]]
    memory = bar(MEMORY_BAR, round(peak), "< 2048", peak < 2048)
    if not grown:
        return [not_measured(name, target, "no time for a second size"), memory]
    worst = max(grown, key=grown.get)
    bars = [bar(f"{name} ({worst})", round(grown[worst], 2), target, grown[worst] <= ROOM), memory]
    if short:
        why = f"no time for 100,000 in all steps (--full): {', '.join(short)}"
        bars.append(not_measured("every step to 100,000 images", "true", why))
    return bars


def _show(found: dict[str, dict[int, Cell]]) -> None:
    table = Table(title="Cost against size")
    for column in ("step", "images", "s", "CPU s", "CPU s per 1,000", "peak MB", "disk MB", "over n log n"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step, cells in found.items():
        for count, cell in cells.items():
            before = cells.get(count // 10)
            ratio = f"{growth({count // 10: before, count: cell}):.2f}" if before else ""
            numbers = [f"{cell.seconds:.1f}", f"{cell.cpu:.1f}", f"{cell.cpu / count * 1000:.2f}"]
            numbers += [f"{cell.memory:.0f}", f"{cell.disk:.0f}"]
            table.add_row(step, f"{count:,}", *numbers, ratio)
    Console(width=110).print(table)


def _measure(step: str, count: int, data: Path) -> Cell:
    """One cell; the smallest size is the median of three, for its seconds are few."""
    runs = [_run(step, count, data) for _ in range(3 if count == COUNTS[0] and step != "fine-tune" else 1)]
    return sorted(runs, key=lambda cell: cell.seconds)[len(runs) // 2]


def _run(step: str, count: int, data: Path) -> Cell:
    command = [sys.executable, __file__, step, str(count), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise RuntimeError(f"{step} at {count} failed: {done.stderr[-2000:]}")
    return Cell(*json.loads(done.stdout.splitlines()[-1]))


# -- one cell, in a process of its own --


def child(step: str, count: int, data: Path) -> None:
    """Set `step` up, then run it under the clock and print its `Cell`."""
    with tempfile.TemporaryDirectory() as folder:
        work = STEPS[step](count, data, Path(folder))
        disk, began, cpu = _disk(Path(folder)), time.perf_counter(), time.process_time()
        work()
        cell = [time.perf_counter() - began, time.process_time() - cpu, _peak(), _disk(Path(folder)) - disk]
    print(json.dumps(cell))


def _disk(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def _peak() -> float:
    """Memory of this process at the most, in MB; `ru_maxrss` would count the process that started it, too."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )


def _download(count: int, data: Path, folder: Path):
    """From a web server of this machine, another process, 64 connections at once; decoded, hashed and written."""
    from winnow.catalog import Catalog
    from winnow.collect.download import download

    files = many_files(data, count, folder / "web")
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder / "web")], stdout=subprocess.PIPE)
    atexit.register(server.kill)
    address = f"http://127.0.0.1:{int(server.stdout.readline())}/"
    names = [
        (address + quote(file.relative_to(folder / "web").as_posix()), file.parent.name) for file in files
    ]
    options = {"per_host": 64, "allow_hosts": ("127.0.0.1",)}
    return lambda: download(Catalog(folder / "photos"), names, **options)


def _verify(count: int, data: Path, folder: Path):
    """Hash and open every file of a folder, write the catalog's rows, look for copies by bytes."""
    from winnow.catalog import Catalog

    many_files(data, count, folder)
    return lambda: Catalog(folder).photos()


def _features(count: int, data: Path, folder: Path):
    from winnow.learn.features import extract_features

    files = many_files(data, count, folder)
    extract_features(files[:16], size=SIZE)  # the network is loaded and exported before the clock starts
    return lambda: extract_features(files, size=SIZE, cache=folder / ".cache")


def _probe(count: int, data: Path, folder: Path):
    from winnow.learn.probe import fit_probe

    features, labels = made_features(count)
    return lambda: fit_probe(features, labels, n_classes=CLASSES)


def _suspects(count: int, data: Path, folder: Path):
    from winnow.clean.scoring import score_labels

    features, labels = made_features(count)
    return lambda: score_labels([features], labels, n_classes=CLASSES)


def _fine_tune(count: int, data: Path, folder: Path):
    """One epoch, from loaders that have their pixels to the last step."""
    from winnow.catalog import Catalog
    from winnow.learn.loaders import make_loaders
    from winnow.learn.training import fine_tune, make_learner

    many_files(data, count, folder)
    learn = make_learner(make_loaders(Catalog(folder), size=SIZE))
    return lambda: fine_tune(learn, 1, keep="last")


def _predict(count: int, data: Path, folder: Path):
    from winnow.share.answers import write_answers
    from winnow.share.prediction import load_predictor

    many_files(data, count, folder / "photos")
    predictor = load_predictor(Path(__file__).parents[1] / "export.pkl")
    return lambda: write_answers(predictor, [folder / "photos"], folder / "answers.csv")


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


STEPS = {
    "probe": _probe,
    "suspects": _suspects,
    "verify": _verify,
    "download": _download,
    "features": _features,
    "predict": _predict,
    "fine-tune": _fine_tune,
}

if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
