"""Collecting: Winnow's download and fastai's `download_images` + `verify_images`, in turn, on the same local web.

    python benchmarks/collect.py [--data FOLDER] [--urls 1000] [--rows 100000] [--files 50000]

The web is tests/replica: 32 hosts on 127.0.0.1, each answer 50-200 ms late, one address in ten with a fault. Each side
runs in a process of its own; importing its libraries is not timed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLOTHING = ROOT.parent / "shared/data/clothing"  # where there is one; the project must not need it
sys.path.insert(0, str(ROOT / "tests"))

# What a fault leaves: "good" ends as a photo, "bad" must not, "copy" is a photo that is there already.
MIX = {
    "rotated": "good", "heic": "good", "cmyk": "good", "transparent": "good", "sixteen": "good", "animation": "good",
    "webp": "good", "wrongtype": "good", "once503": "good", "once429": "good", "redirect": "good", "late": "good",
    "404": "bad", "403": "bad", "500": "bad", "html": "bad", "truncated": "bad", "zeros": "bad", "pixel": "bad",
    "bomb": "bad", "nothing": "bad", "noise": "bad", "cut": "bad", "loop": "bad", "placeholder": "bad",
    "duplicate": "copy",
}  # fmt: skip
HANGING = ("stall", "drip", "endless", "big")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="photos for the near-duplicate part (benchmarks/duplicates.py)"
    )
    parser.add_argument("--urls", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["download", "hanging", "rows", "folder", "duplicates"])
    options = parser.parse_args()
    parts = {
        "download": lambda: measure_download(options.urls, options.repeat),
        "hanging": measure_hanging,
        "rows": lambda: measure_rows(options.rows),
        "folder": lambda: measure_folder(options.files),
        "duplicates": lambda: measure_duplicates(options.data),
    }
    bars = []
    for name, part in parts.items():
        if options.only in (None, name):
            bars += part()
    print(json.dumps({"bars": bars}))


def bar(name: str, value, target: str, ok: bool) -> dict:
    print(f"  {'ok ' if ok else 'NOT'}  {name}: {value} (target {target})")
    return {"name": name, "value": value, "target": target, "ok": bool(ok)}


# -- the web ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def web(**options):
    """The ports of a replica in a process of its own."""
    command = [sys.executable, "-m", "replica.server"]
    server = subprocess.Popen(
        command, cwd=ROOT / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    print(json.dumps({"hosts": 32, **options}), file=server.stdin, flush=True)
    try:
        yield json.loads(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait(10)


def addresses(ports: list[int], count: int) -> list[tuple[str, str]]:
    """(address, what it must end as): nine in ten are plain photos, the rest go round the faults."""
    faults, rows = list(MIX), []
    for number in range(1, count + 1):
        fault = faults[number // 10 % len(faults)] if number % 10 == 0 else "photo"
        port = ports[number % len(ports)] if fault != "placeholder" else ports[0]
        rows.append((f"http://127.0.0.1:{port}/{fault}/{number}.jpg", MIX.get(fault, "good")))
    return rows


def content(url: str) -> str:
    """The hash of the bytes that a good address gives in the end."""
    from replica import photos

    fault, name = url.split("/")[3:5]
    number = int(name.removesuffix(".jpg"))
    data = photos.odd_photo(fault, number) if fault in photos.ODD else photos.photo(number)
    return hashlib.sha256(data).hexdigest()


# -- both sides ------------------------------------------------------------------------------------

RUN = """
import json, resource, sys, time
sys.path.insert(0, {root!r})
job = json.loads(sys.stdin.read())
{prepare}
cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
before = time.perf_counter()
{work}
seconds = time.perf_counter() - before
try:  # not ru_maxrss on Linux: that starts from what the parent had
    peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
