"""build_dataset.ipynb, run top to bottom by a real kernel."""

import shutil
from pathlib import Path

import nbformat
import pytest
from replica.engines import Engines
from replica.photos import colour_photos
from replica.server import Replica
from rich.console import Console

from winnow.catalog import Catalog
from winnow.collect.sample import read_cells
from winnow.notebooks import NotebookFailed, run_notebook

NOTEBOOK = Path(__file__).parents[1] / "build_dataset.ipynb"


def build(tmp_path, **parameters):
    """Run the notebook; returns the catalog that it left, its last "build" run, and the executed cells' text."""
    console = Console(quiet=True)
    parameters = {"DUPLICATES": False, **parameters}  # it has tests of its own; one here proves the cell
    executed = run_notebook(
        NOTEBOOK, {"DATA": str(tmp_path / "data"), **parameters}, runs=tmp_path / "runs", console=console
    )
    catalog = Catalog(tmp_path / "data")
    outputs = [out for cell in nbformat.read(executed, 4).cells for out in cell.get("outputs", [])]
    shown = "\n".join(out.get("text", "") or str(out.get("data", {})) for out in outputs)
    return catalog, next(run for run in catalog.runs()[::-1] if run.kind == "build"), shown


def test_the_sample_is_built_with_counts_sides_and_its_licence(tmp_path):
    catalog, run, shown = build(tmp_path, LIMIT=60)
    assert run.metrics["images"] == len(catalog.photos()) == 60
    assert sum(run.metrics["classes"].values()) == 60
    assert run.metrics["rejected"] == {} and run.metrics["seconds"] > 0
    assert {photo.split for photo in catalog.photos()} == {"train", "valid"}
    assert "CC BY-NC-SA 4.0" in shown and "data:image/jpeg" in shown


def test_a_folder_of_ones_own_is_built_in_place(tmp_path):
    folder = tmp_path / "data"
    for number, cell in enumerate(read_cells()[:12]):
        target = folder / ("odd" if number % 2 else "even") / f"my photo {number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.file, target)
    (folder / "odd" / "page.jpg").write_text("<html>")
    colour_photos()[0].save(folder / "even" / "temple.png")
    colour_photos()[0].resize((320, 214)).save(folder / "odd" / "small temple.jpg")
    catalog, run, shown = build(tmp_path, SOURCE="folder", FOLDER=str(folder), DUPLICATES=True)
    assert run.metrics["classes"] == {"even": 7, "odd": 7}
    assert run.metrics["duplicates"] >= run.metrics["conflicts"] >= 1
    assert {"even/temple.png", "odd/small temple.jpg"} <= {row.path for row in catalog.rows("conflict")}
    assert len({photo.split for photo in catalog.photos() if "temple" in photo.path}) == 1
    assert run.metrics["rejected"] == {"not an image": 1}
    assert catalog.photos()[0].path == "even/my photo 0.png"
    assert "not an image" in shown


def test_a_missing_folder_stops_the_notebook_with_one_sentence(tmp_path):
    with pytest.raises(NotebookFailed, match=r"There is no folder .*: set FOLDER"):
        build(tmp_path, SOURCE="folder", FOLDER=str(tmp_path / "none"))


def test_an_empty_class_folder_is_named_and_nothing_is_touched(tmp_path):
    folder = tmp_path / "data"
    for number, cell in enumerate(read_cells()[:4]):
        (folder / "full").mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.file, folder / "full" / f"{number}.png")
    (folder / "empty").mkdir()
    with pytest.raises(NotebookFailed, match="Class 'empty' has no image"):
        build(tmp_path, SOURCE="folder", FOLDER=str(folder))
    assert len(list((folder / "full").iterdir())) == 4 and (folder / "empty").is_dir()


@pytest.fixture
def engines_and_web():
    """Engines whose pictures lie on a web with faults: a third of what is found is no photo."""
    faults = ("photo", "photo", "rotated", "404", "html", "photo", "once503", "truncated", "placeholder")
    with Replica(6) as web:

        def address(query, number):
            return web.url(number + 1000 * len(query), faults[number % len(faults)])

        with Engines(address, each=36) as engines:
            yield engines, web


def test_a_search_is_built_with_every_address_accounted_for(tmp_path, engines_and_web):
    engines, web = engines_and_web
    catalog, run, shown = build(
        tmp_path,
        SOURCE="search",
        CLASSES=["bear", "teddy bear"],
        PER_CLASS=30,
        SEARCH=engines.options,
        DOWNLOAD={"allow_hosts": ["127.0.0.1"], "backoff": 0.05},
    )
    assert set(run.metrics["classes"]) == {"bear", "teddy bear"}
    assert all(count >= 15 for count in run.metrics["classes"].values())
    assert run.metrics["images"] + sum(run.metrics["rejected"].values()) == 60
    assert run.metrics["rejected"]["not found"] == 6 and run.metrics["rejected"]["not an image"] == 6
    assert {photo.origin["engine"] for photo in catalog.photos()} == {"duckduckgo"}
    assert "bear photo" in (catalog.folder / "DATASET.md").read_text()
    assert "why not the rest" in shown
    asked = web.requests.total()
    build(
        tmp_path, SOURCE="search", CLASSES=["bear", "teddy bear"], PER_CLASS=30, SEARCH=engines.options,
        DOWNLOAD={"allow_hosts": ["127.0.0.1"]},
    )  # fmt: skip
    assert web.requests.total() == asked  # run again, it fetches nothing twice


@pytest.mark.parametrize(
    "mode, sentence",
    [("blocked", "Blocked: No picture for"), ("offline", "Offline: No picture for .* no source")],
)
def test_a_search_that_fails_stops_with_a_sentence_that_says_which_way(
    tmp_path, engines_and_web, mode, sentence
):
    engines, _ = engines_and_web
    engines.mode.update(dict.fromkeys(engines.mode, mode))
    options = {**engines.options, **({"proxy": "http://127.0.0.1:9"} if mode == "offline" else {})}
    with pytest.raises(NotebookFailed, match=sentence):
        build(tmp_path, SOURCE="search", CLASSES=["bear"], SEARCH=options)
