"""One image: open it upright, verify it, hash it, resize it, make a thumbnail."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 120_000_000  # a 108-megapixel phone photo opens, a decompression bomb doesn't
MIN_SIDE = 4  # tracking pixels and spacers are smaller
MIN_ZEROS = 512  # bytes: a shorter run of zeros may be honest JPEG data
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
    | {".heic", ".heif", ".hif", ".avif", ".ppm", ".pgm"}
)


class BadImage(ValueError):
    """A file that can't be used as a photo; the message says why and what to do."""


def open_image(
    source: Path | str | bytes | BinaryIO,
    *,
    max_side: int | None = None,  # shrink so that the longer side has at most this many pixels
) -> Image.Image:
    """The photo in `source` as RGB, upright, fully decoded, on white where it was transparent."""
    data, name = _read(source)
    _check_zeros(data, name)
    image = _decode(data, name, max_side)
    try:
        image = _to_rgb(_upright(image))
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise BadImage(f"{name} can't be shown ({error}): use another copy of this image.") from error
    if max_side and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return image


def read_header(source: Path | str | bytes) -> tuple[int, int]:
    """Width and height of the upright photo, without decoding its pixels; raises `BadImage`."""
    data, name = _read(source)
    image = _begin(data, name)
    if image.format in ("HEIF", "AVIF"):
        return image.size  # upright already
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # a damaged EXIF block turns nothing
        turned = False
    return image.size[::-1] if turned else image.size


def resize(image: Image.Image, size: int, method: str = "squish") -> Image.Image:
    """`image` as `size`×`size`, pixel for pixel what fastai's `Resize` gives on its validation side."""
    if method == "squish":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    if method not in ("crop", "pad"):
        raise ValueError(f"Unknown resize method {method!r}: use 'squish', 'crop' or 'pad'.")
    width, height = image.size
    narrower = width / size < height / size
    scale = width / size if narrower == (method == "crop") else height / size
    side = int(scale * size)  # fastai truncates here; so do we, to stay identical
    left, top = int(0.5 * (width - side)), int(0.5 * (height - side))
    box = (max(left, 0), max(top, 0), min(left + side, width), min(top + side, height))
    part = image.crop(box)
    if part.size != (side, side):
        canvas = Image.new(image.mode, (side, side))
        canvas.paste(part, (max(-left, 0), max(-top, 0)))
        part = canvas
    return part.resize((size, size), Image.Resampling.BILINEAR)


def sha256_of(source: Path | str | bytes) -> str:
    """SHA-256 of the bytes, in hex."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with Path(source).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_images(folder: Path | str) -> list[Path]:
    """Image files under `folder`, sorted, at any depth; hidden folders and files are skipped."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root) / name for name in files if is_image_name(name)]
    return sorted(found)


def is_image_name(name: str) -> bool:
    """Whether a file of this name should hold an image: a known suffix, not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def thumbnail(source: Path | str | bytes | BinaryIO | Image.Image, side: int = 256) -> bytes:
    """A JPEG of at most `side`×`side` pixels, upright."""
    image = source if isinstance(source, Image.Image) else open_image(source, max_side=side)
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _read(source) -> tuple[bytes, str]:
    """The bytes, and what to call them in a message."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "This image"
    if hasattr(source, "read"):
        return source.read(), Path(str(getattr(source, "name", "") or "This image")).name
    path = Path(source)
    try:
        return path.read_bytes(), path.name
    except OSError as error:
        reason = error.strerror or error
        raise BadImage(f"{path} can't be read ({reason}): check that the file is there.") from error


def _decode(data: bytes, name: str, max_side: int | None) -> Image.Image:
    image = _begin(data, name)
    try:
        if image.format == "PNG":
            image.verify()  # checks the checksums, which loading doesn't
            image = _open(data)
        if max_side and image.format == "JPEG":
            image.draft(None, (2 * max_side, 2 * max_side))
        image.load()
        return image
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, EOFError, ...
        raise BadImage(f"{name} is damaged or cut off ({error}): fetch or copy it again.") from error


def _begin(data: bytes, name: str) -> Image.Image:
    """Pillow's lazy image, of a sound size."""
    if not data:
        raise BadImage(f"{name} is empty: fetch or copy it again.")
    try:
        image = _open(data)
    except Image.DecompressionBombError as error:
        raise BadImage(f"{name} has too many pixels to be a photo: shrink it first.") from error
    except Image.UnidentifiedImageError as error:
        raise BadImage(f"{name} is not an image: use a JPEG, PNG, WebP or HEIC photo.") from error
    except Exception as error:
        raise BadImage(f"{name} is damaged or cut off ({error}): fetch or copy it again.") from error
    _check_size(image, name)
    return image


def _open(data: bytes) -> Image.Image:
    """Pillow's own opening; HEIC support is loaded when the first such file comes."""
    try:
        return Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError:
        if data[4:8] == b"ftyp" and _register_heif():
            return Image.open(io.BytesIO(data))
        raise


_heif_registered = False


def _register_heif() -> bool:
    """Teach Pillow to read HEIC, once; true when that is news."""
    global _heif_registered
    if _heif_registered:
        return False

    import pillow_heif  # costs memory, so only when needed

    pillow_heif.register_heif_opener()
    _heif_registered = True
    return True


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{name} has {width}×{height} pixels, too many to be a photo: shrink it first.")
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"{name} has only {width}×{height} pixels: use a larger copy of this image.")


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation says; a damaged EXIF block turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys keep their scale (65535 is white); floats are stretched from least to most."""
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        values = (values - low) / max(high - low, 1e-12) * (255 if high > 1 or low < 0 else 255 * high)
    elif high > 255:
        values = values / 257
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


def _check_zeros(data: bytes, name: str) -> None:
    """Find a JPEG with a hole: zeros where compressed pixels were (a broken download or disk).

    Decoders pass such a file without a word. Zeros are honest only where the tables give the shortest
    code, all zeros, to "this block is flat"; then a long run is a flat area.
    """
    if data[:2] != b"\xff\xd8" or bytes(MIN_ZEROS) not in data:
        return
    start = _start_of_scan(data)
    end = data.find(b"\xff\xd9", start) if start else 0  # what follows the end is not pixels
    if start and data.find(bytes(MIN_ZEROS), start, end if end > 0 else len(data)) > 0:
        raise BadImage(f"{name} has a hole of zeros inside: fetch or copy it again.")


def _start_of_scan(data: bytes) -> int | None:
    """Where the compressed pixels begin; None where a run of zeros can be honest."""
    place, flat = 2, []
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xC2:  # progressive: a whole scan may be zeros
            return None
        if marker == 0xC4:
            flat += _zeros_mean_flat(data[place + 4 : place + 2 + length])
        if marker == 0xDA:
            return None if flat and all(flat) else place + 2 + length
        place += 2 + length
    return None


def _zeros_mean_flat(tables: bytes) -> list[bool]:
    """For each AC table among these Huffman tables: does its all-zeros code mean "end of block"?"""
    place, flat = 0, []
    while place + 17 <= len(tables):
        if tables[place] >> 4 == 1:
            flat.append(tables[place + 17 : place + 18] == b"\x00")
        place += 17 + sum(tables[place + 1 : place + 17])
    return flat
