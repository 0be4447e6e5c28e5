"""The whole loop with the defaults, as `make demo` runs it: both notebooks on the sample, a table, an export."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from winnow.catalog import Catalog
from winnow.demo import NotACheckout, run_demo, summary_table
from winnow.share.prediction import load_predictor

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which the demo ran with every default, and what it printed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("build_dataset.ipynb", "train.ipynb", "app.ipynb"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "winnow.cli", "demo", "--no-serve"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout


def test_probe_and_fine_tuned_beat_the_majority_by_30_points_of_macro_f1(demo):
    folder, _ = demo
    last = {run.kind: run.metrics for run in Catalog(folder / "data" / "solar").runs()}
    floor = last["majority"]["macro_f1"] + 0.30
    assert last["probe"]["macro_f1"] >= floor
    assert last["fine_tune"]["macro_f1"] >= floor
    won = last["fine_tune"]["macro_f1"] > last["probe"]["macro_f1"]
    assert last["fine_tune"]["kept"] == ("fine-tuned" if won else "probe")


def test_the_table_names_images_classes_scores_suspects_and_seconds(demo):
    _, printed = demo
    for words in (
        "2624",
        "functional 1803",
        "rejected",
        "majority",
        "probe",
        "fine-tuned",
        "suspects",
        "seconds",
    ):
        assert words in printed


def test_the_export_answers_through_the_light_path_and_fits_a_repository(demo):
    folder, _ = demo
    assert (folder / "export.pkl").stat().st_size < 20e6
    predictor = load_predictor(folder / "export.pkl")
    catalog = Catalog(folder / "data" / "solar")
    photos = catalog.photos(split="valid")[::10]
    answers = predictor.predict([catalog.file(photo.path) for photo in photos])
    right = sum(answer.label == photo.label for answer, photo in zip(answers, photos, strict=True))
    assert predictor.light and right / len(photos) > 0.6


def test_the_committed_notebooks_stay_as_they_were(demo):
    folder, _ = demo
    for name in ("build_dataset.ipynb", "train.ipynb"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()


def test_outside_a_clone_the_demo_says_where_to_go(tmp_path):
    with pytest.raises(NotACheckout, match="clone"):
        run_demo(tmp_path)


def test_a_catalog_without_runs_gives_an_empty_table(tmp_path, cell_photos):
    console = Console(record=True, width=80)
    console.print(summary_table(Catalog(shutil.copytree(cell_photos, tmp_path / "cells"))))
    assert "cells" in console.export_text()
