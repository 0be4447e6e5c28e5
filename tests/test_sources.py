"""The commands that bring photos in, as a person types them."""

import shutil

import pytest
from replica.server import Replica
from test_lists import write_files, write_table, write_tar
from typer.testing import CliRunner

from winnow.catalog import Catalog
from winnow.cli import app
from winnow.collect.archives import NoSuchSource
from winnow.collect.sample import read_cells
from winnow.collect.sources import import_any


@pytest.fixture
def bears(tmp_path):
    folder = tmp_path / "bears" / "grizzly"
    folder.mkdir(parents=True)
    for cell in read_cells()[:3]:
        shutil.copy(cell.file, folder)
    return folder.parent


def winnow(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_each_kind_of_source_is_known_by_what_it_is(tmp_path, bears):
    write_tar(tmp_path / "tars")
    write_files(tmp_path / "files")
    (tmp_path / "files" / "00000_stats.json").write_text("{}")
    archive = shutil.make_archive(tmp_path / "packed", "zip", tmp_path, "bears")
    for number, (source, label, count) in enumerate([
        (bears, "grizzly", 3), (archive, "grizzly", 3), (tmp_path / "tars", "cat", 3), (tmp_path / "files", "cat", 3)
    ]):  # fmt: skip
        assert import_any(Catalog(tmp_path / f"data{number}"), source).images == {label: count}
    with Replica(1) as web:
        table = write_table(tmp_path / "list.csv", [["url", "label"], [web.url(1), "cat"]])
        report = import_any(Catalog(tmp_path / "data5"), table, allow_hosts=("127.0.0.1",))
        assert report.images == {"cat": 1}
    with pytest.raises(NoSuchSource, match="There is nothing at"):
        import_any(Catalog(tmp_path / "data6"), tmp_path / "none")


def test_import_from_the_terminal(tmp_path, bears):
    assert "grizzly: 3 found, 3 in the catalog" in winnow("import", tmp_path / "data", bears)
    assert len(Catalog(tmp_path / "data")) == 3


def test_sample_and_card_from_the_terminal(tmp_path):
    assert "CC BY-NC-SA 4.0" in winnow("sample", tmp_path / "data", "--limit", 10)
    assert "DATASET.md" in winnow("card", tmp_path / "data")
    assert "10 photos in 2 classes" in (tmp_path / "data" / "DATASET.md").read_text()
