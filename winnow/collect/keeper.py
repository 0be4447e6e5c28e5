"""From a whole file on disk to a photo in the catalog: known pictures, placeholders, shrinking, names."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from winnow.catalog import Catalog, WasRemoved
from winnow.collect.ledger import Job, Ledger
from winnow.images import BadImage, open_image, sha256_of
from winnow.intake import Incoming, suffix_of

PLACEHOLDER = 3  # the same bytes at so many places of one host (or twice as many queries) are no photo
BATCH = 1000  # rows of the ledger in memory at a time


class Keeper:
    """Knows which pictures are there already, and takes new ones in."""

    def __init__(self, catalog: Catalog, ledger: Ledger, *, max_side: int | None = None):
        self._catalog, self._ledger, self._max_side = catalog, ledger, max_side
        self._known: dict[tuple[str, str], str] = {}  # (hash of the bytes, class): the address they came from
        self._placeholders: set[str] = set()

    def reconcile(self) -> None:
        """Learn what the catalog has already, and settle what a crash left between catalog and ledger."""
        paths: dict[str, str] = {}
        for photo in (photo for name in self._catalog.classes for photo in self._catalog.photos(label=name)):
            url = photo.origin.get("url", "")
            paths[url] = photo.path
            self._known[photo.origin.get("original_sha256", photo.sha256), photo.label] = url
        refused = {(entry.source, entry.label): entry.reason for entry in self._catalog.rejections()}
        if not paths and not refused:
            return
        for state in ("fetched", "waiting"):
            last = 0
            while jobs := self._ledger.jobs(state, after=last, limit=BATCH):
                last = jobs[-1].id
                for job in jobs:
                    self._settle(job, paths, refused)

    def _settle(self, job: Job, paths: dict[str, str], refused: dict[tuple, str]) -> None:
        url, label = job.found.url, job.found.label
        if url in paths:
            self._ledger.images([(job, paths[url])])
        elif (url, label) in refused and job.reason is None:  # with a reason, it waits for another try
            self._ledger.rejected(job, refused[url, label])

    def seen_before(self, job: Job) -> str:
        """Why these bytes aren't wanted: a placeholder, or a picture that is there already; empty if they are new.

        New bytes count as known from now on.
        """
        same = self._ledger.same_bytes(job.sha256)
        alike = [other for other in same if other.host == job.host or other.final == job.final]
        places = {other.found.url.partition("?")[0] for other in alike}
        if len(places) >= PLACEHOLDER or len(alike) >= 2 * PLACEHOLDER or job.sha256 in self._placeholders:
            self._placeholders.add(job.sha256)
            return f"placeholder: {len(same)} addresses gave this picture"
        first = self._known.setdefault((job.sha256, job.found.label), job.found.url)
        return f"same picture: already there from {first or 'elsewhere'}" if first != job.found.url else ""

    def forget(self, job: Job) -> None:
        """These bytes turned out to be no photo."""
        self._known.pop((job.sha256, job.found.label), None)

    def keep(self, batch: Sequence[tuple[Job, Path]]) -> list[str | BadImage | WasRemoved]:
        """Decode, shrink if asked, and take in together; the path of each, or why not. Any thread may call it."""
        checked = [self._checked(job, file) for job, file in batch]
        fine = [item for item in checked if isinstance(item, Incoming)]
        paths = iter(self._catalog.add_many(fine, durable=False))
        return [next(paths) if isinstance(item, Incoming) else item for item in checked]

    def _checked(self, job: Job, file: Path) -> Incoming | BadImage:
        data = file.read_bytes()
        origin = job.found.origin()
        if job.final != job.found.url:
            origin["final_url"] = job.final
        try:
            image = open_image(data)
        except BadImage as error:
            return error
        if self._max_side and max(image.size) > self._max_side:
            origin |= {"original_sha256": job.sha256, "original_bytes": len(data)}
            origin |= {"original_width": image.width, "original_height": image.height}
            data = shrink(image, self._max_side)
            return Incoming(
                data, job.found.label, _name(job, data), sha256_of(data), image.size, len(data), origin
            )
        name = _name(job, data)
        return Incoming(file, job.found.label, name, job.sha256, image.size, len(data), origin)

    def take_out_placeholders(self) -> int:
        """Remove photos whose picture turned out to be a placeholder after they came in; undo brings them back.

        Where a person's own decisions wait, these wait with them. Returns how many photos it were.
        """
        reason, count = "placeholder: many addresses gave this picture", 0
        for job in (job for sha256 in self._placeholders for job in self._ledger.same_bytes(sha256)):
            if job.state == "image" and (path := self._ledger.path_of(job)):
                self._catalog.remove(path, by="winnow", why=reason)
                self._catalog.reject(job.found.url, reason, label=job.found.label, origin=job.found.origin())
                self._ledger.rejected(job, reason)
                count += 1
        pending = self._catalog.pending().values()
        if count and all(decision.by == "winnow" for decision in pending):
            self._catalog.apply()
        return count


def shrink(image: Image.Image, max_side: int) -> bytes:
    """Make `image` itself smaller, at most `max_side` pixels wide and high; returns it as a JPEG."""
    image.thumbnail((max_side, max_side), reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _name(job: Job, data: bytes) -> str:
    """A file name from the address, with the suffix that fits the bytes."""
    stem = Path(unquote(urlsplit(job.found.url).path)).stem
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[:60]
    return (stem or job.sha256[:16]) + suffix_of(data)
