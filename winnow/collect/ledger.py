"""Which addresses were to be fetched and what became of each: on disk before anything is fetched, so that a run
that is killed goes on where it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from winnow.collect.found import Found
from winnow.collect.report import Report

SCHEMA = """
CREATE TABLE IF NOT EXISTS addresses (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, label TEXT NOT NULL, host TEXT NOT NULL, row TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'fetched', 'image', 'rejected')),
    sha256 TEXT, bytes INTEGER, final TEXT, path TEXT, reason TEXT);
CREATE INDEX IF NOT EXISTS addresses_state ON addresses (state, id);
CREATE INDEX IF NOT EXISTS addresses_sha256 ON addresses (sha256);
"""


class Job(NamedTuple):
    """One address of the ledger."""

    id: int
    found: Found
    host: str
    state: str
    sha256: str | None
    final: str | None
    reason: str | None  # why it was rejected, also while it waits for another try


class Ledger:
    """The table of addresses in one file; every change is committed at once, and a kill -9 loses none."""

    def __init__(self, path: Path):
        self._db = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 10000")  # pages: each checkpoint waits for the disk
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, rows: Iterable[Found], *, batch: int = 2000) -> int:
        """Enter addresses that aren't known yet; returns how many. `rows` is never held whole in memory."""
        rows, before = iter(rows), self._db.total_changes
        while part := list(islice(rows, batch)):
            values = [(row.url, row.label, host_of(row.url), row.to_json()) for row in part]
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO addresses (url, label, host, row) VALUES (?, ?, ?, ?)", values
            )
            self._db.execute("COMMIT")
        return self._db.total_changes - before

    def jobs(self, state: str, *, after: int = 0, limit: int = 500) -> list[Job]:
        """The next addresses in `state`, in the order in which they were entered."""
        rows = self._db.execute(
            "SELECT * FROM addresses WHERE state = ? AND id > ? ORDER BY id LIMIT ?", [state, after, limit]
        )
        return [self._job(row) for row in rows]

    def job(self, url: str) -> Job | None:
        """What is known of an address."""
        row = self._db.execute("SELECT * FROM addresses WHERE url = ?", [url]).fetchone()
        return self._job(row) if row else None

    def waiting(self, job: Job) -> None:
        """The address is to be fetched (again)."""
        self._set(job, state="waiting")

    def fetched(self, job: Job, sha256: str, length: int, final: str) -> None:
        """The file is whole on the disk, and not verified yet."""
        self._set(job, state="fetched", sha256=sha256, bytes=length, final=final)

    def images(self, paths: Iterable[tuple[Job, str]]) -> None:
        """These addresses became the photos at these paths."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "UPDATE addresses SET state = 'image', path = ? WHERE id = ?",
            [(path, job.id) for job, path in paths],
        )
        self._db.execute("COMMIT")

    def rejected(self, job: Job, reason: str) -> None:
        """The address became nothing, for `reason`."""
        self._set(job, state="rejected", reason=reason)

    def same_bytes(self, sha256: str) -> list[Job]:
        """Every address that gave these bytes so far."""
        rows = self._db.execute("SELECT * FROM addresses WHERE sha256 = ? ORDER BY id", [sha256])
        return [self._job(row) for row in rows]

    def path_of(self, job: Job) -> str | None:
        """The photo that an address became."""
        return self._db.execute("SELECT path FROM addresses WHERE id = ?", [job.id]).fetchone()[0]

    def urls(self) -> Iterator[str]:
        """Every address that was ever entered."""
        return (row[0] for row in self._db.execute("SELECT url FROM addresses"))

    def count(self, state: str) -> int:
        """How many addresses are in `state`."""
        return self._db.execute("SELECT count(*) FROM addresses WHERE state = ?", [state]).fetchone()[0]

    def wait_again(self, kinds: Iterable[str]) -> int:
        """Let addresses that were rejected for one of these kinds of reason be tried again; returns how many."""
        count = 0
        for kind in kinds:
            count += self._db.execute(
                "UPDATE addresses SET state = 'waiting' WHERE state = 'rejected' AND (reason = ? OR reason LIKE ?)",
                [kind, f"{kind}:%"],
            ).rowcount
        return count

    def report(self) -> Report:
        """Found, fetched and why not, for each class, over the ledger's whole life."""
        report = Report()
        rows = self._db.execute(
            "SELECT label, state, reason, count(*) FROM addresses GROUP BY label, state, reason"
        )
        for label, state, reason, count in rows:
            if state == "image":
                report.accept(label, count)
            elif state == "rejected":
                report.refuse(label, reason, count)
            else:
                report.wait(label, count)
        return report

    def _set(self, job: Job, **values) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE addresses SET {columns} WHERE id = ?", [*values.values(), job.id])

    @staticmethod
    def _job(row: sqlite3.Row) -> Job:
        found = Found.from_json(row["row"])
        return Job(row["id"], found, row["host"], row["state"], row["sha256"], row["final"], row["reason"])


def host_of(url: str) -> str:
    """Host and port of an address, lower-case; empty for what is no address."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
