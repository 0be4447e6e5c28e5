"""The sample: real photos with experts' labels, in class folders."""

import subprocess
import sys
from collections import Counter

import pytest

from winnow.catalog import Catalog
from winnow.collect.sample import LICENCE, read_cells, spread, write_sample


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample") / "solar", limit=120)


def test_defective_means_a_probability_of_at_least_one_half(part):
    photos = part.photos()
    assert len(photos) == 120
    assert {photo.label for photo in photos} == {"functional", "defective"}
    assert all((photo.extra["probability"] >= 0.5) == (photo.label == "defective") for photo in photos)


def test_each_photo_keeps_its_type_and_its_source(part):
    photo = part.photos()[0]
    assert photo.targets["type"] in ("mono", "poly")
    assert photo.origin["licence"] == "CC BY-NC-SA 4.0"
    assert "CC BY-NC-SA 4.0" in LICENCE
    assert part.target_names() == ["type"]


def test_the_whole_table_is_there():
    counts = Counter(round(cell.probability, 2) for cell in read_cells())
    assert counts == {0.0: 1508, 0.33: 295, 0.67: 106, 1.0: 715}


@pytest.mark.parametrize("limit", [40, 200, 1000])
def test_a_part_keeps_classes_and_types_in_proportion(limit):
    cells = read_cells()
    whole, part = (Counter((c.label, c.type) for c in some) for some in (cells, spread(cells)[:limit]))
    assert all(abs(part[key] - whole[key] * limit / len(cells)) <= 1 for key in whole)


def test_a_larger_limit_adds_and_a_second_call_writes_nothing(tmp_path):
    catalog = write_sample(tmp_path / "solar", limit=12)
    before = [photo.path for photo in catalog.photos()]
    assert len(write_sample(tmp_path / "solar", limit=12).runs()) == 1
    after = [photo.path for photo in write_sample(tmp_path / "solar", limit=20).photos()]
    assert len(after) == 20 and set(before) < set(after)


def test_decisions_made_since_survive_a_second_call(tmp_path):
    catalog = write_sample(tmp_path / "solar", limit=12)
    relabelled, removed = (photo.path for photo in catalog.photos(label="functional")[:2])
    catalog.relabel(relabelled, "defective")
    catalog.remove(removed)
    catalog.apply()
    again = write_sample(tmp_path / "solar", limit=12)
    assert len(again.photos()) == 11
    assert not {relabelled, removed} & {photo.path for photo in again.photos()}


def test_photos_deleted_by_hand_come_back_on_the_next_call(tmp_path):
    catalog = write_sample(tmp_path / "solar", limit=6)
    for photo in catalog.photos():
        catalog.file(photo.path).unlink()
    catalog.sync()
    assert len(write_sample(tmp_path / "solar", limit=6).photos()) == 6


def test_without_the_package_one_sentence_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['elpv_dataset'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name: None\n"
        "from winnow.collect.sample import read_cells\n"
        "read_cells()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "SampleMissing: The sample's photos are not installed: run pip install elpv-dataset" in done.stderr


def test_the_catalog_reopens_with_everything(part):
    again = Catalog(part.folder)
    assert again.photos() == part.photos()
