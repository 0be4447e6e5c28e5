"""Photos decoded and resized once: uint8 pixels kept by image hash, size and resize method, memory-mapped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from winnow.images import BadImage, open_image, resize
from winnow.learn.store import Lease, RowStore

ROOM = 0.25  # at most this share of the free disk goes into one cache of pixels


def read_pixels(file: Path | str, size: int, method: str = "squish") -> np.ndarray:
    """One image file as uint8 (size, size, 3); raises `BadImage`."""
    return np.asarray(resize(open_image(file), size, method))


def pixel_batches(
    files: Mapping[str, Path],  # by SHA-256
    *,
    size: int,
    method: str = "squish",
    cache: Path | None = None,
    batch_size: int = 16,
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batches of (hashes, pixels (n, size, size, 3)): from the cache, or decoded while the caller computes."""
    store = _store(cache, size, method, len(files))
    known = store.read(set(files), copy=False) if store else {}
    lease = Lease()
    for batch in _batches([sha for sha in files if sha in known], batch_size):
        yield batch, np.stack([known[sha] for sha in batch])
        lease.looked_at(known[batch[0]], len(batch))
    missing = {sha: file for sha, file in files.items() if sha not in known}
    for batch, pixels in _decoded(missing, size, method, batch_size):
        if store:
            store.append(dict(zip(batch, pixels, strict=True)))
        yield batch, pixels


def cached_pixels(files: Mapping[str, Path], *, size: int, method: str, cache: Path) -> dict[str, np.ndarray]:
    """Pixels (size, size, 3) uint8 by hash, mapped from disk; empty where the disk has no room for them."""
    store = _store(cache, size, method, len(files))
    if store is None:
        return {}
    for _ in pixel_batches(files, size=size, method=method, cache=cache):
        pass
    return store.read(set(files), copy=False)


def cache_sizes(files: Mapping[str, Path], *, sizes: Sequence[int], method: str, cache: Path) -> None:
    """Fill the caches of several sizes from one decoding of each photo; what can't be read is left to the reader."""
    stores = {size: store for size in sizes if (store := _store(cache, size, method, len(files)))}
    wanted = {sha: [] for sha in files}
    for size, store in stores.items():
        for sha in files.keys() - store.read(set(files), copy=False).keys():
            wanted[sha].append(size)
    missing = [sha for sha, missing_sizes in wanted.items() if missing_sizes]

    def read(sha: str) -> dict[int, np.ndarray]:
        try:
            image = open_image(files[sha])
        except BadImage:
            return {}
        return {size: np.asarray(resize(image, size, method)) for size in wanted[sha]}

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for batch in _batches(missing, 32):
            read_here = dict(zip(batch, pool.map(read, batch), strict=True))
            for size, store in stores.items():
                store.append({sha: found[size] for sha, found in read_here.items() if size in found})


def _store(cache: Path | None, size: int, method: str, count: int) -> RowStore | None:
    if cache is None:
        return None
    store = RowStore(Path(cache) / f"pixels/{size}-{method}")
    needed = count * size * size * 3 - store.size()
    return store if needed < ROOM * shutil.disk_usage(cache).free else None


def _decoded(files: dict[str, Path], size: int, method: str, batch_size: int):
    """Decode in threads, two batches ahead of the caller."""
    batches = _batches(list(files), batch_size)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:

        def submit(batch):
            return [pool.submit(read_pixels, files[sha], size, method) for sha in batch]

        ahead = [submit(batch) for batch in batches[:2]]
        for index, batch in enumerate(batches):
            pixels = np.stack([future.result() for future in ahead.pop(0)])
            if index + 2 < len(batches):
                ahead.append(submit(batches[index + 2]))
            yield batch, pixels


def _batches(hashes: list[str], size: int) -> list[list[str]]:
    return [hashes[start : start + size] for start in range(0, len(hashes), size)]
