"""winnow.images: whatever a camera, a browser or a broken disk hands over."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from winnow import images
from winnow.images import BadImage, find_images, open_image, read_header, resize, sha256_of, thumbnail


def photo(width=60, height=40, seed=0) -> Image.Image:
    """A smooth picture whose left is dark and whose right is bright, with some texture."""
    x = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    noise = np.random.default_rng(seed).integers(0, 15, (height, width, 3))
    return Image.fromarray((x + noise).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_a_photo_opens_from_path_text_bytes_and_stream(tmp_path):
    data = encoded(photo(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    sources = [tmp_path / "a.png", str(tmp_path / "a.png"), data, io.BytesIO(data)]
    opened = [np.asarray(open_image(source)) for source in sources]
    assert all((picture == np.asarray(photo())).all() for picture in opened)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = ImageOps.exif_transpose(
        with_orientation(photo(), {1: 1, 6: 8, 8: 6}.get(orientation, orientation))
    )
    data = encoded(stored, "PNG", exif=exif)
    assert open_image(data).size == (60, 40)
    assert (np.asarray(open_image(data)) == np.asarray(photo())).all()
    assert read_header(data) == (60, 40)


def with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.open(io.BytesIO(encoded(image, "PNG", exif=exif)))


def test_what_is_transparent_becomes_white():
    hidden = photo().convert("RGBA")
    hidden.putalpha(0)
    assert np.asarray(open_image(encoded(hidden, "PNG"))).min() == 255
    palette = photo().convert("P")
    data = encoded(palette, "GIF", transparency=palette.getpixel((0, 0)))
    assert open_image(data).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_comes_as_rgb_and_looks_alike(mode):
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)
    else:
        picture = photo().convert(mode)
    opened = open_image(encoded(picture, "TIFF" if mode == "CMYK" else "PNG"))
    assert opened.mode == "RGB"
    difference = np.asarray(opened.convert("L"), float) - np.asarray(photo().convert("L"), float)
    assert abs(difference.mean()) < (10 if mode == "1" else 4)


def test_sixteen_bits_are_scaled_and_not_cut_off():
    grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    opened = np.asarray(open_image(encoded(Image.fromarray(grey), "PNG")))
    assert opened.min() == 0 and opened.max() == 255 and abs(opened.mean() - 127.5) < 1


def test_an_animation_gives_its_first_frame():
    frames = [photo(seed=1), ImageOps.invert(photo(seed=2))]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert (np.asarray(open_image(data)) == np.asarray(frames[0])).all()


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF"])
def test_common_formats_are_read(format):
    data = heif(photo()) if format == "HEIF" else encoded(photo(), format)
    opened = open_image(data)
    assert opened.size == (60, 40)
    assert abs(np.asarray(opened, float) - np.asarray(photo(), float)).mean() < 12


def heif(image: Image.Image) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95)
    return buffer.getvalue()


def test_a_file_that_is_no_image_is_explained(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(BadImage, match=r"page\.jpg is not an image: use"):
        open_image(tmp_path / "page.jpg")
    with pytest.raises(BadImage, match="is empty"):
        open_image(b"")
    with pytest.raises(BadImage, match="can't be read"):
        open_image(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.4, 0.9])
def test_a_truncated_file_is_refused(format, part):
    data = encoded(photo(300, 200), format)
    with pytest.raises(BadImage, match=r"damaged|cut off|not an image"):
        open_image(data[: int(len(data) * part)])


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_jpeg_with_zeros_inside_or_at_its_end_is_refused(quality):
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise), "JPEG", quality=quality))
    middle = len(data) // 2
    holed = data[:middle] + bytes(2048) + data[middle + 2048 :]
    for broken in (holed, data[:middle] + bytes(len(data) - middle)):
        with pytest.raises(BadImage, match=r"hole of zeros|damaged"):
            open_image(bytes(broken))


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 20}])
def test_a_flat_picture_has_honest_zeros(options):
    flat = Image.new("RGB", (2000, 2000), "white")
    flat.paste(photo(), (900, 900))
    assert open_image(encoded(flat, "JPEG", **options)).size == (2000, 2000)


def test_zeros_in_metadata_or_after_the_end_are_no_hole():
    padded = encoded(photo(), "JPEG", comment=bytes(4000)) + bytes(4000)
    assert open_image(padded).size == (60, 40)


def test_a_png_with_a_wrong_checksum_is_refused():
    data = bytearray(encoded(photo(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BadImage):
        open_image(bytes(data))


def test_a_spacer_and_a_bomb_are_refused():
    with pytest.raises(BadImage, match="only 1×1 pixels"):
        open_image(encoded(Image.new("RGB", (1, 1)), "GIF"))
    bomb = encoded(Image.new("1", (20000, 20000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(BadImage, match="too many"):
        open_image(bomb)
    with pytest.raises(BadImage, match="too many"):
        read_header(bomb)


def test_max_side_shrinks_and_never_enlarges():
    assert open_image(encoded(photo(800, 400), "JPEG"), max_side=100).size == (100, 50)
    assert open_image(encoded(photo(60, 40), "JPEG"), max_side=100).size == (60, 40)


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (50, 50), (301, 200), (33, 97), (224, 300), (31, 500)])
@pytest.mark.parametrize("method", ["squish", "crop", "pad"])
@pytest.mark.parametrize("side", [32, 97, 192])
def test_resize_is_fastais_to_the_pixel(size, method, side):
    from fastai.vision.augment import PadMode, Resize
    from fastai.vision.core import PILImage

    picture = photo(*size)
    theirs = Resize(side, method=method, pad_mode=PadMode.Zeros)(PILImage(picture), split_idx=1)
    assert (np.asarray(resize(picture, side, method)) == np.asarray(theirs)).all()


def test_resize_refuses_an_unknown_method():
    with pytest.raises(ValueError, match="squish"):
        resize(photo(), 32, "stretch")


def test_a_hash_is_that_of_the_bytes(tmp_path):
    data = encoded(photo(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    assert sha256_of(data) == sha256_of(tmp_path / "a.png") == sha256_of(str(tmp_path / "a.png"))


def test_images_are_found_sorted_and_hidden_ones_skipped(tmp_path):
    for name in ["b/z.JPG", "b/a.png", "a/deep/c.heic", ".removed/x.png", "a/.hidden.png", "a/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/deep/c.heic", "b/a.png", "b/z.JPG"]


def test_a_thumbnail_is_a_small_upright_jpeg():
    turned = with_orientation(photo(600, 400), 6)
    small = Image.open(io.BytesIO(thumbnail(encoded(turned, "JPEG", exif=turned.getexif()), 64)))
    assert small.format == "JPEG" and small.size == (43, 64)


def test_opening_an_image_changes_no_global_setting():
    before = Image.MAX_IMAGE_PIXELS
    open_image(encoded(photo(), "PNG"))
    assert before == Image.MAX_IMAGE_PIXELS and images.MAX_PIXELS > 100_000_000
