"""The workers behind `download`: a few for each host, a bounded number in all, fed from the ledger bit by bit."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from winnow.catalog import Catalog
from winnow.collect.fetch import UNREACHABLE, DownloadOptions, Fetched, Fetcher, Refused
from winnow.collect.keeper import Keeper
from winnow.collect.ledger import Job, Ledger
from winnow.collect.report import reason_of

WINDOW = 1000  # addresses held in memory at a time
BATCH = 32  # files verified and written down together
LINGER = 0.05  # seconds that the first of them waits for others: each batch has its own transactions
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
        self._whole: asyncio.Queue[Job | None] = asyncio.Queue()  # fetched, to be verified
        self._backlog = asyncio.Semaphore(2 * BATCH)  # so many of them may lie on the disk
        self._answered, self._unreachable = False, deque[tuple[Job, str]]()
        self._keeper = Keeper(catalog, ledger, max_side=options.max_side)
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
        self._settle_crash()
        self.total = self.ledger.count("waiting") + self.ledger.count("fetched")
        with ThreadPoolExecutor(self.options.threads, thread_name_prefix="winnow-verify") as self._pool:
            async with Fetcher(self.options) as self._fetcher:
                verifiers = [self._start(self._verify()) for _ in range(self.options.threads)]
                try:
                    await self._hand_over_fetched()
                    await self._feed(verifiers)
                    self._settle_unreachable()
                finally:
                    await self._dismiss()
        self.images -= self._keeper.take_out_placeholders()
        for file in self._folder.iterdir():  # nothing waits, so these belong to what a crash cut off
            file.unlink()

    def _settle_crash(self) -> None:
        """A run that was cut off may have brought photos in and not written that down."""
        if self.ledger.count("fetched"):
            self.catalog.sync()
        self._keeper.reconcile()

    async def _hand_over_fetched(self) -> None:
        """What came whole before a crash and was not verified yet."""
        for job in self.ledger.jobs("fetched", limit=1_000_000):
            if self._file(job).exists():
                await self._hand_in(job)
            else:
                self.ledger.waiting(job)

    def _start(self, work: Coroutine) -> asyncio.Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._one_left)
        return task

    # -- feeding --

    async def _feed(self, verifiers: list[asyncio.Task]) -> None:
        """Hand addresses to their hosts' workers, a window at a time, and send the verifiers home after the last."""
        last = 0
        while self._failure is None:
            jobs = self.ledger.jobs("waiting", after=last, limit=WINDOW - self._held)
            for job in jobs:
                self._hand_over(job)
                last = job.id
            if not jobs and self._tasks <= set(verifiers):
                for _ in verifiers:
                    self._whole.put_nowait(None)
                await asyncio.gather(*verifiers)
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
            self._start(self._serve(host))

    def _one_left(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self._failure = self._failure or task.exception()
        self._room.set()

    async def _dismiss(self) -> None:
        """Cancel what is under way, again where a step took the first call for its own time limit."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.5)

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
            if not host.workers and not host.jobs:
                self._hosts.pop(host.name, None)

    async def _deal_with(self, job: Job, host: Host) -> None:
        """Fetch one address, again if that may help, and make a photo or a rejection of it."""
        try:
            fetched = await self._fetch(job, host)
        except Refused as refusal:
            return self._refuse(job, str(refusal))
        self.ledger.fetched(job, fetched.sha256, fetched.bytes, fetched.final_url)
        await self._hand_in(job._replace(state="fetched", sha256=fetched.sha256, final=fetched.final_url))

    async def _fetch(self, job: Job, host: Host) -> Fetched:
        for attempt in range(1, self.options.tries + 1):
            await self._wait_for(host, job)
            try:
                async with self._slots:
                    fetched = await self._fetcher.fetch(job.found.url, self._file(job))
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

    async def _hand_in(self, job: Job) -> None:
        await self._backlog.acquire()
        self._whole.put_nowait(job)

    async def _verify(self) -> None:
        """Take whole files in, as many at a time as have come meanwhile, until none comes any more."""
        loop = asyncio.get_running_loop()
        while batch := await self._next_batch():
            new = [job for job in batch if self._is_new(job)]
            paths = await loop.run_in_executor(
                self._pool, self._keeper.keep, [(job, self._file(job)) for job in new]
            )
            self._settle(dict(zip(new, paths, strict=True)))
            for _ in batch:
                self._backlog.release()

    async def _next_batch(self) -> list[Job]:
        batch = [await self._whole.get()]
        if batch[0] and self._whole.qsize() < BATCH:
            await asyncio.sleep(LINGER)
        while None not in batch and len(batch) < BATCH and not self._whole.empty():
            batch.append(self._whole.get_nowait())
        if None in batch[1:]:
            self._whole.put_nowait(None)  # so that it is met again when these are done
        return [job for job in batch if job]

    def _is_new(self, job: Job) -> bool:
        if reason := self._keeper.seen_before(job):
            self._refuse(job, reason)
        return not reason

    def _settle(self, results: dict[Job, str | Exception]) -> None:
        """Files that were looked at are photos in the catalog now, or become rejections."""
        taken = [(job, path) for job, path in results.items() if isinstance(path, str)]
        self.ledger.images(taken)
        for job, result in results.items():
            if isinstance(result, str):
                self._file(job).unlink(missing_ok=True)
            else:
                self._keeper.forget(job)
                self._refuse(job, reason_of(result))
        self.done += len(taken)
        self.images += len(taken)

    def _file(self, job: Job) -> Path:
        """Where an address's bytes go; they are whole if the ledger says "fetched"."""
        return self._folder / f"{job.id}.bytes"

    # -- accounts --

    def _refuse(self, job: Job, reason: str) -> None:
        """Write a rejection down; while nothing at all has answered, it may be our own network's fault."""
        if reason.startswith(UNREACHABLE) and not self._answered:
            self._unreachable.append((job, reason))
            if len({job.host for job, _ in self._unreachable}) >= HOPELESS:
                raise self._no_network()
            return
        origin = job.found.origin() | ({"same_as": job.sha256} if reason.startswith("same picture") else {})
        self.catalog.reject(job.found.url, reason, label=job.found.label, origin=origin)
        self.ledger.rejected(job, reason)
        self._file(job).unlink(missing_ok=True)
        self.done += 1

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
