"""Winnow's app beside fastai's bear_voila on the same model: memory, time, load, hostile files, Binder.

    python benchmarks/share.py [--data FOLDER] [--quick] [--only memory pages …]

FOLDER holds class folders, itself or in train/ (default: the sample of solar cells). Both apps run in turn on
the same export.pkl, in a real headless browser. Times are wall clock on this machine: read the ratios.
Memory is what the processes hold for themselves, pages that they share counted once; pages of program files,
which the system drops when it needs the room and whose share hangs on what else runs, are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from install_browser import ARGUMENTS, find_browser
from servers import free_port, start, start_voila, start_winnow, stop
from share_apps import make_apps, make_hostile, make_photos

ROOT = Path(__file__).parents[1]
PREHEATED = ("--VoilaConfiguration.preheat_kernel=True", "--VoilaConfiguration.default_pool_size=1")
PATIENCE = 400_000  # milliseconds: one browser draws the pages of all visitors at once, on the server's cores
POLL = 10  # milliseconds; by animation frames, the default, a page in the background is never looked at
DONE = ".card:is([data-state=answered],[data-state=failed])"
console = Console(width=110)


class Report:
    """Rows of the table and the bars of the last line."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, bool]] = []
        self.bars: list[dict] = []

    def bar(self, name: str, value: float, target: float, *, said: str = "", at_least: bool = False) -> None:
        ok = value >= target if at_least else value <= target
        self.bars.append({"name": name, "value": round(float(value), 4), "target": target, "ok": bool(ok)})
        sign = "≥" if at_least else "≤"
        self.rows.append((name, said or f"{value:.3g}", f"{sign} {target:g}", ok))
        console.print(f"{'ok ' if ok else 'NO '} {name}: {said or f'{value:.3g}'} ({sign} {target:g})")

    def show(self) -> None:
        table = Table("bar", "measured", "target", "ok")
        for name, said, target, ok in self.rows:
            table.add_row(name, said, target, "yes" if ok else "NO")
        console.print(table)
        print(json.dumps({"bars": self.bars}))


@contextlib.contextmanager
def served(kind: str, notebook: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server of this kind, "voila" or "winnow"."""
    if kind == "winnow":
        process, url = start_winnow(notebook, *options)
    else:
        process, url = start_voila(notebook, notebook.parent, {}, *options)
    try:
        yield process, url
    finally:
        stop(process)


def kernels(process: subprocess.Popen) -> list[psutil.Process]:
    """Kernels of either server, not the process that Winnow forks them from."""
    found = psutil.Process(process.pid).children(recursive=True)
    parents = {child.ppid() for child in found}
    return [child for child in found if child.pid not in parents or "ipykernel" in " ".join(child.cmdline())]


def tree_mb(process: subprocess.Popen) -> float:
    """Memory of a server and all below it, shared pages counted once (PSS); with pages of program files."""
    return sum(_rollup(pid, "Pss:") for pid in _tree(process))


def own_mb(process: subprocess.Popen) -> float:
    """The same without the pages of program files."""
    return sum(_rollup(pid, "Pss_Anon:") for pid in _tree(process))


def _tree(process: subprocess.Popen) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    return []


def _rollup(pid: int, name: str) -> float:
    """A line of Linux's account of a process, in megabytes; 0 when it has just ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# ---- what a visitor does --------------------------------------------------------------------------------


def open_page(page, url: str) -> float:
    """Seconds until a photo could be chosen."""
    began = time.perf_counter()
    page.goto(url, timeout=120_000)
    page.locator("input[type=file], button:has-text('Upload')").first.wait_for(
        state="attached", timeout=120_000
    )
    return time.perf_counter() - began


def ask_winnow(page, photo: Path) -> float:
    cards = page.locator(DONE).count()
    began = time.perf_counter()
    page.locator("input[type=file]").first.set_input_files(str(photo))
    page.wait_for_function(
        f"document.querySelectorAll('{DONE}').length > {cards}", timeout=60_000, polling=POLL
    )
    return time.perf_counter() - began


def ask_bear(page, photo: Path) -> float:
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name=re.compile("Upload")).click()
    page.evaluate("window.before = [...document.querySelectorAll('.widget-label')].at(-1).textContent")
    began = time.perf_counter()
    chosen.value.set_files(str(photo))
    # The label is emptied first, so the same answer twice is seen too.
    page.wait_for_function(
        "(() => { const now = [...document.querySelectorAll('.widget-label')].at(-1).textContent;"
        " if (now !== window.before) window.before = null;"
        " return window.before === null && now.startsWith('Prediction'); })()",
        timeout=60_000,
        polling=POLL,
    )
    return time.perf_counter() - began


