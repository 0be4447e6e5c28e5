"""A CSV that grows beside its place and takes it when it is whole; a later run goes on where a killed one stopped."""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

TAIL = 1 << 16  # bytes at the end in which a half-written row is looked for


class GrowingTable:
    """Rows for `files`, one each and in their order, the file's path first and its error last.

    While it grows, rows lie in `.NAME.part` and what made them (`mark`) in `.NAME.part.json`. Rows are taken up again
    only if the same mark made them, and only as far as the files are the same and no newer.
    """

    def __init__(self, out: Path, head: list[str], mark: Mapping):
        self.out, self.head = out, head
        self.mark = {**mark, "head": head}
        self.part = out.with_name(f".{out.name}.part")
        self.about = out.with_name(f".{out.name}.part.json")

    def take_up(self, files: Iterator[Path]) -> tuple[int, int, Iterator[Path]]:
        """(rows that are there, errors among them, files that still need one)."""
        began = self._began()
        fresh = self.part.with_name(f"{self.part.name}.new")
        done = failed = 0
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.head)
            for row in self._whole_rows() if began else ():
                path = next(files, None)
                if path is None or not self._fits(row, path, began):
                    files = chain([path] if path else [], files)
                    break
                writer.writerow(row)
                done, failed = done + 1, failed + bool(row[-1])
        fresh.replace(self.part)
        if not done:
            self.about.write_text(json.dumps({"mark": self.mark, "began": time.time_ns()}), encoding="utf-8")
        return done, failed, files

    def finish(self) -> None:
        """The part becomes the file."""
        self.part.replace(self.out)
        self.about.unlink(missing_ok=True)

    def _began(self) -> int:
        """When the part was begun, in nanoseconds; 0 where there is none, or another export or option made it."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            about = json.loads(self.about.read_text(encoding="utf-8"))
            if about["mark"] == json.loads(json.dumps(self.mark)) and self.part.is_file():
                return about["began"]
        return 0

    def _whole_rows(self) -> Iterator[list[str]]:
        self._cut_half_row()
        with self.part.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows, None)
            yield from rows

    def _cut_half_row(self) -> None:
        with self.part.open("r+b") as file:
            size = file.seek(0, 2)
            start = file.seek(max(0, size - TAIL))
            end = file.read().rfind(b"\r\n")
            file.truncate(start + end + 2 if end >= 0 else 0)

    def _fits(self, row: list[str], path: Path, began: int) -> bool:
        try:
            unchanged = path.stat().st_mtime_ns <= began
        except OSError:
            unchanged = bool(row[-1:] and row[-1])  # it couldn't be read then either
        return len(row) == len(self.head) and row[0] == str(path) and unchanged
