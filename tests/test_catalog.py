"""winnow.catalog: adopting a folder, the frozen split, intake, and bad input."""

import json
import multiprocessing
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from pictures import write_photos
from PIL import Image

from winnow import migrations
from winnow.catalog import (
    Catalog,
    CatalogError,
    EmptyClass,
    NoImages,
    NoSuchFolder,
    NoSuchPhoto,
    NotACatalog,
    TooFewImages,
    UnknownClass,
    WasRemoved,
)
from winnow.images import BadImage


def tree(folder: Path) -> dict[str, bytes]:
    """Every visible file that a user brought, with its bytes."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    pairs = zip(names, paths, strict=True)
    return {name: path.read_bytes() for name, path in pairs if not name.startswith((".", "catalog.db"))}


# -- adopting --


def test_adopting_a_folder_renames_nothing(photo_folder):
    before = tree(photo_folder)
    catalog = Catalog(photo_folder)
    assert tree(photo_folder) == before
    assert catalog.classes == ["ant", "bee", "cat"]
    assert [photo.path for photo in catalog.photos()] == sorted(before)
    assert {(photo.width, photo.height) for photo in catalog.photos()} == {(16, 12)}
    assert all(photo.label == photo.path.split("/")[0] for photo in catalog.photos())


def test_train_and_valid_parents_are_a_given_split(tmp_path):
    for parent in ("train", "validation", "test"):
        write_photos(tmp_path / parent, {"ant": 3, "bee": 2}, seed=len(parent))
    catalog = Catalog(tmp_path)
    catalog.split()
    assert catalog.classes == ["ant", "bee"]
    assert Counter(photo.split for photo in catalog.photos()) == {"train": 5, "valid": 5, "test": 5}
    assert catalog.photo("validation/bee/0.png").split == "valid"
    catalog.relabel("validation/bee/0.png", "ant")
    catalog.apply()
    assert catalog.photo("validation/ant/0-2.png").split == "valid"


def test_train_without_valid_is_split_further_and_test_stays(tmp_path):
    write_photos(tmp_path / "train", {"ant": 10, "bee": 10})
    write_photos(tmp_path / "test", {"ant": 4, "bee": 4}, seed=1)
    catalog = Catalog(tmp_path)
    catalog.split(valid=0.2)
    sides = {photo.path: photo.split for photo in catalog.photos()}
    assert Counter(sides.values()) == {"train": 16, "valid": 4, "test": 8}
    catalog.split(valid=0.5, seed=7)
    assert sides == {photo.path: photo.split for photo in catalog.photos()}


def test_a_class_may_be_called_train(tmp_path):
    catalog = Catalog(write_photos(tmp_path, {"train": 3, "bus": 3}))
    assert catalog.classes == ["bus", "train"]


def test_unlabelled_test_photos_are_no_class(tmp_path):
    write_photos(tmp_path / "train", {"ant": 3, "bee": 3})
    write_photos(tmp_path, {"test": 3}, seed=1)
    catalog = Catalog(tmp_path)
    assert catalog.classes == ["ant", "bee"] and len(catalog) == 6


def test_a_missing_folder_is_made_only_if_wanted(tmp_path):
    with pytest.raises(NoSuchFolder, match="check the path"):
        Catalog(tmp_path / "typo", create=False)
    assert not (tmp_path / "typo").exists()
    assert len(Catalog(tmp_path / "new")) == 0


def test_a_catalog_travels_by_pickle(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.split()
    assert pickle.loads(pickle.dumps(catalog)).photos() == catalog.photos()


# -- looking at the disk --


def test_sync_tells_what_changed_on_disk(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.split()
    side = catalog.photo("ant/3.png").split
    (photo_folder / "ant" / "0.png").unlink()
    shutil.copy(photo_folder / "bee" / "0.png", photo_folder / "ant" / "new.png")
    Image.new("RGB", (9, 9), "red").save(photo_folder / "ant" / "1.png")
    (photo_folder / "ant" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (photo_folder / "ant" / "3.png").rename(photo_folder / "bee" / "moved.png")
    (photo_folder / "dog").mkdir()
    report = catalog.sync()
    assert report.missing == ["ant/0.png"]
    assert report.added == ["ant/broken.jpg", "ant/new.png"]
    assert report.changed == ["ant/1.png"]
    assert report.unreadable == ["ant/broken.jpg"]
    assert report.moved == [("ant/3.png", "bee/moved.png")]
    assert report.empty_classes == ["dog"]
    assert "ant/broken.jpg" not in [photo.path for photo in catalog.photos()]
    moved = catalog.photo("bee/moved.png")
    assert (moved.label, moved.split) == ("bee", side)
    again = catalog.sync()
    assert not (again.added or again.missing or again.changed or again.moved)


def test_a_file_that_comes_back_keeps_what_was_known(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.set_target("wings", {"bee/0.png": "2"})
    shutil.move(photo_folder / "bee/0.png", photo_folder.parent / "away.png")
    assert catalog.sync().missing == ["bee/0.png"]
    assert "bee/0.png" not in {photo.path for photo in catalog.photos()}
    shutil.move(photo_folder.parent / "away.png", photo_folder / "bee/0.png")
    catalog.sync()
    assert catalog.photo("bee/0.png").targets == {"wings": "2"}


def test_sync_reads_only_files_whose_stamp_is_new(photo_folder, monkeypatch):
    catalog = Catalog(photo_folder)
    (photo_folder / "ant/0.png").touch()
    reads = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or real(path))
    report = catalog.sync()
    assert reads == ["0.png"] and report.changed == []


def test_photos_outside_class_folders_are_reported(photo_folder):
    shutil.copy(photo_folder / "ant/0.png", photo_folder / "loose.png")
    catalog = Catalog(photo_folder)
    assert catalog.sync().unlabelled == ["loose.png"]
    assert len(catalog) == 24


# -- the split --


def test_a_class_is_divided_evenly(tmp_path):
    catalog = Catalog(write_photos(tmp_path, {"ant": 50, "bee": 10, "cat": 3, "dog": 2}))
    catalog.split(valid=0.2)
    counts = Counter(photo.label for photo in catalog.photos(split="valid"))
    assert counts == {"ant": 10, "bee": 2, "cat": 1, "dog": 1}


def test_a_photo_keeps_its_side_for_life(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.split(seed=1)
    sides = {photo.sha256: photo.split for photo in catalog.photos()}
    extra = write_photos(photo_folder.parent / "extra", {"ant": 5}, seed=9)
    for path in (extra / "ant").iterdir():
        catalog.add(path, "ant", name=f"extra-{path.name}")
    catalog.relabel("ant/0.png", "bee")
    catalog.remove("bee/1.png")
    catalog.apply()
    catalog.split(valid=0.5, seed=99)
    assert all(sides.get(photo.sha256, photo.split) == photo.split for photo in catalog.photos())
    assert all(photo.split for photo in catalog.photos())


def test_the_split_depends_on_the_seed_and_on_no_name(photo_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photo_folder, other)
    for path in sorted((other / "ant").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    chosen = []
    for folder, seed in ((photo_folder, 3), (other, 3)):
        catalog = Catalog(folder)
        catalog.split(seed=seed)
        chosen.append({photo.sha256 for photo in catalog.photos(split="valid")})
    assert chosen[0] == chosen[1]


def test_duplicates_share_a_side(photo_folder):
    catalog = Catalog(photo_folder)
    groups = {photo.path: "abc"[int(photo.path[4]) % 3] for photo in catalog.photos()}
    catalog.set_groups(groups)
    catalog.split(valid=0.3)
    for members in catalog.groups().values():
        assert len({catalog.photo(path).split for path in members}) == 1
    assert {photo.split for photo in catalog.photos()} == {"train", "valid"}


def test_a_late_duplicate_follows_its_group(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.split()
    checking = catalog.photos(split="valid", label="ant")[0]
    Image.open(photo_folder / checking.path).save(photo_folder / "ant" / "copy.bmp")
    catalog.sync()
    catalog.set_groups({checking.path: "g", "ant/copy.bmp": "g"})
    catalog.split()
    assert catalog.photo("ant/copy.bmp").split == "valid"


# -- intake --


def test_add_keeps_origin_targets_and_extra(tmp_path, photo_folder):
    catalog = Catalog(tmp_path / "new")
    photo = catalog.add(
        photo_folder / "ant/0.png", "ant", origin={"url": "u"}, targets={"sex": "f"}, extra={"p": 0.5}
    )
    assert photo.path == "ant/0.png"
    assert (photo.origin, photo.targets, photo.extra) == ({"url": "u"}, {"sex": "f"}, {"p": 0.5})
    assert catalog.file(photo.path).read_bytes() == (photo_folder / "ant/0.png").read_bytes()
    assert catalog.open(photo.path).size == (16, 12)
    assert catalog.target_names() == ["sex"]


def test_the_same_bytes_in_the_same_class_are_one_photo(photo_folder):
    catalog = Catalog(photo_folder)
    data = (photo_folder / "ant/0.png").read_bytes()
    assert catalog.add(data, "ant").path == "ant/0.png"
    assert len(catalog) == 24


def test_the_same_file_in_two_classes_is_a_conflict_and_both_are_kept(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.add(photo_folder / "ant/0.png", "bee")
    catalog.split()
    assert catalog.conflicts() == [["ant/0.png", "bee/0-2.png"]]
    assert catalog.photo("ant/0.png").split == catalog.photo("bee/0-2.png").split


def test_add_takes_a_name_that_is_taken_by_other_bytes(photo_folder):
    catalog = Catalog(photo_folder)
    assert catalog.add(photo_folder / "bee/0.png", "ant").path == "ant/0-2.png"
    assert catalog.sync().changed == []


def test_add_refuses_what_is_no_image_and_leaves_nothing(photo_folder):
    catalog = Catalog(photo_folder)
    before = tree(photo_folder)
    with pytest.raises(BadImage):
        catalog.add(b"<html>", "ant")
    with pytest.raises(BadImage):
        catalog.add(photo_folder / "nowhere.png", "ant")
    assert tree(photo_folder) == before


@pytest.mark.parametrize("label", ["", "a/b", "..", ".hidden", " x"])
def test_a_label_must_be_a_folders_name(photo_folder, label):
    catalog = Catalog(photo_folder)
    with pytest.raises(UnknownClass):
        catalog.add(photo_folder / "ant/0.png", label)


def test_add_by_moving_takes_the_source_away_only_afterwards(photo_folder, tmp_path):
    source = Path(shutil.copy(photo_folder / "ant/0.png", tmp_path / "x.png"))
    catalog = Catalog(photo_folder)
    catalog.add(source, "bee", move=True)
    assert not source.exists() and (photo_folder / "bee/x.png").exists()


def test_what_a_person_removed_is_not_taken_in_again(photo_folder):
    catalog = Catalog(photo_folder)
    data = (photo_folder / "ant/0.png").read_bytes()
    catalog.remove("ant/0.png")
    catalog.apply()
    with pytest.raises(WasRemoved, match="undo"):
        catalog.add(data, "ant")


def test_rejections_are_kept_with_their_reason(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.reject("http://x/y.jpg", "HTTP 404", label="ant", origin={"query": "ants"})
    (row,) = Catalog(photo_folder).rejections()
    assert (row.source, row.reason, row.label, row.origin) == (
        "http://x/y.jpg",
        "HTTP 404",
        "ant",
        {"query": "ants"},
    )


@pytest.mark.parametrize("point", ["origin written", "file written"])
def test_a_crash_while_adding_loses_nothing(photo_folder, tmp_path, point):
    Catalog(photo_folder)
    script = (
        "import os, signal, sys\nfrom winnow import intake, catalog\n"
        f"intake.reached = lambda at: os.kill(os.getpid(), signal.SIGKILL) if at == {point!r} else None\n"
        "catalog.Catalog(sys.argv[1]).add(sys.argv[2], 'bee', name='new.png', origin={'url': 'u'})"
    )
    source = write_photos(tmp_path / "new", {"bee": 1}, seed=5) / "bee/0.png"
    assert subprocess.run([sys.executable, "-c", script, photo_folder, source]).returncode == -9
    catalog = Catalog(photo_folder)
    catalog.sync()
    photo = catalog.add(source, "bee", name="new.png")
    assert photo.path == "bee/new.png" and photo.origin == {"url": "u"} and len(catalog) == 25
    assert not list(catalog.cache.glob("incoming-*"))


def test_threads_add_the_same_image_once(tmp_path, photo_folder):
    catalog = Catalog(tmp_path / "new")
    sources = sorted((photo_folder / "ant").iterdir()) * 3
    threads = [threading.Thread(target=catalog.add, args=(source, "ant")) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog) == 8 and len(tree(tmp_path / "new")) == 8


# -- columns, rows, runs --


def test_groups_rows_and_runs_are_remembered(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.set_groups({"ant/0.png": 1, "ant/1.png": 1, "bee/0.png": 2})
    catalog.set_groups({"bee/0.png": None})
    catalog.add_row("duplicate", "ant/0.png", "same as ant/1.png", {"other": "ant/1.png"})
    catalog.add_row("duplicate", "ant/0.png", "same as ant/1.png", {"other": "ant/1.png"})
    number = catalog.record_run("train", {"epochs": 3}, {"f1": 0.5})
    again = Catalog(photo_folder)
    assert again.groups() == {"1": ["ant/0.png", "ant/1.png"]}
    assert [(row.kind, row.path, row.data) for row in again.rows()] == [
        ("duplicate", "ant/0.png", {"other": "ant/1.png"})
    ]
    assert again.rows("quality") == []
    assert [(run.id, run.kind, run.params, run.metrics) for run in again.runs()] == [
        (number, "train", {"epochs": 3}, {"f1": 0.5})
    ]


def test_a_row_follows_its_photo(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.add_row("quality", "ant/0.png", "dark", {})
    catalog.relabel("ant/0.png", "bee")
    catalog.apply()
    assert [row.path for row in catalog.rows("quality")] == ["bee/0-2.png"]
    catalog.remove("bee/0-2.png")
    catalog.apply()
    assert catalog.rows("quality") == []


def test_columns_of_a_strange_path_are_refused(photo_folder):
    catalog = Catalog(photo_folder)
    with pytest.raises(NoSuchPhoto):
        catalog.set_target("x", {"ant/nowhere.png": "1"})
    with pytest.raises(NoSuchPhoto):
        catalog.photo("ant/nowhere.png")


# -- bad input --


def test_a_read_only_folder_gets_one_sentence_and_stays_as_it_was(photo_folder):
    """Root may write anywhere, so the folder is opened by a child that is nobody in particular."""
    folder = photo_folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    script = (
        "import os, sys, json\nfrom winnow.catalog import Catalog, ReadOnlyFolder\n"
        "if os.getuid() == 0: os.setgid(65534), os.setuid(65534)\n"
        "try: Catalog(sys.argv[1])\nexcept ReadOnlyFolder as error: print(error)"
    )
    before = sorted(folder.rglob("*"))
    result = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    assert (
        result.stdout.strip()
        == f"{folder} can't be written: give yourself write permission or work on a copy of it."
    )
    assert sorted(folder.rglob("*")) == before


def test_an_empty_class_and_a_single_image_are_explained(photo_folder):
    catalog = Catalog(photo_folder)
    (photo_folder / "dog").mkdir()
    with pytest.raises(EmptyClass, match="'dog' has no image"):
        catalog.split()
    shutil.copy(photo_folder / "ant/0.png", photo_folder / "dog")
    catalog.sync()
    with pytest.raises(TooFewImages, match="'dog' has one image"):
        catalog.split()
    assert {photo.split for photo in catalog.photos()} == {None}
    catalog.split(strict=False)
    assert {photo.split for photo in catalog.photos()} == {"train", "valid"}


def test_a_folder_without_images_is_explained(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(NoImages, match="put each class"):
        Catalog(tmp_path).split()


@pytest.mark.parametrize("content", [b"this is no database, it is just text " * 50, "other"])
def test_a_foreign_catalog_db_is_left_alone(photo_folder, content):
    path = photo_folder / "catalog.db"
    if content == "other":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE recipes (name)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(NotACatalog, match="move it away"):
        Catalog(photo_folder)
    assert path.read_bytes() == before


def test_a_catalog_of_a_newer_winnow_is_left_alone(photo_folder):
    catalog = Catalog(photo_folder)
    with catalog._store.write() as db:
        db.execute("INSERT INTO migrations VALUES ('m999_future', '')")
    with pytest.raises(NotACatalog, match="upgrade"):
        Catalog(photo_folder)


def test_migrations_are_named_in_order_and_bring_an_old_catalog_up(photo_folder, monkeypatch):
    names = [step.__name__ for step in migrations.STEPS]
    assert names == sorted(names) and all(name.startswith("m0") for name in names)
    Catalog(photo_folder)

    def m999_note(db):
        db.execute("CREATE TABLE note (text)")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, m999_note))
    catalog = Catalog(photo_folder)
    assert catalog._db.execute("SELECT count(*) FROM note").fetchone()[0] == 0 and len(catalog) == 24


def test_a_busy_catalog_says_so_and_changes_nothing(photo_folder, monkeypatch):
    catalog = Catalog(photo_folder)
    other = sqlite3.connect(photo_folder / "catalog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    catalog._db.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(CatalogError, match="nothing changed; try again when the other program is done"):
        catalog.keep("ant/0.png")
    other.execute("ROLLBACK")
    catalog.keep("ant/0.png")
    assert len(catalog.history()) == 1


# -- many processes --


def open_and_count(folder) -> int:
    return len(Catalog(folder))


def test_many_processes_may_open_a_new_catalog_at_once(photo_folder):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(open_and_count, [photo_folder] * 8, chunksize=1) == [24] * 8
    rows = Catalog(photo_folder)._db.execute("SELECT count(*) FROM files").fetchone()[0]
    assert rows == 24


def test_the_origin_is_valid_json_on_disk(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.add(
        write_photos(photo_folder.parent / "o", {"x": 1}, seed=4) / "x/0.png",
        "ant",
        origin={"title": 'a "b"'},
    )
    texts = [row[0] for row in catalog._db.execute("SELECT origin FROM images")]
    assert {"title": 'a "b"'} in [json.loads(text) for text in texts]
