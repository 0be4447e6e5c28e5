"""From addresses to photos in the catalog: many at a time, politely, and each address accounted for."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from winnow.catalog import Catalog
from winnow.collect.crew import Crew, NoNetwork
from winnow.collect.fetch import DownloadOptions
from winnow.collect.found import Found, NothingFound
from winnow.collect.ledger import Ledger
from winnow.collect.report import Report
from winnow.collect.search import search_images
from winnow.intake import check_label

# Seconds after which a thread that computes lets others go on. Fetching and decoding are many short steps, and with
# Python's own 0.005 each waits for the other longer than it takes.
SWITCH = 0.001
TRANSIENT = (
    "too slow",
    "can't be reached",
    "broke off",
    "too many requests",
    "server fault",
)  # kinds of reason


class DownloadRunning(Exception):
    """Two downloads into one dataset would fetch everything twice."""


__all__ = ["DownloadOptions", "DownloadRunning", "NoNetwork", "download", "report", "top_up"]


def download(
    catalog: Catalog,
    rows: Iterable[Found | tuple[str, str]] = (),  # or (address, class)
    *,
    unticked: Iterable[Found] = (),  # what a person left out: written down, not fetched
    retry: bool = False,  # try again what failed before and may work now
    progress: Callable[[int, int, str], None] | None = None,
    **options,  # of `DownloadOptions`
) -> Report:
    """Fetch every address, verify it, and take it into the catalog; returns found, fetched and why not, by class.

    The addresses are on disk before the first is fetched: after a crash, or when you stop it, call `download(catalog)`
    again and it goes on. An address that was dealt with before is not fetched again. Raises `NoNetwork` if nothing
    can be reached at all (then every address still waits), and the catalog's errors if the disk refuses.
    """
    with _alone(catalog), closing(Ledger(ledger_path(catalog))) as ledger:
        ledger.add(_checked(rows))
        for row in unticked:
            ledger.add([row])
            _leave_out(catalog, ledger, row)
        if retry:
            ledger.wait_again(TRANSIENT)
        _run(Crew(catalog, ledger, DownloadOptions(**options)), progress)
        return ledger.report()


def report(catalog: Catalog) -> Report:
    """What became of every address that was ever to be fetched into this catalog."""
    with closing(Ledger(ledger_path(catalog))) as ledger:
        return ledger.report()


def top_up(
    catalog: Catalog,
    n: int,
    *,
    classes: Iterable[str] | None = None,  # left out: the catalog's
    template: str = "{} photo",
    rounds: int = 8,  # searches for a class, each for as many as are still missing
    search: dict | None = None,  # options of `search_images`
    progress: Callable[[int, int, str], None] | None = None,
    **options,  # of `DownloadOptions`
) -> Report:
    """Search and fetch until each class has `n` photos, or the engines have no more to give."""
    for name in catalog.classes if classes is None else classes:
        for _ in range(rounds):
            missing = n - len(catalog.photos(label=name))
            if missing <= 0:
                break
            known = {*_known(catalog), *(rejection.source for rejection in catalog.rejections())}
            try:
                rows = search_images(template.format(name), missing, label=name, skip=known, **(search or {}))
            except NothingFound:
                break
            download(catalog, rows, progress=progress, **options)
    return report(catalog)


def ledger_path(catalog: Catalog) -> Path:
    """Where the catalog's table of addresses lies."""
    return catalog.cache / "downloads.db"


def _known(catalog: Catalog) -> list[str]:
    with closing(Ledger(ledger_path(catalog))) as ledger:
        return list(ledger.urls())


def _checked(rows: Iterable[Found | tuple[str, str]]) -> Iterable[Found]:
    """Rows as `Found`, with labels that can be folders; raises `UnknownClass` before anything is fetched."""
    good: set[str] = set()
    for row in rows:
        found = row if isinstance(row, Found) else Found(url=row[0], label=row[1])
        if found.label not in good:
            check_label(found.label)
            good.add(found.label)
        yield found


def _leave_out(catalog: Catalog, ledger: Ledger, row: Found) -> None:
    """Write down that a person didn't want this one, unless it was dealt with before."""
    job = ledger.job(row.url)
    if job and job.state == "waiting":
        catalog.reject(row.url, "unticked by hand", label=row.label, origin=row.origin())
        ledger.rejected(job, "unticked by hand")


@contextmanager
def _alone(catalog: Catalog) -> Iterator[None]:
    """Hold the lock that keeps a second download out of this dataset; the system frees it after a crash."""
    with (catalog.cache / "downloads.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadRunning(
                f"Another download into {catalog.folder.name} is running: wait for it, or stop it first."
            ) from None
        yield


def _run(crew: Crew, progress: Callable[[int, int, str], None] | None) -> None:
    """Let the crew work in a thread of its own (a notebook has an event loop already), and watch it."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(crew.work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="winnow-download")
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH))
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
            if progress:
                progress(crew.done, max(crew.total, 1), f"{crew.images:,} photos")
    except BaseException:  # the person stopped it: leave everything so that it can go on later
        crew.stop()
        thread.join()
        raise
    finally:
        sys.setswitchinterval(before)
    if failure:
        raise failure[0]