except FileNotFoundError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** 2
cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) - cpu
print(json.dumps({{"seconds": seconds, "cpu": cpu, "peak_mb": peak, **(out if "out" in globals() else {{}})}}))
"""
WINNOW = (
    "from winnow.catalog import Catalog\nfrom winnow.collect.download import download",
    "catalog = Catalog(job['folder'])\n"
    "report = download(catalog, [(url, 'all') for url in job['urls']], allow_hosts=('127.0.0.1',), **job['options'])\n"
    "out = {'waiting': report.waiting, 'reasons': report.reasons}",
)
FASTAI = (
    "from pathlib import Path\nfrom fastai.vision.utils import download_images, verify_images\n"
    "from fastai.data.transforms import get_image_files",
    "folder = Path(job['folder'])\ndownload_images(folder, urls=job['urls'], max_pics=len(job['urls']))\n"
    "bad = verify_images(get_image_files(folder))\nfor file in bad: file.unlink()",
)


def run(side: tuple[str, str], folder: str, urls: list[str], *, limit: float = 900, **options) -> dict:
    program = RUN.format(root=str(ROOT), prepare=side[0], work=side[1])
    job = json.dumps({"folder": folder, "urls": urls, "options": options})
    done = subprocess.run(
        [sys.executable, "-c", program], input=job, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        timeout=limit,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def judge(rows: list[tuple[str, str]], files: list[Path]) -> dict[str, int]:
    """How many files are good, bad (or copies), and how many good addresses have no file."""
    wanted = Counter(content(url) for url, end in rows if end == "good")
    found = Counter(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    good = sum(min(count, found[digest]) for digest, count in wanted.items())
    copies = found[content("http://x/duplicate/0.jpg")]
    return {
        "good": good, "refused": sum(wanted.values()) - good, "bad": sum(found.values()) - good - copies,
        "copies": max(copies - 1, 0),
    }  # fmt: skip


def measure_download(count: int, repeat: int) -> list[dict]:
    """Rates, accounts and memory on plain photos with one fault in ten."""
    rates, peaks, counts, accounts = {"Winnow": [], "fastai": []}, [], {}, None
    wanted = [url.split("/")[3:5] for url, _ in addresses([1], count)]
    prepare = [(fault, int(name.removesuffix(".jpg"))) for fault, name in wanted]
    with web(latency=[0.05, 0.2], prepare=prepare) as ports:
        rows = addresses(ports, count)
        for name, side in (("fastai", FASTAI), ("Winnow", WINNOW)) * repeat:
            urllib.request.urlopen(
                f"http://127.0.0.1:{ports[0]}/_forget"
            ).read()  # each side meets "503 once"
            with tempfile.TemporaryDirectory() as folder:
                result = run(side, folder, [url for url, _ in rows])
                files = [file for file in Path(folder).rglob("*") if is_photo(file, folder)]
                counts[name] = judge(rows, files)
                rates[name].append(counts[name]["good"] / result["seconds"])
                if name == "Winnow":
                    peaks.append(result["peak_mb"])
                    accounts = len(files) + sum(result["reasons"].values()) + result["waiting"] * 10**6
                print(
                    f"  {name}: {result['seconds']:.1f} s, of the processor {result['cpu']:.1f} s, {counts[name]},"
                    f" peak {result['peak_mb']:.0f} MB",
                    flush=True,
                )
    median = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n{count} addresses, one in ten with a fault (medians of {repeat}):")
    print(f"  {'':8}{'images/s':>10}{'good kept':>11}{'good refused':>14}{'bad accepted':>14}{'copies':>8}")
    for name in ("fastai", "Winnow"):
        own = counts[name]
        print(
            f"  {name:8}{median[name]:10.1f}{own['good']:11}{own['refused']:14}{own['bad']:14}{own['copies']:8}"
        )
    ours, ratio = counts["Winnow"], median["Winnow"] / median["fastai"]
    return [
        bar("addresses unaccounted for", count - accounts, "0", accounts == count),
        bar("bad files accepted", ours["bad"], "0", ours["bad"] == 0),
        bar("good files refused", ours["refused"], "0", ours["refused"] == 0),
        bar("images a second over fastai's", round(ratio, 2), ">= 3", ratio >= 3),
        bar("peak memory, MB", round(max(peaks)), "< 300", max(peaks) < 300),
    ]


def is_photo(file: Path, folder: str) -> bool:
    inside = file.relative_to(folder).parts
    return file.is_file() and not inside[0].startswith(".") and not file.name.startswith("catalog.db")


def measure_hanging() -> list[dict]:
    """Forty photos beside twelve hosts that stall, drip, or send without end; fastai is stopped after a minute."""
    print("\nTwelve addresses that hang (stall, one byte a second, endless, 200 MB) among forty photos:")
    seconds = {}
    for name, side in (("Winnow", WINNOW), ("fastai", FASTAI)):
        with web(latency=[0.05, 0.2], endless=20_000) as ports, tempfile.TemporaryDirectory() as folder:
            urls = [f"http://127.0.0.1:{ports[n % 32]}/photo/{n}.jpg" for n in range(1, 41)]
            urls += [f"http://127.0.0.1:{ports[n]}/{HANGING[n % 4]}/{n}.jpg" for n in range(12)]
            try:
                seconds[name] = run(side, folder, urls, limit=60 if name == "fastai" else 300)["seconds"]
                print(f"  {name}: {seconds[name]:.1f} s")
            except subprocess.TimeoutExpired:
                print(f"  {name}: not done after 60 s")
    return [
        bar(
            "seconds until all that hangs is given up",
            round(seconds.get("Winnow", 999)),
            "<= 90",
            seconds.get("Winnow", 999) <= 90,
        )
    ]


# -- scale -----------------------------------------------------------------------------------------

MANY = (
    "from winnow.catalog import Catalog\nfrom winnow.collect.download import download",
    """
