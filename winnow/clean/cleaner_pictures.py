"""Pictures for the cleaner: small ones from a cache on disk, fetched in the background, the newest wish first."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from winnow.images import BadImage, open_image, sha256_of, thumbnail

THUMB_SIDE = 224  # pixels: sharp at 112 CSS pixels on a phone's screen
PREVIEW_SIDE = 1000
FULL_SIDE = 4096
AS_THEY_ARE = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
MAX_BYTES_AS_IS = 6 << 20  # a larger file is sent smaller: it travels through a websocket

Parcel = list[tuple[str, bytes | BadImage]]


class Pictures:
    """Reads a photo in three sizes; keeps the small ones as files named by the photo's hash."""

    def __init__(self, cache: Path):
        self.folder = cache / f"thumbs-{THUMB_SIDE}"

    def thumb(self, file: Path, sha256: str | None = None) -> bytes:
        """A small JPEG, from the cache if it is there; raises `BadImage`."""
        digest = sha256 or sha256_of(file)
        kept = self.folder / digest[:2] / f"{digest}.jpg"
        with contextlib.suppress(OSError):
            return kept.read_bytes()
        data = thumbnail(file, side=THUMB_SIDE)
        _keep(kept, data)
        return data

    def large(self, file: Path, size: str) -> tuple[bytes, str]:
        """Bytes and MIME type of a photo as `size` "preview" or "full"; raises `BadImage`."""
        side = PREVIEW_SIDE if size == "preview" else FULL_SIDE
        image = open_image(file, max_side=side)  # also when the file itself is sent: it says what is damaged
        mime = AS_THEY_ARE.get(file.suffix.lower())
        if mime and file.stat().st_size <= (MAX_BYTES_AS_IS if size == "full" else MAX_BYTES_AS_IS // 20):
            return file.read_bytes(), mime
        return thumbnail(image, side=side), "image/jpeg"


def _keep(path: Path, data: bytes) -> None:
    """Write in one step, so that no reader sees half; a folder that can't be written costs only time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)


class Courier:
    """Fetches thumbnails on background threads and hands them over in parcels.

    The newest wish list replaces the older ones: who scrolls past ten thousand photos waits for none of them.
    """

    def __init__(
        self,
        fetch: Callable[[str], bytes],  # reads one thumbnail; may raise `BadImage`
        deliver: Callable[[Parcel], None],
        *,
        threads: int = 2,
        parcel: int = 12,  # thumbnails in one message
    ):
        self._fetch, self._deliver, self._parcel = fetch, deliver, parcel
        self._wishes: list[str] = []
        self._more = threading.Condition()
        self._open = True
        for _ in range(threads):
            threading.Thread(target=self._run, daemon=True, name="winnow-pictures").start()

    def want(self, paths: Iterable[str]) -> None:
        """Replace what is still waiting by `paths`, first come first."""
        with self._more:
            self._wishes = list(dict.fromkeys(paths))
            self._more.notify_all()

    def close(self) -> None:
        """End the threads."""
        with self._more:
            self._open, self._wishes = False, []
            self._more.notify_all()

    def _run(self) -> None:
        while paths := self._take():
            self._deliver([(path, self._try(path)) for path in paths])

    def _take(self) -> list[str]:
        with self._more:
            while self._open and not self._wishes:
                self._more.wait()
            taken, self._wishes = self._wishes[: self._parcel], self._wishes[self._parcel :]
            return taken

    def _try(self, path: str) -> bytes | BadImage:
        try:
            return self._fetch(path)
        except BadImage as fault:
            return fault
        except Exception as error:  # whatever it is, one photo must not end the thread
            return BadImage(f"{Path(path).name} can't be shown ({error}): look at the file.")
