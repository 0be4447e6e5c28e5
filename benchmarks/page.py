"""The page in headless Chromium on a plain static host: transfer, waiting, speed, and answers against `load_predictor`.

    python benchmarks/page.py                                     # the project's own export, the sample's photos
    python benchmarks/page.py --data FOLDER                       # trains a probe on some of FOLDER's photos first
    python benchmarks/page.py --data FOLDER --export export.pkl   # an export of your own

FOLDER holds class folders, at any depth; what can't be read is left out. The peer is the predictor: ONNX Runtime in
Python, one thread.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from install_browser import ARGUMENTS, find_browser
from page_hostile import hostile_files
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from static_site import serve_folder

from winnow.images import BadImage, find_images, read_header
from winnow.share.page import write_page
from winnow.share.prediction import Prediction, load_predictor

ROOT = Path(__file__).parents[1]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")  # what Chromium shows: HEIC and TIFF it refuses
READY = re.compile("^Ready")
KEPT = re.compile("without a network")
# The page's own clock: `answered` holds when there was nothing left to do, `given` when files were chosen. In ms.
CLOCK = """
window.answered = []; window.given = [];
let busy = false;
addEventListener("change", () => { busy = true; given.push(performance.now()); }, true);
new MutationObserver(() => {
  if (!busy || document.querySelector(".card[aria-busy]")) return;
  busy = false;
  answered.push(performance.now());
}).observe(document, { subtree: true, childList: true, attributes: true });
"""


def main() -> None:
    """Run everything; the last line is JSON."""
    asked = _arguments()
    files = [file for file in find_images(asked.data or sample_folder()) if is_readable(file)]
    random.Random(asked.seed).shuffle(files)
    own = None if asked.data else ROOT / "export.pkl"
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        work = Path(folder)
        export = asked.export or own or make_export(files[min(asked.photos, len(files) // 2) :], work)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        bars = measure(browser, export, files[: asked.photos], work, hostile=asked.hostile)
        browser.close()
    print_table(bars)
    print(json.dumps({"bars": bars}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="real photos in class folders")
    parser.add_argument("--export", type=Path, help="an export.pkl with its .onnx beside it")
    parser.add_argument("--photos", type=int, default=400, help="photos to compare")
    parser.add_argument("--hostile", type=int, default=500, help="hostile files to give")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def sample_folder() -> Path:
    """Where the sample's photos lie."""
    import elpv_dataset

    return Path(elpv_dataset.__file__).parent / "data"


def is_readable(file: Path) -> bool:
    """Whether `file` is a photo that browsers show; what isn't has the hostile files' bar."""
    try:
        return file.suffix.lower() in SUFFIXES and bool(read_header(file))
    except BadImage:
        return False


def make_export(files: list[Path], work: Path, *, each: int = 40) -> Path:
    """An export of a probe on up to `each` photos a class."""
    from winnow.catalog import Catalog
    from winnow.learn.loaders import make_loaders
    from winnow.learn.training import make_learner
    from winnow.share.export import export_learner

    catalog, counts = Catalog(work / "photos"), {}
    for file in files:
        label = file.parent.name
        counts[label] = counts.get(label, 0) + 1
        if counts[label] <= each:
            catalog.add(file, label, name=f"{counts[label]:03}{file.suffix}")
    learn = make_learner(make_loaders(catalog), probe="fit")
    return export_learner(learn, work / "export.pkl").pkl


def measure(browser, export: Path, photos: list[Path], work: Path, *, hostile: int) -> list[dict]:
    """Every bar."""
    predictor = load_predictor(export, threads=1)
    began = time.perf_counter()
    wanted = {str(i): answer for i, answer in enumerate(predictor.predict(photos))}
    peer = len(photos) / (time.perf_counter() - began)
    write_page(export, work / "site", examples=photos[:3])
    write_page(export, work / "float32", weights="float32")
    with serve_folder(work / "site") as site:
        bars = visits(browser, site, photos)
        bars += speed(browser, site, photos, peer)
        bars += parity(browser, site, photos, wanted, within=0.02, name="float16")
        bars += manners(browser, site, photos)
        bars += hostility(browser, site, photos, hostile_files(photos[:5], hostile))
    with serve_folder(work / "float32") as site:
        return bars + parity(browser, site, photos, wanted, within=0.005, name="float32")


def bar(name: str, value: float, target: float, ok: bool) -> dict:
    return {"name": name, "value": round(value, 5), "target": target, "ok": bool(ok)}


def at_most(name: str, value: float, target: float) -> dict:
    return bar(name, value, target, value <= target)


def at_least(name: str, value: float, target: float) -> dict:
    return bar(name, value, target, value >= target)


# ---- one page ------------------------------------------------------------------------------------


def opened(browser, site, *, state: re.Pattern = READY) -> Page:
    page = browser.new_context(viewport={"width": 1100, "height": 900}).new_page()
    page.add_init_script(CLOCK)
    page.goto(site.url)
    expect(page.locator("#state")).to_have_text(state, timeout=120_000)
    return page


def give(page: Page, files: list[dict | str], *, timeout: float = 600) -> None:
    before = page.locator(".card").count()
    page.set_input_files("input[type=file]", files)
    expect(page.locator(".card:not([aria-busy])")).to_have_count(before + len(files), timeout=timeout * 1000)


def as_buffer(file: Path, name: str) -> dict:
    return {"name": name, "mimeType": "image/jpeg", "buffer": file.read_bytes()}


def csv_of(page: Page) -> list[dict]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))


# ---- the bars ------------------------------------------------------------------------------------


