"""Real photos for the stand-in of the web: solar cells, and cuttings of two colour photos that scikit-learn carries."""

from __future__ import annotations

import io
import random
import struct
import zlib
from functools import lru_cache

from PIL import Image

from winnow.collect.sample import read_cells

KEEP = 16_384  # pictures in memory


@lru_cache(maxsize=KEEP)
def photo(number: int, side: int = 320) -> bytes:
    """The bytes of photo `number`: each number gives another picture, always the same."""
    if number % 4 == 0:
        return read_cells()[number // 4 % 2624].file.read_bytes()
    return save(cutting(number, side), "JPEG", quality=88)


def cutting(number: int, side: int = 320) -> Image.Image:
    """A piece of a colour photo."""
    draw = random.Random(number)
    scenery = colour_photos()[number % 2]
    left, top = draw.randrange(scenery.width - 200), draw.randrange(scenery.height - 200)
    box = (left, top, left + draw.randint(120, 200), top + draw.randint(120, 200))
    return scenery.crop(box).resize((side, draw.randint(side // 2, side)))


@lru_cache
def colour_photos() -> list[Image.Image]:
    """Two real photos."""
    from sklearn.datasets import load_sample_image

    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def save(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def prepare(kind: str, number: int) -> None:
    """Make a picture before it is asked for."""
    maker = odd_photo if kind in ODD else bad_photo if kind in BAD else None
    maker(kind, number) if maker else photo(0 if kind == "duplicate" else number)


@lru_cache(maxsize=KEEP)
def odd_photo(kind: str, number: int) -> bytes:
    """A good photo in an unusual form: each must be accepted."""
    image = cutting(number)
    if kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        return save(image, "JPEG", exif=exif)
    if kind == "heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
        return save(image, "HEIF")
    makers = {
        "cmyk": lambda: save(image.convert("CMYK"), "JPEG"),
        "palette": lambda: save(image.quantize(64), "PNG"),
        "transparent": lambda: save(_with_hole(image), "PNG"),
        "sixteen": lambda: save(
            image.convert("L").convert("I").point(lambda v: v * 257).convert("I;16"), "PNG"
        ),
        "animation": lambda: save(
            image, "GIF", save_all=True, append_images=[image.rotate(90), image.rotate(180)]
        ),
        "webp": lambda: save(image, "WEBP"),
        "avif": lambda: save(image, "AVIF"),
    }
    return makers[kind]()


ODD = ("rotated", "heic", "cmyk", "palette", "transparent", "sixteen", "animation", "webp", "avif")


@lru_cache(maxsize=KEEP)
def bad_photo(kind: str, number: int) -> bytes:
    """Bytes that are no photo, or no longer: each must be refused."""
    whole = save(cutting(number), "JPEG", quality=95)
    makers = {
        "html": lambda: b"<!DOCTYPE html><html><body>Not found</body></html>" + b" " * 400,
        "truncated": lambda: whole[: len(whole) * 2 // 3],
        "zeros": lambda: whole[: len(whole) // 2] + bytes(4096) + whole[len(whole) // 2 + 4096 :],
        "pixel": lambda: save(Image.new("RGB", (1, 1)), "GIF"),
        "bomb": bomb,
        "nothing": lambda: b"",
        "noise": lambda: random.Random(number).randbytes(20_000),
    }
    return makers[kind]()


BAD = ("html", "truncated", "zeros", "pixel", "bomb", "nothing", "noise")


@lru_cache
def placeholder() -> bytes:
    """ "Image not found", as a picture."""
    return save(Image.new("RGB", (240, 180), (228, 228, 228)), "PNG")


def bomb(side: int = 60_000) -> bytes:
    """A small PNG file that says it holds 3.6 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )


def _with_hole(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image
