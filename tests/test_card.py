"""The dataset's papers say what is in it, where it comes from, and who made it."""

import csv

import pytest
from replica import photos

from winnow.catalog import Catalog
from winnow.collect.card import write_card


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "bears")
    origins = [
        {"url": "http://a.example/1.jpg", "page": "https://flickr.example/1", "engine": "openverse", "query": "bear",
         "creator": "Ada | Ben", "licence": "CC BY 4.0", "attribution": "by Ada"},
        {"url": "http://a.example/2.jpg", "engine": "duckduckgo", "query": "bear", "title": "=HYPERLINK(1)"},
        {"file": "mine.jpg"},
        {},
    ]  # fmt: skip
    for number, origin in enumerate(origins):
        catalog.add(photos.photo(number + 1), "black" if number % 2 else "grizzly", origin=origin)
    catalog.reject("http://a/3", "not found: it said 404", label="black")
    catalog.reject("http://a/4", "not found: it said 410", label="black")
    catalog.split(valid=0.5)
    return catalog


def test_the_card_counts_classes_sources_queries_licences_and_rejections(catalog):
    card, _ = write_card(catalog, title="Bears", description="Seen in the woods.")
    text = card.read_text()
    assert card == catalog.folder / "DATASET.md"
    assert text.startswith("# Bears\n\nSeen in the woods.\n\n4 photos in 2 classes.")
    for line in (
        "| black | 1 | 1 | 2 |",
        "| openverse: flickr.example | 1 |",
        "| duckduckgo: a.example | 1 |",
        "| a folder | 1 |",
        "| bear | 2 |",
        "| CC BY 4.0 | 1 |",
        "| not known | 3 |",
        "| not found | 2 |",
    ):
        assert line in text, text
    assert "3 photos have no licence on record" in text


def test_every_photo_is_credited_and_no_title_becomes_a_formula(catalog):
    _, credits = write_card(catalog)
    rows = list(csv.DictReader(credits.open(encoding="utf-8")))
    assert [row["path"] for row in rows] == [photo.path for photo in catalog.photos()]
    by_url = {row["url"]: row for row in rows}
    assert by_url["http://a.example/1.jpg"]["creator"] == "Ada | Ben"
    assert by_url["http://a.example/1.jpg"]["licence"] == "CC BY 4.0"
    assert by_url["http://a.example/2.jpg"]["title"] == "'=HYPERLINK(1)"


def test_a_picture_found_twice_is_credited_where_its_licence_stands(catalog):
    second = next(photo for photo in catalog.photos() if photo.origin.get("url") == "http://a.example/2.jpg")
    twin = {"url": "http://b.example/9.jpg", "page": "https://commons.example/9", "creator": "Cleo", "licence": "CC0",
            "engine": "wikimedia", "same_as": second.sha256}  # fmt: skip
    catalog.reject(twin["url"], "same picture: already there from http://a.example/2.jpg", origin=twin)
    card, credits = write_card(catalog)
    row = next(row for row in csv.DictReader(credits.open(encoding="utf-8")) if row["path"] == second.path)
    assert (row["creator"], row["licence"], row["page"]) == ("Cleo", "CC0", "https://commons.example/9")
    assert row["also_at"] == "http://a.example/2.jpg" and row["sha256"] == second.sha256
    assert "| CC0 | 1 |" in card.read_text() and "2 photos have no licence on record" in card.read_text()


def test_a_second_card_follows_what_has_changed(catalog):
    write_card(catalog)
    catalog.remove(catalog.photos()[0].path)
    catalog.apply()
    card, credits = write_card(catalog)
    assert "3 photos in 2 classes" in card.read_text() and "Removed by hand: 1." in card.read_text()
    assert len(credits.read_text().splitlines()) == 4
    assert not list(catalog.folder.glob(".tmp*"))


def test_the_papers_are_no_photos_to_the_catalog(catalog):
    write_card(catalog)
    report = catalog.sync()
    assert report.added == [] and report.unlabelled == [] and catalog.classes == ["black", "grizzly"]


def test_an_empty_dataset_has_a_card_too(tmp_path):
    card, credits = write_card(Catalog(tmp_path / "empty"))
    assert "0 photos in 0 classes" in card.read_text()
    assert credits.read_text().count("\n") == 1
