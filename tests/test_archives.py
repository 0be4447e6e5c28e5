"""Folders and archives come in by the catalog's door, and a hostile archive writes nothing outside its folder."""

import functools
import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
import zipfile

import pytest

from winnow.catalog import Catalog
from winnow.collect import unpack as unpacking
from winnow.collect.archives import (
    ChangedArchive,
    NoClassFolders,
    NoSuchSource,
    import_archive,
    import_folder,
)
from winnow.collect.sample import read_cells
from winnow.collect.unpack import BadArchive

CELLS = read_cells()[:6]
PHOTO = CELLS[0].file.read_bytes()


@pytest.fixture
def bears(tmp_path):
    """A person's own folder: two classes, a bad file, a note and an empty class."""
    folder = tmp_path / "bears"
    for number, cell in enumerate(CELLS):
        target = folder / ("black" if number % 2 else "grizzly") / f"photo {number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.file, target)
    (folder / "black" / "page.jpg").write_text("<html>not found</html>")
    (folder / "black" / "notes.txt").write_text("no image")
    (folder / "teddy").mkdir()
    return folder


def listing(folder):
    """Every file beneath a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_comes_in_and_each_file_is_a_photo_or_a_rejection(tmp_path, bears):
    catalog = Catalog(tmp_path / "data")
    before = listing(bears)
    report = import_folder(catalog, bears)
    assert report.rows() == [("black", 4, 3, "1 not an image"), ("grizzly", 3, 3, "")]
    assert [photo.path for photo in catalog.photos(label="grizzly")] == [
        "grizzly/photo 0.png", "grizzly/photo 2.png", "grizzly/photo 4.png",
    ]  # fmt: skip
    assert catalog.rejections()[0].source.endswith("page.jpg")
    assert listing(bears) == before


def test_an_empty_class_folder_is_named(tmp_path, bears):
    report = import_folder(Catalog(tmp_path / "data"), bears)
    assert report.notes == ["Class folder 'teddy' has no image: it was left out."]


def test_the_catalogs_own_folder_is_adopted_in_place(bears):
    before = listing(bears)
    report = import_folder(Catalog(bears), bears)
    assert report.images == {"black": 3, "grizzly": 3} and report.reasons == {"not an image": 1}
    after = {
        name: data for name, data in listing(bears).items() if "catalog.db" not in name and name[0] != "."
    }
    assert after == before
    assert "teddy" in report.notes[0]
    import_folder(Catalog(bears), bears)
    assert len(Catalog(bears).rejections()) == 1


def test_train_and_valid_parents_are_looked_through(tmp_path, bears):
    (tmp_path / "given" / "train").mkdir(parents=True)
    shutil.move(bears, tmp_path / "given" / "valid")
    (tmp_path / "given" / "train" / "black").mkdir()
    shutil.copy(CELLS[5].file, tmp_path / "given" / "train" / "black" / "x.png")
    catalog = Catalog(tmp_path / "data")
    assert import_folder(catalog, tmp_path / "given").images == {"black": 4, "grizzly": 3}
    assert catalog.classes == ["black", "grizzly"]


def test_a_missing_folder_and_one_without_classes_are_a_sentence_each(tmp_path):
    catalog = Catalog(tmp_path / "data")
    with pytest.raises(NoSuchSource, match="There is no folder"):
        import_folder(catalog, tmp_path / "none")
    (tmp_path / "flat").mkdir()
    shutil.copy(CELLS[0].file, tmp_path / "flat")
    with pytest.raises(NoClassFolders, match="make one folder for each class"):
        import_folder(catalog, tmp_path / "flat")


@pytest.mark.parametrize("kind", ["zip", "gztar", "xztar"])
def test_an_archive_gives_the_photos_that_were_packed(tmp_path, bears, kind):
    archive = shutil.make_archive(tmp_path / "packed", kind, tmp_path, "bears")
    catalog = Catalog(tmp_path / "data")
    report = import_archive(catalog, archive)
    assert report.images == {"black": 3, "grizzly": 3} and report.reasons == {"not an image": 1}
    assert catalog.file("grizzly/photo 0.png").read_bytes() == PHOTO
    assert not [path for path in catalog.cache.iterdir() if path.name.startswith("unpacked")]


HOSTILE = {
    "climbs": "../../evil.png",
    "absolute": "/tmp/winnow-evil.png",
    "backslashes": "..\\..\\evil.png",
    "drive": "C:\\evil.png",
    "deep climb": "cats/../../../evil.png",
}


def write_hostile_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cats/good.png", PHOTO)
        for name in HOSTILE.values():
            archive.writestr(name, PHOTO)
        link = zipfile.ZipInfo("cats/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return path


def write_hostile_tar(path):
    with tarfile.open(path, "w:gz") as archive:
        for name in ["cats/good.png", *HOSTILE.values()]:
            info = tarfile.TarInfo(name)
            info.size = len(PHOTO)
            archive.addfile(info, io.BytesIO(PHOTO))
        for name, kind, target in [
            ("cats/link.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("cats/hard.png", tarfile.LNKTYPE, "../../../etc/passwd"),
            ("cats/pipe.png", tarfile.FIFOTYPE, ""),
            ("out", tarfile.SYMTYPE, ".."),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        through = tarfile.TarInfo("out/evil.png")
        through.size = len(PHOTO)
        archive.addfile(through, io.BytesIO(PHOTO))
    return path


@pytest.mark.parametrize("write", [write_hostile_zip, write_hostile_tar])
def test_a_hostile_archive_writes_nothing_outside_its_folder(tmp_path, write):
    home = tmp_path / "deep" / "er" / "data"
    archive = write(tmp_path / "hostile")
    catalog = Catalog(home)
    before = {p for p in tmp_path.rglob("*") if home not in p.parents}
    report = import_archive(catalog, archive)
    assert {p for p in tmp_path.rglob("*") if home not in p.parents} == before
    assert not os.path.exists("/tmp/winnow-evil.png")  # noqa: PTH110
    assert not [p for p in home.rglob("*evil*") if "out" not in p.parts]
    assert report.images["cats"] == 1
    assert report.reasons["unsafe name"] >= len(HOSTILE) + 1


def test_a_zip_bomb_is_stopped_while_it_unpacks(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_FILE", 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cats/bomb.png", bytes(50_000_000))
        archive.writestr("cats/good.png", PHOTO)
    report = import_archive(Catalog(tmp_path / "data"), tmp_path / "bomb.zip")
    assert report.images["cats"] == 1 and report.reasons == {"too large": 1}


def test_a_name_that_comes_twice_does_not_overwrite(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("cats/a.png", PHOTO)
        with pytest.warns(UserWarning):
            archive.writestr("cats/a.png", CELLS[1].file.read_bytes())
    catalog = Catalog(tmp_path / "data")
    report = import_archive(catalog, tmp_path / "twice.zip")
    assert report.reasons == {"named twice": 1}
    assert catalog.file("cats/a.png").read_bytes() == PHOTO


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(BadArchive, match="is no zip or tar archive"):
        import_archive(Catalog(tmp_path / "data"), tmp_path / "page.zip")
    with pytest.raises(NoSuchSource):
        import_archive(Catalog(tmp_path / "data"), tmp_path / "none.zip")


def test_a_tar_that_breaks_off_gives_what_came_before(tmp_path, bears):
    archive = shutil.make_archive(tmp_path / "packed", "tar", tmp_path, "bears")
    os.truncate(archive, 60_000)
    report = import_archive(Catalog(tmp_path / "data"), archive)
    assert sum(report.images.values()) >= 1
    assert "damaged archive" in report.reasons or "damaged in the archive" in report.reasons


def test_a_wrong_checksum_unpacks_nothing(tmp_path, bears):
    archive = shutil.make_archive(tmp_path / "packed", "zip", tmp_path, "bears")
    catalog = Catalog(tmp_path / "data")
    with pytest.raises(ChangedArchive, match="nothing was unpacked"):
        import_archive(catalog, archive, sha256="0" * 64)
    assert catalog.photos() == []


@pytest.fixture
def served(tmp_path):
    """A folder on a local web server."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_archive_from_an_address_is_kept_and_its_change_noticed(tmp_path, bears, served):
    folder, address = served
    packed = shutil.make_archive(folder / "bears", "zip", tmp_path, "bears")
    digest = hashlib.sha256(open(packed, "rb").read()).hexdigest()  # noqa: PTH123, SIM115
    catalog = Catalog(tmp_path / "data")
    url = f"{address}/bears.zip"
    assert import_archive(catalog, url, sha256=digest).images == {"black": 3, "grizzly": 3}
    os.remove(packed)  # noqa: PTH107 - the second time, no network is needed
    assert import_archive(catalog, url).images == {"black": 3, "grizzly": 3}
    kept = next(catalog.cache.rglob("bears.zip"))
    kept.write_bytes(write_hostile_zip(tmp_path / "other.zip").read_bytes())
    with pytest.raises(ChangedArchive, match="not the file that was imported before"):
        import_archive(catalog, url)


def test_an_address_that_does_not_answer_is_one_sentence(tmp_path, served):
    _, address = served
    catalog = Catalog(tmp_path / "data")
    with pytest.raises(NoSuchSource, match="it said 404"):
        import_archive(catalog, f"{address}/none.zip")
    with pytest.raises(NoSuchSource, match="can't be reached"):
        import_archive(catalog, "http://127.0.0.1:9/none.zip")
