"""winnow.clean.duplicates: copies are found however they were changed, and look-alikes are not copies."""

import io
import random
import shutil
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from winnow.catalog import Catalog
from winnow.clean import duplicates, index, proposals, spool
from winnow.clean.alignment import compare
from winnow.clean.duplicates import ALIKE, find_duplicates, set_threshold
from winnow.clean.looks import find_border, look_at


def scene(seed: int, size=(240, 180)) -> Image.Image:
    """A picture with shapes, shading and texture that no other seed gives."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    width, height = size
    coarse = noise.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y, side = draw.randrange(width), draw.randrange(height), draw.randrange(8, 60)
        colour = tuple(draw.randrange(256) for _ in range(3))
        (pen.ellipse if draw.random() < 0.5 else pen.rectangle)((x, y, x + side, y + side * 0.7), fill=colour)
    return picture


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def watermark(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).text((40, 70), "© example.org", fill="white", stroke_width=1, stroke_fill="black")
    return image


COPIES = {
    "resized": lambda image: image.resize((110, 82)),
    "recompressed": lambda image: jpeg(image, 25),
    "cropped": lambda image: image.crop((9, 2, 9 + 228, 2 + 171)),
    "bordered": lambda image: ImageOps.expand(image, 18, "#c03020"),
    "watermarked": watermark,
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned left": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned right and mirrored": lambda image: ImageOps.mirror(image.transpose(Image.Transpose.ROTATE_270)),
    "grey": ImageOps.grayscale,
    "brighter": lambda image: image.point(lambda value: min(255, 30 + value)),
    "in another format": lambda image: image.convert("P"),
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder with 24 different pictures."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(24):
        scene(number).save(folder / f"{number:02}.png")
    return folder


def test_changed_copies_are_found_and_nothing_else(scenes, tmp_path):
    for path in scenes.iterdir():
        shutil.copy(path, tmp_path)
    for number, (name, change) in enumerate(COPIES.items()):
        change(scene(number)).convert("RGB").save(tmp_path / f"{number:02} {name}.png")
    found = find_duplicates(sorted(tmp_path.iterdir()))
    names = [[path.rpartition("/")[2].removesuffix(".png") for path in group] for group in found.groups]
    assert names == [[f"{number:02} {name}", f"{number:02}"] for number, name in enumerate(COPIES)]


def test_different_pictures_are_no_duplicates(scenes):
    assert find_duplicates(sorted(scenes.iterdir())).groups == []


def test_all_copies_of_a_picture_are_one_group(scenes, tmp_path):
    for path in scenes.iterdir():
        shutil.copy(path, tmp_path)
    for name in ("resized", "mirrored", "grey", "bordered"):
        COPIES[name](scene(3)).convert("RGB").save(tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "03.png", tmp_path / "same.png")
    (group,) = find_duplicates(sorted(tmp_path.iterdir())).groups
    assert [path.rpartition("/")[2] for path in group] == [
        "03.png", "bordered.png", "grey.png", "mirrored.png", "resized.png", "same.png"
    ]  # fmt: skip


def test_pictures_that_look_alike_are_no_copies(cell_photos, tmp_path):
    """Solar cells share bus bars and frames; the set itself shows how little that says."""
    files = [shutil.copy(path, tmp_path) for path in sorted(cell_photos.rglob("*.png"))[::2]]
    original = files[20]
    ImageOps.mirror(Image.open(original)).save(tmp_path / "copy.png")
    found = find_duplicates([*files, str(tmp_path / "copy.png")])
    assert found.groups == [[str(original), str(tmp_path / "copy.png")]]
    assert found.threshold > ALIKE


def test_features_propose_what_looks_miss(scenes, tmp_path, monkeypatch):
    """A strong crop looks different at a glance; features that know better bring the pair to the comparison."""
    monkeypatch.setattr(proposals, "LIKELY_LOOK", 0.99)
    files = [shutil.copy(path, tmp_path) for path in sorted(scenes.iterdir())[:8]]
    scene(5).crop((50, 30, 220, 160)).save(tmp_path / "crop.png")
    files = sorted(map(str, [*files, tmp_path / "crop.png"]))
    features = np.random.default_rng(0).normal(size=(len(files), 32)).astype(np.float32)
    features[-1] = features[5] + 0.01
    pair = [str(tmp_path / "05.png"), str(tmp_path / "crop.png")]
    assert pair not in [sorted(pair) for pair in _proposed(files, None)]
    assert pair in [sorted(pair) for pair in _proposed(files, features)]
    assert find_duplicates(files, features=features).groups == [pair]


def _proposed(files: list[str], features) -> list[list[str]]:
    looks = [look_at(file) for file in files]
    pairs, _ = proposals.propose(looks, features, rivals=0)
    return [[files[pair.first], files[pair.second]] for pair in pairs]


def test_a_catalog_learns_groups_conflicts_and_leaks(scenes, tmp_path):
    for number in range(20):
        label = "ant" if number < 10 else "bee"
        (tmp_path / label).mkdir(exist_ok=True)
        shutil.copy(scenes / f"{number:02}.png", tmp_path / label)
    catalog = Catalog(tmp_path)
    catalog.split(valid=0.5)
    learning, checking = (
        catalog.photos(split="train", label="ant")[0],
        catalog.photos(split="valid", label="ant")[0],
    )
    ImageOps.mirror(catalog.open(learning.path)).save(tmp_path / "bee/conflict.png")
    ImageOps.mirror(catalog.open(checking.path)).save(tmp_path / "ant/leak.png")
    catalog.sync()
    with catalog._store.write() as db:  # as if this copy had come with a split of its own
        db.execute("UPDATE images SET side = 'train' WHERE side IS NULL")
    found = find_duplicates(catalog)
    assert found.conflicts == [sorted([learning.path, "bee/conflict.png"])]
    assert found.leaks == [sorted([checking.path, "ant/leak.png"])]
    assert sorted(map(sorted, catalog.groups().values())) == sorted(found.groups)
    assert {row.path for row in catalog.rows("conflict")} == set(found.conflicts[0])
    assert "class 'ant'" in next(
        row.reason for row in catalog.rows("conflict") if row.path == "bee/conflict.png"
    )
    assert {row.path for row in catalog.rows("leak")} == set(found.leaks[0])
    assert len(catalog.rows("duplicate")) == 4
    catalog.remove("bee/conflict.png"), catalog.remove("ant/leak.png")
    catalog.apply()
    assert find_duplicates(catalog).groups == [] and catalog.rows() == [] and catalog.groups() == {}


def test_new_near_duplicates_follow_their_groups_side(scenes, tmp_path):
    for label, numbers in (("ant", range(10)), ("bee", range(10, 20))):
        (tmp_path / label).mkdir()
        for number in numbers:
            shutil.copy(scenes / f"{number:02}.png", tmp_path / label)
    catalog = Catalog(tmp_path)
    catalog.split()
    for photo in catalog.photos(split="valid"):
        ImageOps.mirror(catalog.open(photo.path)).save(tmp_path / photo.label / f"mirror-{photo.path[4:]}")
    catalog.sync()
    find_duplicates(catalog)
    catalog.split()
    assert {p.split for p in catalog.photos() if "mirror" in p.path} == {"valid"}


def test_unreadable_files_are_passed_over(scenes, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    shutil.copy(scenes / "00.png", tmp_path / "a.png")
    shutil.copy(scenes / "00.png", tmp_path / "b.png")
    assert len(find_duplicates(sorted(tmp_path.iterdir()))) == 1
    assert find_duplicates([]).groups == [] and find_duplicates([tmp_path / "broken.png"]).groups == []


def test_a_large_set_is_searched_by_an_index_with_the_same_result(scenes, tmp_path, monkeypatch):
    for path in scenes.iterdir():
        shutil.copy(path, tmp_path)
    COPIES["mirrored"](scene(11)).save(tmp_path / "copy.png")
    monkeypatch.setattr(index, "EXACT_UP_TO", 10)
    monkeypatch.setattr(proposals, "EXACT_UP_TO", 10)
    monkeypatch.setattr(duplicates, "HELD", 10)  # looks are read from a file
    monkeypatch.setattr(spool, "HELD", 0)  # and vectors are mapped from one
    assert find_duplicates(sorted(tmp_path.iterdir())).groups == [
        [str(tmp_path / "11.png"), str(tmp_path / "copy.png")]
    ]


def test_without_usearch_a_large_set_is_compared_exactly_and_says_so(monkeypatch):
    unit = np.eye(20, dtype=np.float32)
    monkeypatch.setattr(index, "EXACT_UP_TO", 10)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.warns(index.NoIndex, match="scale"):
        assert index.open_index(unit) is None


def test_an_index_finds_nearly_the_exact_neighbours_in_half_precision(monkeypatch):
    monkeypatch.setattr(index, "EXACT_UP_TO", 10)
    draw = np.random.default_rng(0)
    unit = draw.normal(size=(40, 64))[draw.integers(40, size=3000)] + draw.normal(size=(3000, 64)) * 0.7
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    near, cosine = index.open_index(unit).search(unit[:500], 50)
    exact = np.argsort(-(unit[:500] @ unit.T), axis=1)[:, :50]
    found = np.mean([len(set(a) & set(b)) for a, b in zip(near, exact, strict=True)]) / 50
    assert found > 0.98
    assert np.abs(cosine - np.take_along_axis(unit[:500] @ unit.T, near, axis=1)).max() < 2e-3
    one, _ = index.open_index(unit).search(unit[:1], 3)
    assert one.shape == (1, 3) and one[0, 0] == 0


def test_the_threshold_rises_where_different_pictures_look_alike():
    assert set_threshold([0.2] * 300) == ALIKE
    assert set_threshold([0.99] * 300) > 0.994
    assert set_threshold([0.99] * 10) == ALIKE  # too few to say
    assert set_threshold([0.999] * 5 + [0.5] * 95) == ALIKE  # five copies among the rivals


def test_a_plain_border_is_found_and_a_picture_is_not_eaten(tmp_path):
    grey = np.asarray(scene(1).convert("L"))
    assert find_border(grey) == (0, 0, 240, 180)
    framed = np.pad(grey, 15, constant_values=200)
    left, top, right, bottom = find_border(framed)
    assert 14 <= left <= 18 and 14 <= top <= 18 and 250 <= right <= 256 and 190 <= bottom <= 196
    assert find_border(np.full((100, 100), 7, np.uint8)) == (20, 20, 80, 80)


def test_a_comparison_is_symmetric_enough_and_bounded():
    one, two, other = (
        np.asarray(image.convert("L")) for image in (scene(1), scene(1).resize((120, 90)), scene(2))
    )
    assert compare(one, two).likeness > 0.98 and compare(two, one).likeness > 0.98
    assert compare(one, other).likeness < 0.6
    flat = np.full((50, 60), 9, np.uint8)
    assert compare(flat, flat).likeness < ALIKE and compare(flat, one).likeness < ALIKE


def test_a_look_of_an_unreadable_file_is_none(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    assert look_at(tmp_path / "x.jpg") is None
