"""The catalog at size: a folder of 50,000 images adopted, looked at again, decided upon; and random sequences.

python benchmarks/catalog.py                    # 50,000 small JPEGs in a temporary folder
python benchmarks/catalog.py --sequences 1000   # and random choices, crashes and undos (tests/test_journal.py)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from winnow.catalog import Catalog


def main() -> None:
    """Run what was asked for; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="not used: the images are made here")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--sequences", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), asked.images)
        bars = _at_size(Path(folder), asked.images)
    if asked.sequences:
        bars.append(_random_sequences(asked.sequences))
    print(json.dumps({"bars": bars}))


def write_folder(folder: Path, count: int) -> None:
    """`count` JPEGs of 128×128 pixels in ten classes, no two with the same bytes."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    for number in range(count):
        path = folder / f"class-{number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getvalue() + number.to_bytes(4, "big"))


def _at_size(folder: Path, count: int) -> list[dict]:
    catalog, adopted = _timed(f"adopt {count} images", lambda: Catalog(folder))
    _, again = _timed("look again, nothing new", catalog.sync)
    _, opened = _timed("open", lambda: Catalog(folder))
    photos, _ = _timed("photos()", catalog.photos)
    _timed("split()", catalog.split)
    paths = [photo.path for photo in photos[:1000]]
    _, chosen = _timed("1,000 choices", lambda: [catalog.remove(path) for path in paths])
    _timed("pending()", catalog.pending)
    _timed("apply 1,000 moves", catalog.apply)
    _timed("undo 1,000 moves", lambda: catalog.undo(1000))
    return [
        _bar(f"catalog: seconds to adopt {count} images", adopted, 60),
        _bar("catalog: seconds for a second look", again, 5),
        _bar("catalog: seconds to open", opened, 1),
        _bar("catalog: milliseconds a choice", chosen, 50),  # 1,000 choices: seconds are milliseconds
    ]


def _timed(what: str, call: Callable) -> tuple:
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    print(f"{what:32}{seconds:9.2f} s", flush=True)
    return result, seconds


def _random_sequences(count: int) -> dict:
    """Exit status 0 means that tree and journal agreed after every step of every sequence."""
    test = Path(__file__).parents[1] / "tests" / "test_journal.py"
    command = [sys.executable, "-m", "pytest", "-q", str(test), "-k", "any_sequence"]
    done = subprocess.run(
        command, env=os.environ | {"WINNOW_SEQUENCES": str(count)}, stdout=subprocess.DEVNULL, check=False
    )
    print(
        f"{count} random sequences of choices, crashes and undos: {'all' if not done.returncode else 'NOT all'} undone"
    )
    return {
        "name": f"catalog: {count} random sequences",
        "value": int(not done.returncode),
        "target": 1,
        "ok": not done.returncode,
    }


def _bar(name: str, value: float, target: float) -> dict:
    return {"name": name, "value": round(value, 3), "target": target, "ok": value <= target}


if __name__ == "__main__":
    main()
