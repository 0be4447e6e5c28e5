"""resize.js gives the pixels that Pillow gives, in a real browser, on real photos and on every awkward shape."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from static_site import serve_folder

from winnow.images import resize
from winnow.share.page import pillow_takes_tall_first

STATIC = Path(__file__).parents[2] / "winnow" / "share" / "static"
RESIZE = """async ({pixels, width, height, size, method, tallFirst}) => {
    const {resizeLikeTraining, readPixels} = await import("./resize.js");
    const data = Uint8Array.from(atob(pixels), (c) => c.charCodeAt(0));
    const out = resizeLikeTraining(readPixels(data, width, height), width, height, size, method, tallFirst);
    let text = "";
    for (let i = 0; i < out.length; i += 32768) text += String.fromCharCode(...out.subarray(i, i + 32768));
    return btoa(text);
}"""


@pytest.fixture(scope="module")
def resize_in_browser(browser):
    with serve_folder(STATIC) as site:
        page = browser.new_page()
        page.goto(site.url + "resize.js")

        def run(image: Image.Image, size: int, method: str, tall_first: bool | None = None) -> np.ndarray:
            pixels = base64.b64encode(image.convert("RGBA").tobytes()).decode()
            tall_first = pillow_takes_tall_first() if tall_first is None else tall_first
            given = {"pixels": pixels, "size": size, "method": method, "tallFirst": tall_first}
            given |= {"width": image.width, "height": image.height}
            out = base64.b64decode(page.evaluate(RESIZE, given))
            return np.frombuffer(out, np.uint8).reshape(size, size, 3)

        yield run
        page.close()


@pytest.fixture(scope="module")
def photos(cell_photos) -> list[Image.Image]:
    """Real photos, in colour: three cells as the channels of each."""
    cells = [Image.open(path).convert("L") for path in sorted(cell_photos.rglob("*.png"))[:12]]
    return [Image.merge("RGB", cells[i : i + 3]) for i in range(0, 12, 3)]


@pytest.mark.parametrize("method", ["squish", "crop", "pad"])
@pytest.mark.parametrize(
    "shape", [(300, 300), (300, 201), (201, 300), (97, 300), (300, 97), (192, 300), (300, 192)]
)
def test_every_pixel_of_a_real_photo_is_pillows(resize_in_browser, photos, method, shape):
    for photo, size in zip(photos, (192, 128, 224, 192), strict=True):
        part = photo.crop((0, 0, *shape))
        got, wanted = resize_in_browser(part, size, method), np.asarray(resize(part, size, method))
        assert (got == wanted).all(), f"{(got != wanted).sum()} of {wanted.size} differ at {shape} to {size}"


@pytest.mark.parametrize("shape", [(1400, 1000), (1000, 1400)])
def test_a_photo_larger_than_one_band_is_still_pillows(resize_in_browser, photos, shape):
    large = photos[0].resize(shape, Image.Resampling.BICUBIC)
    assert (resize_in_browser(large, 192, "squish") == np.asarray(resize(large, 192))).all()


def test_noise_at_the_ends_of_the_scale_neither_wraps_nor_clips_early(resize_in_browser):
    noise = Image.fromarray(np.random.default_rng(0).choice([0, 255], (333, 257, 3)).astype(np.uint8))
    for size in (31, 192, 400):
        assert (resize_in_browser(noise, size, "squish") == np.asarray(resize(noise, size))).all()


def test_a_page_for_an_older_pillow_takes_the_width_first(resize_in_browser, photos):
    tall = photos[0].crop((0, 0, 200, 300))
    width = tall.resize((96, 300), Image.Resampling.BILINEAR)
    first = np.asarray(width.resize((96, 96), Image.Resampling.BILINEAR))
    assert (resize_in_browser(tall, 96, "squish", tall_first=False) == first).all()