ASK = {"winnow": ask_winnow, "bear": ask_bear}


@contextlib.contextmanager
def new_page(browser) -> Iterator:
    context = browser.new_context(viewport={"width": 900, "height": 1000})
    try:
        yield context.new_page()
    finally:
        context.close()


def median(values: list[float]) -> float:
    return statistics.median(values)


# ---- the measurements -----------------------------------------------------------------------------------


def measure_answers(report: Report, browser, apps: dict, photos: tuple, rounds: int) -> None:
    """Upload to answer, and what a kernel then holds alone; the apps take turns photo by photo."""
    small, large = photos
    with contextlib.ExitStack() as stack:
        pages, memory = {}, {}
        for name in ("bear", "winnow"):
            kind = "winnow" if name == "winnow" else "voila"
            process, url = stack.enter_context(served(kind, apps[name]))
            pages[name] = stack.enter_context(new_page(browser))
            open_page(pages[name], url)
            memory[name] = process
        times: dict = {(name, size): [] for name in pages for size in ("small", "12 MP")}
        for name, page in pages.items():
            ASK[name](page, small[0])  # warms its model up; FileUpload takes no file twice, so not again
        for size, files in (("small", small), ("12 MP", large)):
            for file, name in itertools.product(files[1 : rounds + 1], pages):
                times[name, size].append(ASK[name](pages[name], file))
        uss = {}
        for name, process in memory.items():
            uss[name] = max(kernel.memory_full_info().uss / 1e6 for kernel in kernels(process))
    ratio = uss["winnow"] / uss["bear"]
    report.bar(
        "memory a visitor / bear",
        ratio,
        1 / 6,
        said=f"{uss['winnow']:.0f} / {uss['bear']:.0f} MB = {ratio:.3f}",
    )
    for size, target in (("small", 1.0), ("12 MP", 0.6)):
        own, peer = median(times["winnow", size]), median(times["bear", size])
        said = f"{own:.3f} / {peer:.3f} s = {own / peer:.2f}"
        report.bar(f"upload to answer, {size} / bear", own / peer, target, said=said)


def measure_pages(report: Report, browser, apps: dict, rounds: int) -> None:
    """Time to a usable page under the same plain Voila, preheated and cold; `winnow serve` beside it."""
    times: dict = {}
    with contextlib.ExitStack() as stack:
        urls = {}
        for name in ("empty", "winnow", "bear"):
            urls[name, "preheated"] = stack.enter_context(served("voila", apps[name], *PREHEATED))[1]
            urls[name, "cold"] = stack.enter_context(served("voila", apps[name]))[1]
        urls["winnow", "served"] = stack.enter_context(served("winnow", apps["winnow"]))[1]
        for _, (key, url) in itertools.product(range(rounds), urls.items()):
            if key[1] != "cold":
                time.sleep(12 if key[0] == "bear" else 4)  # the next kernel gets ready
            with new_page(browser) as page:
                times.setdefault(key, []).append(open_page(page, url))
                page.close(run_before_unload=True)
    middle = {key: median(values) for key, values in times.items()}
    for key, value in middle.items():
        console.print(f"    usable page, {key[0]} {key[1]}: {value:.2f} s")
    ratio = middle["winnow", "preheated"] / middle["empty", "preheated"]
    report.bar("usable page preheated / empty notebook", ratio, 1.2)
    extra = middle["winnow", "cold"] - middle["empty", "preheated"]
    report.bar("usable page cold, seconds more than that", extra, 1.0)


