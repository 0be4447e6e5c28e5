"""Photos that arrive from a browser in parts: put together, and never more of them than the limits allow."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

MAX_BYTES = 48 * 2**20  # one photo; a 48-megapixel HEIC has 5-15 MB
MAX_WAITING = 96 * 2**20  # all unfinished photos of one visitor
MAX_PARTS = 1024


class BadUpload(ValueError):
    """An upload that can't be used; the message is for the visitor."""


@dataclass
class _Upload:
    count: int
    parts: list[bytes] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))


class Uploads:
    """Unfinished photos by their id. Parts come in order, as the browser sends them."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_waiting: int = MAX_WAITING):
        self.max_bytes, self.max_waiting = max_bytes, max_waiting
        self._open: OrderedDict[str, _Upload] = OrderedDict()

    def add(self, key: str, index: int, count: int, data: bytes) -> bytes | None:
        """Take part `index` of `count`; the whole photo with the last part, None before.

        Raises `BadUpload` for a part out of turn and for a photo that is too large; what had come is then dropped.
        The oldest unfinished photos give way when a visitor has too much of them open.
        """
        upload = self._open.setdefault(key, _Upload(count))
        if not (0 < count <= MAX_PARTS and count == upload.count and index == len(upload.parts)):
            self.drop(key)
            raise BadUpload("A part of this photo got lost on the way: try it once more.")
        upload.parts.append(bytes(data))
        if upload.size > self.max_bytes:
            self.drop(key)
            raise BadUpload(f"This photo is larger than {self.max_bytes >> 20} MB: send a smaller copy.")
        if index + 1 == count:
            self.drop(key)
            return b"".join(upload.parts)
        self._make_room(key)
        return None

    def drop(self, key: str) -> None:
        """Forget an unfinished photo."""
        self._open.pop(key, None)

    @property
    def waiting(self) -> int:
        """Bytes of unfinished photos."""
        return sum(u.size for u in self._open.values())

    def _make_room(self, newest: str) -> None:
        while self.waiting > self.max_waiting:
            oldest = next(k for k in self._open if k != newest)
            self.drop(oldest)
