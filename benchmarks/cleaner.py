"""The cleaner at 100,000 photos: how fast it opens and answers a key, in kernel and browser; fastai's beside it.

python benchmarks/cleaner.py                       # photos of the sample, shrunk
python benchmarks/cleaner.py --data FOLDER         # photos of this folder, shrunk
python benchmarks/cleaner.py --photos 10000 --no-browser
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from winnow.catalog import Catalog
from winnow.clean.suspects import Suspect
from winnow.images import BadImage, find_images, open_image

PHOTOS, CLASSES, BASES, SIDE = 100_000, 10, 200, 96
FASTAI_PHOTOS = 300  # fastai's cleaner looks at every photo with the model before it opens

NOTEBOOK = """
import time, random
started = time.time()
from winnow.catalog import Catalog
from winnow.clean.cleaner import ImageClassifierCleaner
import sys; sys.path.insert(0, {here!r})
from cleaner import suspects_of
catalog = Catalog({folder!r})
suspects = suspects_of(catalog)
cleaner = ImageClassifierCleaner(catalog, suspects=suspects, by="bench")
cleaner
"""


def main() -> None:
    """Print a table; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="where the photos come from; the sample by default")
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--no-browser", action="store_true")
    asked = parser.parse_args()
    bars = cleaner_bars(asked.data, photos=asked.photos, browser=not asked.no_browser)
    print(json.dumps({"bars": bars}))


def cleaner_bars(data: Path | None = None, *, photos: int = PHOTOS, browser: bool = True) -> list[dict]:
    """Measure, print a table, and return the bars."""
    with tempfile.TemporaryDirectory(prefix="winnow-cleaner-") as folder:
        catalog = make_catalog(Path(folder) / "photos", photos, data)
        kernel = measure_kernel(catalog)
        window = measure_browser(catalog, Path(folder)) if browser else {}
        fastai = measure_fastai(Path(folder) / "fastai", data)
    load = f"{os.getloadavg()[0]:.1f} processes at work on {os.cpu_count()} cores"
    print(f"\nThe cleaner on {photos:,} photos ({load})")
    for name, value in {**kernel, **window, **fastai}.items():
        print(f"  {name:<62} {value:>9.3f} s")
    return _bars(kernel, window, photos)


OPEN, KEY, SCREEN = (
    "kernel: open, first rows and pictures",
    "kernel: a key (95th of 100)",
    "browser: key to screen (95th of 100)",
)


def _bars(kernel: dict, window: dict, photos: int) -> list[dict]:
    bars = [
        _bar(f"seconds until the cleaner is open on {photos:,} photos", kernel[OPEN], 1),
        _bar("seconds to answer a key, kernel (95th of 100)", kernel[KEY], 0.05),
    ]
    if window:
        bars.append(_bar("seconds from key to screen, browser (95th of 100)", window[SCREEN], 0.15))
    return bars


def _bar(name: str, value: float, target: float) -> dict:
    return {"name": name, "value": round(value, 4), "target": target, "ok": value <= target}


# -- data ----------------------------------------------------------------------------------------------


def make_catalog(folder: Path, photos: int, data: Path | None) -> Catalog:
    """A catalog of many small files with different bytes: shrunk photos, each with a number after its end."""
    began = time.perf_counter()
    bases = _bases(data)
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
    for number in range(photos):
        file = folder / f"class{number % CLASSES}" / f"{number:06}.jpg"
        file.write_bytes(bases[number % len(bases)] + number.to_bytes(4, "little"))
    catalog = Catalog(folder)
    print(f"{photos:,} photos written and adopted in {time.perf_counter() - began:.0f} s", flush=True)
    return catalog


def _bases(data: Path | None) -> list[bytes]:
    """A few hundred photos, shrunk; files that can't be opened are left out."""
    bases = []
    for file in _sources(data):
        with contextlib.suppress(BadImage):
            bases.append(_shrunk(file))
        if len(bases) == BASES:
            break
    if not bases:
        raise SystemExit(f"There is no photo to open in {data}: give a folder of class folders.")
    return bases


def _sources(data: Path | None) -> list[Path]:
    if data is None:
        from winnow.collect.sample import read_cells

        return [cell.file for cell in read_cells()[:BASES]]
    return find_images(data)


def _shrunk(file: Path) -> bytes:
    buffer = io.BytesIO()
    open_image(file).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def suspects_of(catalog: Catalog) -> list[Suspect]:
    """A made-up ranking of every photo: what is measured doesn't depend on who is right."""
    from winnow.clean.cleaner_journal import JournalReader

    columns, draw = JournalReader(catalog).columns(), random.Random(0)
    names = [f"class{number}" for number in range(CLASSES)]
    why = "made up for the measurement"
    return [
        Suspect(
            path,
            label,
            draw.choice(names),
            draw.random(),
            draw.random(),
            "label",
            why,
            [],
        )
        for path, label in zip(columns.paths, columns.labels, strict=True)
    ]


# -- the kernel ------------------------------------------------------------------------------------------


