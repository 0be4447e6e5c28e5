"""Runs in the catalog, and in Weights & Biases when asked."""

import time

import matplotlib
import pytest

from winnow.collect.sample import write_sample
from winnow.learn.tracking import NoRuns, environment, plot_runs, runs_table, track

matplotlib.use("Agg")


@pytest.fixture
def catalog(tmp_path):
    return write_sample(tmp_path / "cells", limit=8)


def test_a_run_keeps_its_parameters_metrics_and_environment(catalog):
    number = track(catalog, "probe", {"size": 192}, {"macro_f1": 0.8})
    (run,) = [run for run in catalog.runs() if run.id == number]
    assert (run.kind, run.params["size"], run.metrics["macro_f1"]) == ("probe", 192, 0.8)
    assert run.params["environment"] == environment()
    assert run.params["environment"]["torch"] and run.params["environment"]["python"].startswith("3.")


def test_runs_are_listed_one_row_each_with_parameters_beside_metrics(catalog):
    for size, score in ((128, 0.7), (192, 0.8)):
        track(catalog, "probe", {"size": size}, {"macro_f1": score})
    track(catalog, "fine_tune", {"size": 192}, {"macro_f1": 0.9})
    table = runs_table(catalog, kind="probe")
    assert list(table["size"]) == [128, 192] and list(table["macro_f1"]) == [0.7, 0.8]
    assert len(runs_table(catalog)) == len(catalog.runs())


def test_a_metric_is_plotted_with_one_line_for_each_kind(catalog):
    for kind in ("probe", "probe", "fine_tune"):
        track(catalog, kind, {}, {"macro_f1": 0.5})
    ax = plot_runs(catalog)
    assert [len(line.get_xdata()) for line in ax.lines] == [2, 1]
    with pytest.raises(NoRuns, match="recall"):
        plot_runs(catalog, "recall")


def test_one_parameter_sends_the_run_to_weights_and_biases(catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    track(catalog, "probe", {"size": 192}, {"macro_f1": 0.8}, wandb="winnow-test")
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    wait_for(lambda: b"macro_f1" in written.read_bytes())  # wandb's own service writes it behind us
    assert b"winnow-test" in written.read_bytes()


def wait_for(condition, *, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