def visits(browser, site, photos: list[Path]) -> list[dict]:
    """Bytes of two visits, then one answer without the host, all from one browser profile."""
    began = time.perf_counter()
    page = opened(browser, site, state=KEPT)
    print(f"First visit: ready and kept after {time.perf_counter() - began:.1f} s.")
    first = site.bytes
    page.reload()
    expect(page.locator("#state")).to_have_text(KEPT, timeout=60_000)
    second = site.bytes - first
    warm = statistics.median(_first_answer(page, site, photos[0]) for _ in range(3))
    site.paused = True
    page.goto(site.url)
    give(page, [str(photos[0])], timeout=60)
    alone = page.locator(".card .verdict").count()
    site.paused = False
    page.context.close()
    return [
        at_most("first visit, MB", first / 1e6, 15),
        at_most("second visit, kB", second / 1e3, 50),
        at_least("answers with the host stopped", alone, 1),
        at_most("first answer, warm cache, s", warm, 2.5),
    ]


def _first_answer(page: Page, site, photo: Path) -> float:
    """Seconds from navigation to the first answer on the screen, by the page's own clock."""
    page.goto(site.url, wait_until="commit")
    give(page, [str(photo)], timeout=60)
    return page.evaluate("answered[0]") / 1000


def speed(browser, site, photos: list[Path], peer: float) -> list[dict]:
    """One photo at a time, then 200 at once, then phone photos of 12 megapixels."""
    page = opened(browser, site)
    one = statistics.median(_times(page, [[photo] for photo in photos[:30]])[5:])
    page.get_by_role("button", name="Clear all").click()
    (batch,) = _times(page, [photos[:200]])
    page.get_by_role("button", name="Clear all").click()
    with TemporaryDirectory() as folder:
        large = statistics.median(_times(page, [[_enlarged(p, Path(folder))] for p in photos[:8]]))
    page.context.close()
    rate = len(photos[:200]) / batch
    print(f"One photo: median {one * 1000:.0f} ms; of 12 megapixels: {large * 1000:.0f} ms.")
    print(f"Photos a second: {rate:.1f} on the page, {peer:.1f} by load_predictor with one thread.")
    return [
        at_most("one photo, chosen to answered, ms", one * 1000, 100),
        at_least("photos a second in a batch of 200", rate, 10),
    ]


def _times(page: Page, rounds: list[list[Path]]) -> list[float]:
    """Seconds from choosing to the last answer, for each round of photos."""
    page.evaluate("() => { answered.length = given.length = 0; }")
    for photos in rounds:
        give(page, [str(photo) for photo in photos])
    return [(b - a) / 1000 for a, b in page.evaluate("given.map((at, i) => [at, answered[i]])")]


def _enlarged(photo: Path, folder: Path) -> Path:
    """The photo with 12 megapixels, as a phone would have saved it."""
    large = folder / photo.with_suffix(".jpg").name
    Image.open(photo).convert("RGB").resize((4000, 3000)).save(large, quality=92)
    return large


def parity(browser, site, photos, wanted: dict[str, Prediction], *, within: float, name: str) -> list[dict]:
    """Answers of the page against the predictor's, from the same files."""
    page = opened(browser, site)
    give(page, [as_buffer(photo, str(i)) for i, photo in enumerate(photos)])
    same, worst = 0, []
    for row in csv_of(page):
        answer = wanted[row["photo"].lstrip("'")]
        same += row["label"] == answer.label
        gaps = [abs(float(row[f"p_{label}"] or "nan") - p) for label, p in answer.probabilities.items()]
        worst.append(max(gaps) if gaps else 0.0)
    page.context.close()
    print(f"{name}: {same} of {len(photos)} top answers equal; largest gap {max(worst):.4f}, ", end="")
    print(f"median {statistics.median(worst):.5f}.")
    return [
        at_least(f"{name}: top answer equal, share", same / len(photos), 0.995),
        at_most(f"{name}: largest gap of a probability", max(worst), within),
    ]


def manners(browser, site, photos: list[Path]) -> list[dict]:
    """Accessibility, other origins, and code from strings."""
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    give(page, [str(photo) for photo in photos[:3]])
    page.get_by_text("That’s wrong").first.click()
    serious = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    foreign = [url for url in asked if not url.startswith((site.url, "blob:", "data:"))]
    script = "() => new Promise((done) => { const s = document.createElement('script'); s.textContent ="
    script += (
        " 'window.injected = 1'; document.body.append(s); setTimeout(() => done(!!window.injected), 100); })"
    )
    injected = page.evaluate(script)
    page.context.close()
    return [
        at_most("serious faults by axe", len(serious), 0),
        at_most("requests to other origins", len(foreign), 0),
        at_most("inline scripts that ran", int(injected), 0),
    ]


def hostility(browser, site, photos: list[Path], bad: list[tuple[str, bytes]]) -> list[dict]:
    """Hostile files fifty at a time; after each fifty a good photo must be answered."""
    page = opened(browser, site)
    said = lived = 0
    for start in range(0, len(bad), 50):
        part = bad[start : start + 50]
        give(page, [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in part])
        give(page, [str(photos[0])])
        errors = page.locator(".card .error").all_inner_texts()
        said += sum(bool(re.search(r"\S \S.*[.!]$", error)) for error in errors)
        lived += page.locator(".card .verdict").count() == 1
        page.get_by_role("button", name="Clear all").click()
    page.context.close()
    rounds = -(-len(bad) // 50)
    return [
        at_least("hostile files that got a sentence, share", said / len(bad), 1),
        at_least("good photos answered after them, share", lived / rounds, 1),
    ]


def print_table(bars: list[dict]) -> None:
    print(f"\n{'bar':46} {'value':>10} {'target':>8}")
    for b in bars:
        print(f"{b['name']:46} {b['value']:10.4g} {b['target']:8.4g} {'ok' if b['ok'] else 'MISSED'}")


if __name__ == "__main__":
    main()
