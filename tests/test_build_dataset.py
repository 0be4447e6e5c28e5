"""build_dataset.ipynb, run top to bottom by a real kernel."""

import shutil
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from winnow.catalog import Catalog
from winnow.collect.sample import read_cells
from winnow.notebooks import NotebookFailed, run_notebook

NOTEBOOK = Path(__file__).parents[1] / "build_dataset.ipynb"


def build(tmp_path, **parameters):
    """Run the notebook; returns the catalog that it left, its last "build" run, and the executed cells' text."""
    console = Console(quiet=True)
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
    catalog, run, shown = build(tmp_path, SOURCE="folder", FOLDER=str(folder))
    assert run.metrics["classes"] == {"even": 6, "odd": 6}
    assert run.metrics["rejected"] == {"not an image": 1}
    assert catalog.photos()[0].path == "even/my photo 0.png"
    assert "not an image" in shown


def test_a_missing_folder_stops_the_notebook_with_one_sentence(tmp_path):
    with pytest.raises(NotebookFailed, match="There is no folder .*: set FOLDER"):
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
