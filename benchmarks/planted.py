"""Copies of photos as people make them: resized, recompressed, cropped, bordered, watermarked, mirrored, grey."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from winnow.images import open_image


def resized(image: Image.Image, draw: random.Random) -> Image.Image:
    scale = draw.uniform(0.4, 0.8)
    return image.resize([max(round(side * scale), 16) for side in image.size], Image.Resampling.LANCZOS)


def recompressed(image: Image.Image, draw: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=draw.randint(20, 40))
    return Image.open(buffer)


def cropped(image: Image.Image, draw: random.Random) -> Image.Image:
    """5 % of the width and of the height are lost, somewhere at the edges."""
    width, height = image.size
    left, top = (round(side * 0.05 * draw.random()) for side in image.size)
    return image.crop((left, top, left + round(width * 0.95), top + round(height * 0.95)))


def bordered(image: Image.Image, draw: random.Random) -> Image.Image:
    colour = draw.choice(["white", "black", "#c03020", "#808080"])
    return ImageOps.expand(image, round(max(image.size) * draw.uniform(0.04, 0.1)), colour)


def watermarked(image: Image.Image, draw: random.Random) -> Image.Image:
    layer = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(layer)
    font = ImageFont.load_default(max(image.size) / 9)
    place = (image.width * draw.uniform(0.02, 0.3), image.height * draw.uniform(0.1, 0.8))
    pen.text(
        place,
        "© example.org",
        fill=(255, 255, 255, 170),
        font=font,
        stroke_width=1,
        stroke_fill=(0, 0, 0, 170),
    )
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def mirrored(image: Image.Image, draw: random.Random) -> Image.Image:
    return ImageOps.mirror(image)


def grey(image: Image.Image, draw: random.Random) -> Image.Image:
    return ImageOps.grayscale(image)


KINDS: dict[str, Callable] = {
    make.__name__: make for make in (resized, recompressed, cropped, bordered, watermarked, mirrored, grey)
}


def plant_copies(
    photos: Sequence[Path],
    folder: Path,  # the copies are written here
    *,
    count: int,
    seed: int = 0,
) -> dict[Path, tuple[Path, str]]:
    """Write `count` copies of randomly chosen photos, each kind equally often: copy → (its original, kind)."""
    draw, truth = random.Random(seed), {}
    originals = draw.sample(list(photos), count)
    for number, original in enumerate(originals):
        kind = list(KINDS)[number % len(KINDS)]
        copy = folder / f"copy-{number:05}-{kind}.jpg"
        KINDS[kind](open_image(original), draw).convert("RGB").save(copy, "JPEG", quality=90)
        truth[copy] = (original, kind)
    return truth