count, ports = job['options']['count'], job['options']['ports']
def address(n):
    return f"http://127.0.0.1:{ports[n % len(ports)]}/{'photo' if n % 4 else '404'}/{n}.jpg?n={n}"
rows = ((address(n), 'all') for n in range(count))
class Enough(Exception): pass
def stop(done, total, note):
    if done >= job['options']['stop']: raise Enough
try: download(Catalog(job['folder']), rows, allow_hosts=('127.0.0.1',), progress=stop)
except Enough: pass
""",
)


def measure_rows(count: int) -> list[dict]:
    """Memory with many rows: all are entered, and the first 3,000 fetched."""
    print(f"\n{count:,} rows of addresses, the first 3,000 of them fetched:")
    with web() as ports, tempfile.TemporaryDirectory() as folder:
        result = run(MANY, folder, [], count=count, ports=ports, stop=3000)
    print(f"  {result['seconds']:.0f} s")
    return [
        bar(
            f"peak memory with {count:,} rows, MB", round(result["peak_mb"]), "< 300", result["peak_mb"] < 300
        )
    ]


def measure_folder(count: int) -> list[dict]:
    """A folder of many small photos, opened for the first time and looked at again."""
    from replica import photos

    from winnow.catalog import Catalog

    print(f"\nA folder of {count:,} photos (64×48):")
    with tempfile.TemporaryDirectory() as folder:
        base = photos.colour_photos()[0]
        for number in range(count):
            file = Path(folder) / f"class{number % 10}" / f"{number}.jpg"
            file.parent.mkdir(exist_ok=True)
            left, top = number % 550, number // 550 % 350
            base.crop((left, top, left + 64, top + 48)).save(file, quality=80)
        before = time.perf_counter()
        catalog = Catalog(folder)
        first = time.perf_counter() - before
        assert len(catalog) == count
        before = time.perf_counter()
        report = Catalog(folder).sync()
        second = time.perf_counter() - before
        assert not report.added
    return [
        bar(f"seconds to take {count:,} files in", round(first, 1), "<= 60", first <= 60),
        bar("seconds to look again", round(second, 1), "< 5", second < 5),
    ]


def measure_duplicates(data: Path | None) -> list[dict]:
    """The bars of benchmarks/duplicates.py."""
    import duplicates

    if data is None and CLOTHING.is_dir():
        data = CLOTHING
    if data is None:
        print("\nNear-duplicates on the sample's cells alone: --data FOLDER adds photos of yours.")
    return duplicates.measure(data)


if __name__ == "__main__":
    main()
