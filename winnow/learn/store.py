"""Rows of numbers kept by image hash, in one file that many processes may append to.

A record is the SHA-256 (32 bytes), a CRC-32 of the row and the row itself, all of one length. A process that is
killed while it appends leaves at most half a record at the end, which the next writer cuts off.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HELD = 32 << 20  # bytes of mapped rows that are looked at before their memory is given back


class Lease:
    """Mapped rows that are being looked at: every `HELD` bytes their memory is given back."""

    def __init__(self):
        self.looked = 0

    def looked_at(self, row: np.ndarray, count: int = 1) -> None:
        """Count `count` rows like `row`."""
        self.looked += count * row.nbytes
        if self.looked >= HELD:
            let_go(row)
            self.looked = 0


def let_go(row: np.ndarray) -> None:
    """Give back the memory that the mapped file of `row` takes; its rows are read again when they are wanted.

    The system would do so by itself in need, but until then they count as this process's memory.
    """
    base = row
    while isinstance(base, (np.ndarray, np.void)):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


class RowStore:
    """Rows of one shape and type by SHA-256 (hex); `path` has no suffix: `.rows` holds records, `.json` their shape."""

    def __init__(self, path: Path):
        self.rows, self.about = path.with_name(path.name + ".rows"), path.with_name(path.name + ".json")

    def size(self) -> int:
        """Bytes on disk."""
        return self.rows.stat().st_size if self.rows.exists() else 0

    def read(self, hashes: set[str] | None = None, *, copy: bool = True) -> dict[str, np.ndarray]:
        """The rows of `hashes` (or all) that are here and whole; those of a damaged record are left out.

        With `copy=False` they stay on disk, mapped into memory read-only.
        """
        records = self._records()
        if records is None:
            return {}
        take, rows = np.array if copy else np.asarray, {}
        step = max(HELD // records.itemsize, 1)
        for start in range(0, len(records), step):
            block = records[start : start + step]
            names = [bytes(sha).hex() for sha in block["sha"]]
            for name, record in zip(names, block, strict=True):
                if (hashes is None or name in hashes) and _is_whole(record):
                    rows[name] = take(record["row"])
            let_go(records)
        return rows

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add `rows`; all must have the shape and type of the first that was ever added."""
        if not rows:
            return
        self.rows.parent.mkdir(parents=True, exist_ok=True)
        first = next(iter(rows.values()))
        with self.rows.open("ab") as file:
            fcntl.flock(
                file, fcntl.LOCK_EX
            )  # the system lets go of it when the process ends, however it ends
            kind = self._kind() or self._remember(first)
            end = file.seek(0, os.SEEK_END)
            if end % kind.itemsize:
                file.truncate(end - end % kind.itemsize)
            records = np.zeros(len(rows), kind)
            for record, (sha, row) in zip(records, rows.items(), strict=True):
                row = np.ascontiguousarray(row, kind["row"].base)
                record["sha"], record["crc"], record["row"] = np.frombuffer(bytes.fromhex(sha), "u1"), 0, row
                record["crc"] = zlib.crc32(row.tobytes())
            file.write(records.tobytes())

    def _records(self) -> np.ndarray | None:
        kind = self._kind()
        if kind is None or self.size() < kind.itemsize:
            return None
        return np.memmap(self.rows, kind, mode="r", shape=(self.size() // kind.itemsize,))

    def _kind(self) -> np.dtype | None:
        try:
            about = json.loads(self.about.read_text())
        except FileNotFoundError:
            return None
        return _record_type(about["dtype"], tuple(about["shape"]))

    def _remember(self, row: np.ndarray) -> np.dtype:
        part = self.about.with_suffix(".part")
        part.write_text(json.dumps({"dtype": row.dtype.str, "shape": row.shape}))
        part.replace(self.about)
        return _record_type(row.dtype.str, row.shape)


def _record_type(dtype: str, shape: tuple[int, ...]) -> np.dtype:
    return np.dtype([("sha", "u1", 32), ("crc", "<u4"), ("row", dtype, shape)])


def _is_whole(record: np.void) -> bool:
    return zlib.crc32(record["row"].tobytes()) == record["crc"]
