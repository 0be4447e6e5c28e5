"""The kernels behind a served app: one a visitor, ready before the visitor comes, ended after the visit."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import psutil
from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Float, Integer

from winnow.share.visitors import Door, Visit

# One thread each: visitors share the cores, and idle thread pools cost memory.
QUIET = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")}
# glibc's arenas would keep what a photo needed; a kernel has one busy thread, so it loses nothing.
QUIET |= {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "1000000", "PYTHONDONTWRITEBYTECODE": "1"}
M_ARENA_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -8, -1, -3  # malloc.h


class VisitorKernels(AsyncMappingKernelManager):
    """Jupyter's kernel manager that knows whose each kernel is, and ends those that nobody needs.

    Voila mixes its pool of started kernels into this class (`voila_kernel_manager_factory`).
    """

    max_visitors = Integer(8, help="How many visitors have a kernel at the same time.").tag(config=True)
    grace = Float(120, help="Seconds that a kernel outlives its browser's connection.").tag(config=True)
    arrival = Float(60, help="Seconds that a browser has for its first connection.").tag(config=True)
    idle = Float(900, help="Seconds without any activity after which a visit ends.").tag(config=True)
    memory_limit = Integer(700, help="Megabytes that one kernel may hold.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        self.visits: dict[str, Visit] = {}
        self.entering = 0
        super().__init__(**kwargs)
        self.door = Door(self.max_visitors)

    @property
    def taken(self) -> int:
        """Places in use: visits, and visitors who are just coming in."""
        return len(self.visits) + self.entering

    @contextlib.contextmanager
    def coming_in(self) -> Iterator[None]:
        """Hold a place from the moment it is promised until the kernel is known."""
        self.entering += 1
        try:
            yield
        finally:
            self.entering -= 1

    async def take(self, notebook: str, visitor: str) -> tuple[asyncio.Task, list[str], str]:
        """A started kernel for `visitor`: the rendering task, the pieces of the page so far and its id."""
        with self.coming_in():
            if self.get_pool_size(notebook) == 0:
                self.fill_if_needed(delay=0, notebook_name=notebook)
            task, pieces, kernel_id = await self.get_rendered_notebook(notebook)
            now = time.monotonic()
            self.visits[kernel_id] = Visit(visitor, since=now, alone_since=now)
        return task, pieces, kernel_id

    def ready(self, notebook: str) -> int:
        """How many kernels wait with the whole page rendered."""
        started = [task for task in self._pools.get(notebook, []) if task.done() and not task.exception()]
        return sum(task.result()["task"].done() for task in started)

    def belongs_to(self, kernel_id: str, visitor: str | None) -> bool:
        """Whether `visitor` may talk to this kernel. Nobody may talk to one that waits in the pool."""
        visit = self.visits.get(kernel_id)
        return visit is not None and visitor is not None and visit.visitor == visitor

    async def leave(self, kernel_id: str, why: str = "the page was closed") -> None:
        """End a kernel at once and free its place."""
        self.log.info("Ending kernel %s: %s", kernel_id, why)
        with contextlib.suppress(KeyError):
            await ensure_async(self.shutdown_kernel(kernel_id, now=True))
        self.visits.pop(kernel_id, None)

    def notify_connect(self, kernel_id: str) -> None:
        super().notify_connect(kernel_id)
        if visit := self.visits.get(kernel_id):
            visit.sockets += 1
            visit.alone_since, visit.seen = None, True

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)
        if visit := self.visits.get(kernel_id):
            visit.sockets = max(0, visit.sockets - 1)
            visit.alone_since = None if visit.sockets else time.monotonic()

    async def _async_start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        kwargs["env"] = {**kwargs.get("env", {}), **QUIET}
        kernel_id = await super()._async_start_kernel(**kwargs)
        if sys.platform == "linux":  # elsewhere `end_the_unneeded` alone watches
            limit = (self.memory_limit + 300) * 10**6
            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(self._pid(kernel_id)).rlimit(psutil.RLIMIT_DATA, (limit, limit))
        return kernel_id

    start_kernel = _async_start_kernel  # type: ignore[assignment]

    def _pid(self, kernel_id: str) -> int:
        return self.get_kernel(kernel_id).provisioner.pid

    async def end_the_unneeded(self) -> None:
        """End visits without a browser, idle, dead or too big ones; the server calls this every two seconds."""
        for kernel_id, visit in list(self.visits.items()):
            if why := await self._why_end(kernel_id, visit):
                await self.leave(kernel_id, why)

    async def _why_end(self, kernel_id: str, visit: Visit) -> str | None:
        if kernel_id not in self or not await ensure_async(self.get_kernel(kernel_id).is_alive()):
            return "it died"
        if megabytes(self._pid(kernel_id)) > self.memory_limit:
            return f"it holds more than {self.memory_limit} MB"
        limit = self.grace if visit.seen else self.arrival
        if visit.alone_since is not None and time.monotonic() - visit.alone_since > limit:
            return "no browser is connected"
        kernel = self.get_kernel(kernel_id)
        quiet = (datetime.now(timezone.utc) - kernel.last_activity).total_seconds()
        quiet = min(quiet, time.monotonic() - visit.since)  # it may have waited long in the pool
        if quiet > self.idle and kernel.execution_state != "busy":
            return "nobody used it for a while"
        return None


def keep_memory_small() -> None:
    """Have glibc return what a visit needed to the system: in pieces here and there it would stay with the server."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune:
        for option, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, 2**17), (M_MMAP_THRESHOLD, 2**16)):
            tune(option, value)


def megabytes(pid: int) -> float:
    """Resident memory of a process in megabytes; 0 when it has just ended."""
    try:
        return psutil.Process(pid).memory_info().rss / 1e6
    except psutil.Error:
        return 0.0


def fitting_visitors(*, total_mb: float, server_mb: float = 250, visitor_mb: float = 95) -> int:
    """How many visitors fit `total_mb` of memory beside the server and the one kernel that is kept ready."""
    return max(1, int((total_mb - server_mb) / visitor_mb) - 1)


def memory_of_this_machine() -> float:
    """Megabytes that this process may use: the container's limit where there is one, else the machine's."""
    limits = [psutil.virtual_memory().total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:  # noqa: PTH123
            limits.append(int(file.read()))
    return min(limits) / 1e6