ASK = {  # file bytes to probabilities, each in a process of its own, as their apps run them
    "winnow": """
from winnow.share.prediction import load_predictor
predictor = load_predictor(export, light=True)
ask = lambda data: predictor.predict([data])
""",
    "fastai": """
import contextlib
from fastai.vision.all import PILImage, load_learner
learn, quiet = load_learner(export, cpu=True), contextlib.ExitStack()
quiet.enter_context(learn.no_bar())
quiet.enter_context(learn.no_logging())
ask = lambda data: learn.predict(PILImage.create(data))
""",
}
TIMED = """
import json, pathlib, sys, time
export, *photos = sys.argv[1:]
{ask}
times = []
for photo in [photos[0], *photos]:
    data = pathlib.Path(photo).read_bytes()
    began = time.perf_counter()
    ask(data)
    times.append(time.perf_counter() - began)
print(json.dumps(times[1:]))
"""


def measure_model(report: Report, apps: dict, photos: list[Path]) -> None:
    """Model and preprocessing alone, in turn, three times each."""
    times: dict[str, list[float]] = {name: [] for name in ASK}
    for name in [*ASK] * 3:
        export = apps["winnow"].parent / "export.pkl"
        command = [sys.executable, "-W", "ignore", "-c", TIMED.format(ask=ASK[name]), export, *photos]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        times[name] += json.loads(said.splitlines()[-1])
    own, peer = median(times["winnow"]), median(times["fastai"])
    said = f"{own * 1000:.1f} / {peer * 1000:.1f} ms = {own / peer:.2f}"
    report.bar("model and preprocessing / learn.predict", own / peer, 0.25, said=said)


def measure_crowd(report: Report, browser, apps: dict, photos: list[Path], people: int) -> None:
    """Many at once in the browser; the fiftieth meets a line that moves."""
    from winnow.share.prediction import load_predictor

    answers = load_predictor(apps["winnow"].parent / "export.pkl").predict(photos[:5])
    expected = ["None of these" if answer.unlike else answer.label for answer in answers]
    with (
        served("winnow", apps["winnow"], f"--max-visitors={people}") as (process, url),
        contextlib.ExitStack() as stack,
    ):
        peak, over = [0.0], threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                peak[0] = max(peak[0], tree_mb(process))

        watcher = threading.Thread(target=watch)
        watcher.start()
        pages = [stack.enter_context(new_page(browser)) for _ in range(people)]
        for page in pages:
            page.goto(url, wait_until="commit", timeout=PATIENCE)
        for page in pages:
            page.locator("input[type=file]").first.wait_for(state="attached", timeout=PATIENCE)
        for page in pages:  # all are sent before the first answer is waited for
            page.locator("input[type=file]").first.set_input_files([str(photo) for photo in photos[:5]])
        right = 0
        for page in pages:
            page.wait_for_function(
                f"document.querySelectorAll('{DONE}').length >= 5", timeout=PATIENCE, polling=POLL
            )
            seen = page.locator(".card .verdict strong").all_inner_texts()
            right += sum((Counter(seen) & Counter(expected)).values())  # the page may show them in any order
        over.set()
        watcher.join()
        line = [httpx.Client(base_url=url, timeout=60) for _ in range(50 - people)]
        codes = [client.get("").status_code for client in line]
        for page in pages:
            page.close(run_before_unload=True)
        time.sleep(3)
        codes_later = [client.get("").status_code for client in line[:people]]
        for client in line[:people]:  # the first ones of the line leave without a word, and their visits end
            client.close()
        later = codes_later.count(200)
    report.bar(
        "right answers of visitors at once", right, people * 5, at_least=True, said=f"{right} of {people * 5}"
    )
    report.bar("memory of all visitors at once, MB", peak[0], 2048, said=f"{peak[0]:.0f}")
    report.bar("busy page for all from the 21st to the 50th", codes.count(503), 50 - people, at_least=True)
    report.bar("and later they get in", later, min(people, 50 - people), at_least=True)


