"""The workers behind `download`: a few for each host, a bounded number in all, fed from the ledger bit by bit."""

from __future__ import annotations

import asyncio
import io
import random
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from winnow.catalog import Catalog
from winnow.collect.fetch import UNREACHABLE, DownloadOptions, Fetched, Fetcher, Refused
from winnow.collect.ledger import Job, Ledger
from winnow.collect.report import reason_of
from winnow.images import BadImage, open_image
from winnow.intake import suffix_of

WINDOW = 1000  # addresses held in memory at a time
PLACEHOLDER = 3  # the same bytes at so many places of one host (or twice as many queries) are no photo
HOPELESS = 12  # this many hosts out of reach, and none within: there is no network


class NoNetwork(Exception):
    """Nothing at all could be reached; every address waits for the next call."""


class Host:
    """One host's addresses in memory, and when it wants to be asked again."""

    def __init__(self, name: str):
        self.name = name
        self.jobs: deque[Job] = deque()
        self.workers = 0
        self.free_at = 0.0
        self.gate = asyncio.Lock()


class Crew:
    """Fetches what waits in a ledger into a catalog; `done`, `total` and `images` can be watched meanwhile."""

    def __init__(self, catalog: Catalog, ledger: Ledger, options: DownloadOptions):
        self.catalog, self.ledger, self.options = catalog, ledger, options
        self.total = ledger.count("waiting") + ledger.count("fetched")
        self.done = self.images = 0
        self._folder = catalog.cache / "downloads"
        self._folder.mkdir(exist_ok=True)
        self._hosts: dict[str, Host] = {}
        self._held, self._room = 0, asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._answered, self._unreachable = False, deque[tuple[Job, str]]()
        self._known: dict[tuple[str, str], str] = {}
        self._placeholders: set[str] = set()
        self._main: asyncio.Task | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None

    def stop(self) -> None:
        """End early, from another thread; what is under way is dropped and waits for the next call."""
        if self._loop and self._main:
            self._loop.call_soon_threadsafe(self._main.cancel)

    async def work(self) -> None:
        """Until every address is a photo or a rejection. Raises `NoNetwork` and the catalog's errors."""
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        self._slots = asyncio.Semaphore(self.options.concurrency)
        self._reconcile()
        with ThreadPoolExecutor(self.options.threads, thread_name_prefix="winnow-verify") as self._pool:
            async with Fetcher(self.options) as self._fetcher:
                try:
                    for job in self.ledger.jobs("fetched", limit=1_000_000):
                        await self._finish(job)
                    await self._feed()
                    self._settle_unreachable()
                finally:
                    await self._dismiss()
        self._take_out_placeholders()

    # -- feeding --

    async def _feed(self) -> None:
        """Hand addresses to their hosts' workers, a window at a time."""
        last = 0
        while self._failure is None:
            jobs = self.ledger.jobs("waiting", after=last, limit=WINDOW - self._held)
            for job in jobs:
                self._hand_over(job)
                last = job.id
            if not jobs and not self._tasks:
                break
            self._room.clear()
            await self._room.wait()
        if self._failure:
            raise self._failure

    def _hand_over(self, job: Job) -> None:
        host = self._hosts.setdefault(job.host, Host(job.host))
        host.jobs.append(job)
        self._held += 1
        if host.workers < self.options.per_host:
            host.workers += 1
            task = asyncio.create_task(self._serve(host))
            self._tasks.add(task)
            task.add_done_callback(self._one_left)

    def _one_left(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self._failure = self._failure or task.exception()
        self._room.set()

    async def _dismiss(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one host, one address --

    async def _serve(self, host: Host) -> None:
        """Work through a host's addresses until none is left."""
        try:
            while host.jobs:
                await self._deal_with(host.jobs.popleft(), host)
                self._held -= 1
                if self._held < WINDOW // 2:
                    self._room.set()
        finally:
            host.workers -= 1

    async def _deal_with(self, job: Job, host: Host) -> None:
        """Fetch one address, again if that may help, and make a photo or a rejection of it."""
        part = self._folder / f"{job.id}.part"
        try:
            fetched = await self._fetch(job, host, part)
        except Refused as refusal:
            part.unlink(missing_ok=True)
            self._refuse(job, str(refusal))
            return
        part.replace(self._folder / f"{job.id}.done")
        self.ledger.fetched(job, fetched.sha256, fetched.bytes, fetched.final_url)
        await self._finish(job._replace(state="fetched", sha256=fetched.sha256, final=fetched.final_url))

    async def _fetch(self, job: Job, host: Host, part: Path) -> Fetched:
        for attempt in range(1, self.options.tries + 1):
            await self._wait_for(host, job)
            try:
                async with self._slots:
                    fetched = await self._fetcher.fetch(job.found.url, part)
                self._network_works()
                return fetched
            except Refused as refusal:
                if not str(refusal).startswith((UNREACHABLE, "too slow")):
                    self._network_works()
                if not refusal.again or attempt == self.options.tries:
                    raise
                await self._back_off(refusal, attempt, host)
        raise AssertionError("the loop returns or raises")

    async def _wait_for(self, host: Host, job: Job) -> None:
        """Keep the pause that a host asked for, by `Retry-After` or by `Crawl-delay`."""
        async with host.gate:
            now = asyncio.get_running_loop().time
            while (pause := host.free_at - now()) > 0:
                await asyncio.sleep(pause)
            if self.options.robots:
                delay = await self._fetcher.crawl_delay(job.found.url)
                host.free_at = now() + min(delay, self.options.max_wait)

    async def _back_off(self, refusal: Refused, attempt: int, host: Host) -> None:
        pause = self.options.backoff * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
        if refusal.wait is None:
            await asyncio.sleep(pause)
        elif refusal.wait > self.options.max_wait:
            raise Refused(f"{refusal}; it asks to come back in {refusal.wait:.0f} seconds")
        else:  # the whole host asked for patience
            host.free_at = max(host.free_at, asyncio.get_running_loop().time() + refusal.wait)

    # -- verifying --

    async def _finish(self, job: Job) -> None:
        """A whole file on disk becomes a photo in the catalog, or a rejection."""
        file = self._folder / f"{job.id}.done"
        try:
            if reason := self._seen_before(job):
                self._refuse(job, reason)
                return
            self._known[job.sha256, job.found.label] = job.found.url
            path = await asyncio.get_running_loop().run_in_executor(self._pool, self._add, job, file)
            self.ledger.image(job, path)
            self._count(image=True)
        except BadImage as error:
            self._known.pop((job.sha256, job.found.label), None)
            self._refuse(job, reason_of(error))
        file.unlink(missing_ok=True)

    def _add(self, job: Job, file: Path) -> str:
        """In a thread: decode, shrink if asked, take in."""
        data = file.read_bytes()
        origin = (
            {**job.found.origin(), "final_url": job.final}
            if job.final != job.found.url
            else job.found.origin()
        )
        name = _name(job, data)
        if self.options.max_side:
            data, size = _shrink(data, self.options.max_side)
            if size:
                origin |= {"original_sha256": job.sha256, "original_bytes": file.stat().st_size}
                origin |= {"original_width": size[0], "original_height": size[1]}
                name = str(Path(name).with_suffix(suffix_of(data)))
        return self.catalog.add(data, job.found.label, name=name, origin=origin).path

    def _seen_before(self, job: Job) -> str:
        """Why these bytes aren't wanted: a placeholder, or a picture that is there already."""
        same = self.ledger.same_bytes(job.sha256)
        alike = [other for other in same if other.host == job.host or other.final == job.final]
        places = {other.found.url.partition("?")[0] for other in alike}
        if len(places) >= PLACEHOLDER or len(alike) >= 2 * PLACEHOLDER or job.sha256 in self._placeholders:
            self._placeholders.add(job.sha256)
            return f"placeholder: {len(same)} addresses gave this picture"
        first = self._known.get((job.sha256, job.found.label))
        return f"same picture: already there from {first}" if first and first != job.found.url else ""

    def _take_out_placeholders(self) -> None:
        """Photos that came in before their picture turned out to be a placeholder are removed (undo works)."""
        reason = "placeholder: many addresses gave this picture"
        for sha256 in self._placeholders:
            for job in self.ledger.same_bytes(sha256):
                if job.state == "image" and (path := self.ledger.path_of(job)):
                    self.catalog.remove(path, by="winnow", why=reason)
                    self.catalog.reject(
                        job.found.url, reason, label=job.found.label, origin=job.found.origin()
                    )
                    self.ledger.rejected(job, reason)
                    self.images -= 1
        pending = self.catalog.pending().values()
        if pending and all(decision.by == "winnow" for decision in pending):
            self.catalog.apply()

    # -- accounts --

    def _refuse(self, job: Job, reason: str) -> None:
        """Write a rejection down; while nothing at all has answered, it may be our own network's fault."""
        if reason.startswith(UNREACHABLE) and not self._answered:
            self._unreachable.append((job, reason))
            if len({job.host for job, _ in self._unreachable}) >= HOPELESS:
                raise self._no_network()
            return
        self.catalog.reject(job.found.url, reason, label=job.found.label, origin=job.found.origin())
        self.ledger.rejected(job, reason)
        (self._folder / f"{job.id}.done").unlink(missing_ok=True)
        self._count()

    def _count(self, *, image: bool = False) -> None:
        self.done += 1
        self.images += image

    def _network_works(self) -> None:
        self._answered = True
        while self._unreachable:
            self._refuse(*self._unreachable.popleft())

    def _settle_unreachable(self) -> None:
        if len({job.host for job, _ in self._unreachable}) > 2:
            raise self._no_network()
        self._network_works()

    def _no_network(self) -> NoNetwork:
        return NoNetwork(
            "No address could be reached: check the network and call download again; every address still waits. "
            f"({self._unreachable[0][1]})"
        )

    def _reconcile(self) -> None:
        """Learn what the catalog has already, and settle what a crash left between catalog and ledger."""
        urls: dict[str, str] = {}
        for photo in self.catalog.photos():
            url = photo.origin.get("url", "")
            urls[url] = photo.path
            self._known[photo.origin.get("original_sha256", photo.sha256), photo.label] = url
        refused = {rejection.source: rejection.reason for rejection in self.catalog.rejections()}
        for state in ("fetched", "waiting"):
            last = 0
            while jobs := self.ledger.jobs(state, after=last, limit=WINDOW):
                last = jobs[-1].id
                for job in jobs:
                    url = job.found.url
                    if url in urls:
                        self.ledger.image(job, urls[url])
                    elif url in refused and job.reason is None:
                        self.ledger.rejected(job, refused[url])
        self.total = self.ledger.count("waiting") + self.ledger.count("fetched")


def _name(job: Job, data: bytes) -> str:
    """A file name from the address, with the suffix that fits the bytes."""
    stem = Path(unquote(urlsplit(job.found.url).path)).stem
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[:60]
    return (stem or job.sha256[:16]) + suffix_of(data)


def _shrink(data: bytes, max_side: int) -> tuple[bytes, tuple[int, int] | None]:
    """A JPEG of at most `max_side` pixels and the size before, or the same bytes and none if it is small enough."""
    image = open_image(data)
    if max(image.size) <= max_side:
        return data, None
    size = image.size
    image.thumbnail((max_side, max_side), reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue(), size
