"""train.ipynb, run top to bottom as a person would: on a few photos, and with its defaults on the whole sample."""

import shutil
from pathlib import Path

import papermill
import pytest

from winnow.catalog import Catalog
from winnow.collect.sample import write_sample

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "train.ipynb"


def run(folder, **parameters):
    """Execute a copy of the notebook in `folder`; the catalog's last run of each kind."""
    shutil.copy(NOTEBOOK, folder / "train.ipynb")
    data = folder / parameters.get("DATA", "data/solar")
    papermill.execute_notebook(
        folder / "train.ipynb",
        folder / "done.ipynb",
        parameters,
        cwd=folder,
        progress_bar=False,
        kernel_name="python3",
    )
    return {run.kind: run for run in Catalog(data).runs()}


@pytest.mark.slow
def test_every_section_runs_on_a_few_photos_and_what_it_did_is_written_down(tmp_path):
    write_sample(tmp_path / "cells", limit=120).split()
    few = {"DATA": "cells", "SIZE": 64, "EPOCHS": 1, "BATCH_SIZE": 16, "SUSPECTS_AT": [64], "WEIGHTED": True}
    techniques = ["spread", "reliability", "lr", "tta", "ensemble", "sizes", "targets", "floor"]
    runs = run(tmp_path, **few, TECHNIQUES=techniques)
    assert {"majority", "probe", "fine_tune", "suspects", "export"} <= runs.keys()
    assert (tmp_path / "export.pkl").stat().st_size < 20e6 and (tmp_path / "export.onnx").exists()
    shown = (tmp_path / "done.ipynb").read_text()
    assert (
        "runs)" in shown
        and "asked several times: accuracy" in shown
        and "GFLOP" in shown
        and "stack" in shown
    )
    assert runs["fine_tune"].metrics["kept"] in ("probe", "fine-tuned")
    assert runs["export"].metrics["parity"] < 1e-3 and runs["suspects"].metrics["ranked"] >= 120


@pytest.mark.slow
def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match=r"nowhere is not a folder: check the path"):
        run(tmp_path, DATA="nowhere")
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "export.pkl").exists()