def measure_leaks(report: Report, apps: dict, visits: int) -> None:
    """Visits over HTTP and the kernel's socket, one after another, each closed as a page closes itself."""
    from test_serving import Browser, listen, message

    with served("winnow", apps["winnow"]) as (process, url):

        def visit(count: int) -> None:
            for _ in range(count):
                visitor = Browser(url)
                visitor.open()
                with visitor.socket() as socket:
                    socket.send(json.dumps(message("kernel_info_request", {})))
                    listen(socket, 0.05)
                visitor.close()

        found, left = [], 0
        for count in (visits // 2, visits // 2, visits - visits // 2):  # the first hundred fill caches
            visit(count)
            time.sleep(25)  # Jupyter's timers hold a visit's objects for 20 seconds
            found.append(own_mb(process))
            left = len(kernels(process)) - 1  # one waits for the next visitor
    report.bar(f"kernels left behind by {visits} visits", left, 0)
    said = f"{' → '.join(f'{mb:.1f}' for mb in found)} MB, the server and its spare kernel"
    report.bar(f"megabytes left behind by {visits} visits", found[-1] - found[0], 1.0, said=said)


def measure_hostile(report: Report, browser, apps: dict, folder: Path, photo: Path, count: int) -> None:
    """Files that mean harm, through the page; then an honest photo."""
    files = make_hostile(folder / "hostile", photo)
    with served("winnow", apps["winnow"]) as (process, url), new_page(browser) as page:
        open_page(page, url)
        ask_winnow(page, photo)
        before = {kernel.pid for kernel in kernels(process)}
        alerts: list[str] = []
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        told = 0
        for start_at in range(0, count, 50):
            batch = [files[i % len(files)] for i in range(start_at, min(start_at + 50, count))]
            cards = page.locator(DONE).count()
            page.locator("input[type=file]").first.set_input_files([str(file) for file in batch])
            page.wait_for_function(
                f"document.querySelectorAll('{DONE}').length >= {cards + len(batch)}",
                timeout=240_000,
                polling=POLL,
            )
            told += page.locator(DONE).count() - cards
        said_nothing = "c => !c.querySelector('.error, .verdict')?.innerText"
        silent = page.evaluate(f"[...document.querySelectorAll('{DONE}')].filter({said_nothing}).length")
        seconds = ask_winnow(page, photo)
        alive = before <= {kernel.pid for kernel in kernels(process)}
    report.bar("hostile uploads that got a sentence", told - silent, count, at_least=True)
    report.bar(
        "kernels that died of them",
        0 if alive else 1,
        0,
        said=f"{'none' if alive else 'some'}; next photo {seconds:.2f} s",
    )
    report.bar("scripts that ran", len(alerts), 0)


def measure_locks(report: Report, apps: dict) -> None:
    """What another browser can get at: files, code, a stranger's kernel."""
    from test_serving import Browser, InvalidStatus, listen, message

    from winnow.share.trial import Trial

    with Trial(apps["winnow"]) as trial:
        trial.visit()
        fetched = trial.fetch_files(apps["winnow"].parent)
        visitor, stranger = Browser(trial.url), Browser(trial.url)
        visitor.open()
        stranger.open()
        proof = apps["winnow"].parent / "executed"
        code = f"open({str(proof)!r}, 'w').close()"
        with visitor.socket() as socket:
            for channel in ("shell", "control"):
                asked = message(
                    "execute_request", {"code": code, "silent": False, "user_expressions": {}}, channel
                )
                socket.send(json.dumps(asked))
            listen(socket)
        try:
            stranger.socket(visitor.kernel).__enter__()
            reached = 1
        except InvalidStatus:
            reached = 0
    report.bar("files that could be fetched", len(fetched), 0)
    report.bar("code that could be executed", int(proof.exists()), 0)
    report.bar("strangers' kernels that could be reached", reached, 0)


def measure_binder(report: Report, browser, apps: dict, folder: Path, photo: Path) -> None:
    """Binder's own steps in a clean environment: requirements, postBuild, a Jupyter server, the link."""
    repo, env = folder / "binder", folder / "binder-env"
    ignore = shutil.ignore_patterns(".venv", ".git", "data", "runs", "__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT, repo, ignore=ignore)
    for file in ("export.pkl", "export.onnx"):
        shutil.copy(apps["winnow"].parent / file, repo)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", env], check=True)
    python = env / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    install = [python, "-m", "pip", "install", *quiet, "--no-deps"]
    subprocess.run([*install, "-r", "binder/requirements.txt"], cwd=repo, check=True)
    subprocess.run([*install, "."], cwd=repo, check=True)
    installed = time.perf_counter() - began
    size = (
        sum(path.stat().st_size for path in env.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    )
    port = free_port()
    command = [str(env / "bin" / "jupyter"), "server", "--no-browser", f"--port={port}", "--allow-root"]
    command += ["--ServerApp.base_url=/user/me/", "--IdentityProvider.token=t", "--ServerApp.port_retries=0"]
    environment = {"PATH": f"{env / 'bin'}:/usr/bin:/bin", "VIRTUAL_ENV": str(env)}
    process, url = start(command, f"http://127.0.0.1:{port}/user/me/", "api", repo, environment)
    try:
        answers = []
        for path in ("winnow/", "voila/render/app.ipynb"):
            with new_page(browser) as page:
                page.goto(f"{url}{path}?token=t", timeout=90_000)
                page.locator("input[type=file]").first.wait_for(state="attached", timeout=90_000)
                if path == "winnow/":
                    ready = time.perf_counter() - began
                answers.append(ask_winnow(page, photo))
        memory = tree_mb(process)
    finally:
        stop(process)
    report.bar("binder environment, MB", size, 600, said=f"{size:.0f}")
    report.bar("binder ready, seconds", ready, 90, said=f"{ready:.0f} (installing {installed:.0f})")
    report.bar("binder memory with two visitors, MB", memory, 2048, said=f"{memory:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train/ and class folders in it")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works")
    parser.add_argument("--only", nargs="+", help="answers pages model crowd leaks hostile locks binder")
    options = parser.parse_args()
    few, report, began = options.quick, Report(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="winnow-share-") as name, sync_playwright() as playwright:
        folder = Path(name)
        apps = make_apps(folder, options.data and options.data.resolve(), 30)
        small, large = photos = make_photos(folder, 4 if few else 12)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        steps = {
            "model": lambda: measure_model(report, apps, small),
            "answers": lambda: measure_answers(report, browser, apps, photos, 4 if few else 12),
            "pages": lambda: measure_pages(report, browser, apps, 2 if few else 3),
            "crowd": lambda: measure_crowd(report, browser, apps, small + large, 4 if few else 20),
            "leaks": lambda: measure_leaks(report, apps, 20 if few else 200),
            "hostile": lambda: measure_hostile(report, browser, apps, folder, small[0], 50 if few else 500),
            "locks": lambda: measure_locks(report, apps),
            "binder": lambda: measure_binder(report, browser, apps, folder, small[0]),
        }
        for step, measure in steps.items():
            if not options.only or step in options.only:
                try:
                    measure()
                except Exception as error:  # the other bars are worth having
                    report.bar(f"{step} could be measured", 0, 1, at_least=True, said=f"no: {error}"[:300])
        browser.close()
    console.print(f"{time.perf_counter() - began:.0f} s")
    report.show()


if __name__ == "__main__":
    main()
