"""Seconds and memory of scoring many photos with cached features; each size in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from clean_cases import bar

WIDTH, CLASSES = 1280, 10  # what the default backbone gives; as many classes as clothing has


def bars(*, full: bool = True) -> list[dict]:
    """The issue's three: 10,000 photos, 50,000 photos, memory at 100,000."""
    small = _measure(10_000)
    found = [bar("seconds to score 10,000 photos", small["seconds"], 10, at_most=True)]
    if full:
        middle, large = _measure(50_000), _measure(100_000)
        found += [
            bar("seconds to score 50,000 photos", middle["seconds"], 60, at_most=True),
            bar("GB of memory at 100,000 photos, features included", large["gigabytes"], 2, at_most=True),
        ]
    return found


def _measure(photos: int) -> dict:
    """Score synthetic features in a fresh process."""
    ran = subprocess.run([sys.executable, __file__, str(photos)], capture_output=True, text=True, check=True)
    figures = json.loads(ran.stdout.splitlines()[-1])
    took = f"{figures['seconds']:.1f} s ({figures['processor']:.1f} s of processor time)"
    print(f"{photos:,} photos: {took}, {figures['gigabytes']:.2f} GB", flush=True)
    return figures


def score(photos: int) -> dict:
    """Seconds to score, and the process's highest memory in GB (10^9 bytes)."""
    from winnow.clean.scoring import score_labels

    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, photos)
    centres = random.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    features = np.empty((photos, WIDTH), np.float32)
    for start in range(0, photos, 10_000):
        rows = slice(start, start + 10_000)
        noise = random.standard_normal((len(labels[rows]), WIDTH), np.float32)
        features[rows] = 0.1 * centres[labels[rows]] + noise
    began, worked = time.perf_counter(), time.process_time()
    score_labels(features, labels, n_classes=CLASSES)
    seconds = time.perf_counter() - began
    worked = time.process_time() - worked
    return {"seconds": seconds, "processor": worked, "gigabytes": _highest_memory() / 1e9}


def _highest_memory() -> int:
    """Bytes that this process held at most; Linux's `ru_maxrss` counts the parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(score(int(sys.argv[1]))))
