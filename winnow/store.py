"""The catalog's database file: connections, transactions, and the lock between processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from winnow.migrations import migrate, missing_steps
from winnow.records import CatalogError, NotACatalog, ReadOnlyFolder

BUSY_SECONDS = 60
INCOMING = "incoming-"  # what files on their way in are called


def now() -> str:
    """The time in UTC, to the millisecond, sortable as text."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class Store:
    """`catalog.db` in `folder`; one connection for each thread and process."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cache = folder / ".winnow"
        self._local = threading.local()
        self._open()

    def _open(self) -> None:
        try:
            with self.explained():
                if missing_steps(self.db):
                    self._set_up()
        except KeyError as step:
            raise NotACatalog(
                f"{self.folder}/catalog.db was written by a newer Winnow (it knows {step}): upgrade Winnow."
            ) from step
        except OSError as error:
            raise self._read_only() from error

    def _set_up(self) -> None:
        """Make the schema, or bring it up to date, while no other process does."""
        tables = {row[0] for row in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "migrations" not in tables:
            raise NotACatalog(
                f"{self.folder}/catalog.db belongs to another program: move it away and open again."
            )
        self.cache.mkdir(exist_ok=True)
        with self.exclusive():
            self._use_wal()
            with self.write() as db:
                migrate(db)

    def _use_wal(self) -> None:
        """Switching a file to WAL fails at once while another process reads it, whatever the timeout: try again."""
        for attempt in range(50):
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or attempt == 49:
                    raise
                time.sleep(0.1)

    def _read_only(self) -> ReadOnlyFolder:
        return ReadOnlyFolder(
            f"{self.folder} can't be written: give yourself write permission or work on a copy of it."
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors on a foreign or read-only file into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "readonly" in str(error) or "unable to open" in str(error):
                raise self._read_only() from error
            hint = "make room" if "full" in str(error) else "try again when the other program is done"
            raise CatalogError(
                f"{self.folder}/catalog.db took nothing ({error}): nothing changed; {hint}."
            ) from error
        except sqlite3.DatabaseError as error:
            raise NotACatalog(
                f"{self.folder}/catalog.db is not a Winnow catalog ({error}): move it away and open again."
            ) from error

    @property
    def db(self) -> sqlite3.Connection:
        """This thread's connection; a forked process gets its own."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.db = self._connect()
            self._local.pid = os.getpid()
        return self._local.db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / "catalog.db", timeout=BUSY_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        return db

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, all or nothing; `durable` waits until the disk has it."""
        db = self.db
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with self.explained():
            db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            with self.explained():
                db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def exclusive(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock that lets one process at a time touch the files; the system frees it after a crash."""
        self.cache.mkdir(exist_ok=True)
        with (self.cache / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def close(self) -> None:
        """Close this thread's connection."""
        if getattr(self._local, "pid", None) == os.getpid():
            self._local.db.close()
            self._local.pid = None
