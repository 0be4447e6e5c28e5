"""Spoilt photos become rows to review, and nothing else happens to them."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from winnow.catalog import Catalog
from winnow.collect.quality import find_quality
from winnow.collect.sample import read_cells


@pytest.fixture(scope="module")
def scenery():
    """A real photo in colour."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("flower.jpg"))


@pytest.fixture
def catalog(tmp_path, scenery):
    folder = tmp_path / "photos" / "flowers"
    folder.mkdir(parents=True)
    dark = Image.fromarray((np.asarray(scenery) * 0.12).astype(np.uint8))
    pictures = {
        "fine": scenery,
        "dark": dark,
        "light": Image.eval(scenery, lambda value: 246 + value // 28),
        "blurry": scenery.filter(ImageFilter.GaussianBlur(30)),
        "odd_aspect_ratio": scenery.crop((0, 200, 640, 260)),
        "low_information": Image.new("RGB", (300, 300), (120, 140, 90)),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    return Catalog(tmp_path / "photos")


@pytest.mark.parametrize("kind", ["dark", "light", "blurry", "odd_aspect_ratio", "low_information"])
def test_each_fault_is_seen_where_it_was_made(catalog, kind):
    find_quality(catalog)
    assert f"flowers/{kind}.png" in [row.path for row in catalog.rows("quality") if row.data["kind"] == kind]


def test_a_fine_photo_gets_no_row(catalog):
    find_quality(catalog)
    assert "flowers/fine.png" not in [row.path for row in catalog.rows("quality")]


def test_a_second_look_replaces_the_rows_of_the_first(catalog):
    first = find_quality(catalog)
    rows = len(catalog.rows("quality"))
    assert find_quality(catalog) == first
    assert len(catalog.rows("quality")) == rows == sum(first.values())


def test_nothing_is_removed_or_decided(catalog):
    before = {photo.path: photo.sha256 for photo in catalog.photos()}
    find_quality(catalog)
    assert {photo.path: photo.sha256 for photo in catalog.photos()} == before
    assert catalog.history() == []


def test_a_stricter_threshold_finds_more(tmp_path):
    catalog = Catalog(tmp_path)
    for cell in read_cells()[:20]:
        catalog.add(cell.file, cell.label)
    assert find_quality(catalog, thresholds={"dark": 1.01})["dark"] == 20


def test_an_empty_dataset_has_no_faults(tmp_path):
    assert find_quality(Catalog(tmp_path)) == {}
