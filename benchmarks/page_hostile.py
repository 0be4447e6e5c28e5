"""Files that are no usable photo, made from real ones: broken, cut, disguised, huge, empty. The same ones each run."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image


def hostile_files(photos: list[Path], count: int, *, seed: int = 3) -> list[tuple[str, bytes]]:
    """`count` (name, bytes), the kinds in turn; none of them holds a whole photo."""
    rng, jpegs = random.Random(seed), [_jpeg(photo) for photo in photos]
    pngs = [_png(photo) for photo in photos]
    makers = list(_makers(rng, jpegs, pngs))
    return [
        (f"{i:03}-{name}", make()) for i, (name, make) in zip(range(count), _around(makers), strict=False)
    ]


def _around(makers: list) -> Iterator:
    while True:
        yield from makers


def _makers(
    rng: random.Random, jpegs: list[bytes], pngs: list[bytes]
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    pick = rng.choice
    yield "empty.jpg", lambda: b""
    yield "noise.jpg", lambda: rng.randbytes(rng.randrange(1, 5000))
    yield "noise-with-start.jpg", lambda: b"\xff\xd8\xff" + rng.randbytes(3000).replace(b"\xff\xd9", b"")
    yield "cut.jpg", lambda: _cut(rng, pick(jpegs))
    yield "cut.png", lambda: _cut(rng, pick(pngs))
    yield "hole.jpg", lambda: _hole(rng, pick(jpegs))
    yield "flipped.png", lambda: _flip(rng, pick(pngs))
    yield "bomb.png", lambda: _bomb(pick(pngs), rng.randrange(20_000, 2**31 - 1))
    yield "bomb.gif", lambda: b"GIF89a\xff\xff\xff\xff\xf7\0\0" + rng.randbytes(100)
    yield "bomb.bmp", lambda: b"BM" + bytes(16) + (200_000).to_bytes(4, "little") * 2 + bytes(100)
    yield "dot.png", lambda: _image(1, rng.randrange(1, 4), "PNG")
    yield "strip.png", lambda: _image(10_000, 2, "PNG")
    yield "script.svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>"
    yield "<img src=x onerror=alert(1)>.jpg", lambda: b"<script>alert(1)</script>" * rng.randrange(1, 9)
    yield "../../index.html", lambda: b"<!doctype html><title>mine</title>"
    yield "archive.zip", lambda: b"PK\x03\x04" + rng.randbytes(500)
    yield "paper.pdf", lambda: b"%PDF-1.7\n" + rng.randbytes(500)
    yield "film.mp4", lambda: b"\0\0\0\x20ftypisom" + rng.randbytes(500)
    yield "phone.heic", lambda: b"\0\0\0\x18ftypheic" + rng.randbytes(500)
    yield "phone.avif", lambda: b"\0\0\0\x18ftypavif" + rng.randbytes(500)
    yield "scan.tif", lambda: b"II*\0" + rng.randbytes(500)
    yield "program.jpg", lambda: b"MZ" + rng.randbytes(2000)
    yield "zeros.jpg", lambda: bytes(rng.randrange(1, 100_000))
    yield "marked.jpg", lambda: b"\xff\xd8" + b"\xff\xe0\0\0" * rng.randrange(1, 900)
    yield "short.webp", lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8 " + rng.randbytes(60)
    yield "‮gpj.exe", lambda: rng.randbytes(100).replace(b"\xff\xd8", b"")
    yield "=1+1.jpg", lambda: b"text, not a photo"


def _jpeg(photo: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(photo).convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _png(photo: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(photo).convert("RGB").resize((200, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def _image(width: int, height: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, kind)
    return buffer.getvalue()


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(20, len(data) - 20)]


def _hole(rng: random.Random, data: bytes) -> bytes:
    start = data.index(b"\xff\xda") + 50
    place = rng.randrange(start, max(len(data) - 3000, start + 1))
    length = min(2000, len(data) - place - 2)
    return data[:place] + bytes(length) + data[place + length :]


def _flip(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(60, len(data) - 20)
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _bomb(png: bytes, side: int) -> bytes:
    """A PNG whose header, checksum included, promises `side` × `side` pixels."""
    head = png[12:16] + side.to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + head + zlib.crc32(head).to_bytes(4, "big") + png[33:]