def measure_kernel(catalog: Catalog) -> dict[str, float]:
    """Seconds: opening until the first rows and pictures are sent, and the answers to keys and menus."""
    from winnow.clean.cleaner import ImageClassifierCleaner

    suspects = suspects_of(catalog)
    opened, worked = [], []
    for _ in range(5):
        began, busy = time.perf_counter(), time.process_time()
        cleaner = ImageClassifierCleaner(catalog, suspects=suspects, by="bench")
        _first_screen(cleaner)
        opened.append(time.perf_counter() - began)
        worked.append(time.process_time() - busy)
        cleaner.close()
    cleaner = ImageClassifierCleaner(catalog, suspects=suspects, by="bench")
    keys = [
        _answer(cleaner, {"type": "decide", "choices": [_choice(cleaner, place)]}) for place in range(100)
    ]
    found = {
        OPEN: statistics.median(opened),
        "kernel: the processor's part of opening": statistics.median(worked),
        "kernel: a key": statistics.median(keys),
        KEY: _p95(keys),
        "kernel: undo": statistics.median([_answer(cleaner, {"type": "undo"}) for _ in range(20)]),
        "kernel: another class in the menu": _timed(lambda: setattr(cleaner, "label", "class3")),
        "kernel: preview of accept-all": _answer(cleaner, {"type": "above", "threshold": 0.9}),
    }
    cleaner.close()
    return found


def _first_screen(cleaner) -> None:
    """What the window asks for when it opens: a page of rows and the thumbnails on the screen."""
    sent: list[int] = []
    cleaner.send = lambda message, buffers=None: sent.append(len(message["items"]))
    reply, _ = next(
        cleaner.answer({"type": "rows", "version": cleaner.view["version"], "start": 0, "stop": 60})
    )
    paths = [row["path"] for row in reply["rows"][:12]]
    list(cleaner.answer({"type": "thumbs", "paths": paths}))
    while sum(sent) < len(paths):
        time.sleep(0.001)


def _choice(cleaner, place: int) -> dict:
    path = cleaner.desk.queue.paths[cleaner.desk.shown[place]]
    return {"path": path, "action": "relabel", "label": "class1"}


def _answer(cleaner, message: dict) -> float:
    return _timed(lambda: list(cleaner.answer(message)))


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values)) - 1]


# -- the browser -----------------------------------------------------------------------------------------

WATCH = """
() => {
  window.times = [];
  const root = document.querySelector(".winnow-cleaner");
  const settled = () => root.querySelector(".wc-current .wc-names") && !root.querySelector(".wc-on-its-way");
  root.addEventListener("keydown", () => {
    const began = performance.now(), before = root.querySelector(".wc-path").textContent;
    const time = { screen: null, written: null };
    window.times.push(time);
    const look = () => {
      const now = performance.now() - began;
      if (time.screen === null && root.querySelector(".wc-path")?.textContent !== before) time.screen = now;
      if (time.screen !== null && settled()) time.written = now;
      if (time.written === null && now < 5000) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}
"""


def measure_browser(catalog: Catalog, folder: Path) -> dict[str, float]:
    """Seconds from a key to the next photo on the screen, and until the journal's answer is shown too."""
    with _page(catalog, folder) as page:
        page.locator(".wc-row img").first.wait_for(timeout=120_000)
        page.get_by_role("listbox").focus()
        page.evaluate(WATCH)
        for _ in range(100):
            page.keyboard.press("k")
            page.wait_for_function("window.times.every((time) => time.written !== null)")
        times = page.evaluate("window.times")
        began = time.perf_counter()
        page.keyboard.press("End")
        page.wait_for_function("document.querySelector('.wc-current img')")
        last = time.perf_counter() - began
    screen, written = ([time[name] / 1000 for time in times] for name in ("screen", "written"))
    return {
        "browser: key to screen": statistics.median(screen),
        SCREEN: _p95(screen),
        "browser: key to screen, and written in the journal": statistics.median(written),
        "browser: End key to the last photo's picture": last,
    }


def has_browser() -> bool:
    """Whether a Chromium is here to measure in."""
    _see_tests()
    from install_browser import find_browser

    return find_browser() is not None


def _see_tests() -> None:
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)


@contextlib.contextmanager
def _page(catalog: Catalog, folder: Path):
    """A browser's page with the cleaner open under a real Voila."""
    _see_tests()
    import nbformat
    from install_browser import ARGUMENTS, find_browser
    from playwright.sync_api import sync_playwright
    from servers import start_voila, stop

    source = NOTEBOOK.format(folder=str(catalog.folder), here=str(Path(__file__).parent))
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, folder / "cleaner.ipynb")
    process, url = start_voila(folder / "cleaner.ipynb", folder, {})
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.goto(url)
            yield page
            browser.close()
    finally:
        stop(process)


# -- fastai ----------------------------------------------------------------------------------------------


def measure_fastai(folder: Path, data: Path | None) -> dict[str, float]:
    """fastai's own cleaner on a few hundred of the same photos: seconds to open, and to change the class."""
    import fastai.vision.widgets
    from fastai.vision.all import ImageDataLoaders, Resize, resnet18, vision_learner
    from fastai.vision.widgets import ImageClassifierCleaner

    fastai.vision.widgets.display = lambda image: (
        image._repr_png_()
    )  # what a notebook's `display` does with it
    make_catalog(folder, FASTAI_PHOTOS, data)
    dls = ImageDataLoaders.from_folder(
        folder, valid_pct=0.2, seed=1, item_tfms=Resize(SIDE), bs=32, num_workers=0
    )
    learn = vision_learner(dls, resnet18, pretrained=False)
    with learn.no_bar():
        made: list = []
        opened = _timed(lambda: made.append(ImageClassifierCleaner(learn)))
    changed = _timed(lambda: setattr(made[0].dd_cats, "value", "class3"))
    return {
        f"fastai's cleaner: open on {FASTAI_PHOTOS} photos (resnet18)": opened,
        "fastai's cleaner: another class in the menu": changed,
    }


if __name__ == "__main__":
    main()
