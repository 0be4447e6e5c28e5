"""Sweeps: probes first, the best fine-tuned, nothing finished is lost."""

import threading
import time

import nbformat
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from winnow.cli import app
from winnow.collect.sample import write_sample
from winnow.learn.sweep import (
    NoSplit,
    Recipe,
    Trial,
    make_recipes,
    plot_sweep,
    rank,
    run_trials,
    sweep,
    sweep_table,
)
from winnow.notebooks import run_notebook

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def catalog(tmp_path):
    catalog = write_sample(tmp_path / "cells", limit=60)
    catalog.split()
    return catalog


def test_every_combination_is_a_recipe():
    recipes = make_recipes([LITE0, "tf_efficientnet_lite1"], [128, 160, 192])
    assert len(set(recipes)) == 6 and {recipe.stage for recipe in recipes} == {"probe"}


def test_failures_come_last_and_the_quicker_of_equals_first():
    slow, quick, worse = (
        Trial(Recipe(size=s), e, e, t) for s, e, t in ((1, 0.1, 9), (2, 0.1, 3), (3, 0.2, 1))
    )
    failed = Trial(Recipe(size=4), reason="It has no memory left.")
    assert rank([failed, worse, slow, quick]) == [quick, slow, worse, failed]


def test_an_unknown_backbone_is_one_row_with_its_reason_and_the_rest_goes_on(catalog):
    trials = run_trials(catalog, make_recipes(["no_such_net", LITE0], [64]))
    assert "no_such_net" in trials[0].reason and trials[0].error is None
    assert trials[1].reason is None and 0 <= trials[1].error < 1
    assert trials[1].peak_mb > 50 and trials[1].seconds > 0
    table = sweep_table(trials)
    assert list(table["backbone"]) == [LITE0, "no_such_net"] and table["error"][0] == trials[1].error
    assert len(plot_sweep(trials).collections) >= 1


def test_a_size_or_method_that_cannot_be_is_a_row_with_its_reason_and_the_rest_goes_on(catalog):
    wrong = [Recipe(size=0), Recipe(size=64, method="squash")]
    trials = run_trials(catalog, [*wrong, Recipe(size=64)])
    assert all(trial.reason and trial.error is None for trial in trials[:2])
    assert trials[2].reason is None and 0 <= trials[2].error < 1


def test_a_finished_trial_is_not_run_again_until_a_label_changes(catalog):
    first = run_trials(catalog, [Recipe(size=64)])
    done = len(catalog.runs())
    assert run_trials(catalog, [Recipe(size=64)]) == first
    assert len(catalog.runs()) == done
    photo = catalog.photos(label="defective")[0]
    catalog.relabel(photo.path, "functional")
    catalog.apply()
    run_trials(catalog, [Recipe(size=64)])
    assert len(catalog.runs()) == done + 1


def test_the_best_probe_is_fine_tuned_and_the_other_is_not(catalog):
    trials = sweep(catalog, make_recipes([LITE0], [48, 64]), fine_tune_best=1, epochs=1)
    probes, tuned = ([t for t in trials if t.recipe.stage == stage] for stage in ("probe", "fine_tune"))
    assert len(probes) == 2 and [t.recipe.size for t in tuned] == [probes[0].recipe.size]
    assert tuned[0].reason is None and 0 <= tuned[0].error < 1
    kinds = [run.kind for run in catalog.runs()]
    assert kinds.count("sweep") == 3 and "fine_tune" not in kinds  # one row a trial, and none beside them


def test_the_command_prints_the_table_and_a_second_call_takes_it_from_the_journal(catalog):
    options = ["--backbone", LITE0, "--size", "48", "--best", "0"]
    printed = [CliRunner().invoke(app, ["sweep", str(catalog.folder), *options]) for _ in range(2)]
    assert [result.exit_code for result in printed] == [0, 0]
    assert "macro_f1" in printed[0].stdout and printed[0].stdout == printed[1].stdout
    assert len(catalog.runs()) == 1 + len([run for run in catalog.runs() if run.kind != "sweep"])


def test_a_dataset_without_validation_photos_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(NoSplit, match="split"):
        run_trials(write_sample(tmp_path / "cells", limit=8), [Recipe(size=64)])


def test_a_killed_process_costs_one_row_and_the_next_trial_runs(catalog):
    def kill_first_child():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for child in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(child.cmdline()):
                    return child.kill()

    recipes = [Recipe(size=64, seed=1), Recipe(size=64, seed=2)]
    killer = threading.Thread(target=kill_first_child)
    killer.start()
    trials = run_trials(catalog, recipes)
    killer.join()
    assert "killed" in trials[0].reason
    assert trials[1].reason is None
    again = run_trials(catalog, recipes)  # resumed: the lost one is run, the finished one taken
    assert again[0].reason is None and again[1] == trials[1]


def test_two_ray_nodes_give_the_same_table_though_a_worker_is_killed(catalog, ray_cluster):
    recipes = [Recipe(size=64, seed=seed) for seed in range(4)]
    trials = {}

    def collect(trial):
        if not trials:  # one is done: kill a worker that is in the middle of another
            kill_a_busy_ray_worker()
        trials[trial.recipe] = trial

    run_trials(catalog, recipes, ray_address=ray_cluster, report=collect)
    assert set(trials) == set(recipes)
    assert all(trial.reason is None for trial in trials.values())
    done = len(catalog.runs())
    run_trials(catalog, recipes, ray_address=ray_cluster)
    assert len(catalog.runs()) == done
    here = [Recipe(size=64, seed=seed) for seed in range(4)]
    fresh = run_trials(catalog, here[:1])
    assert fresh[0].error == trials[here[0]].error


def kill_a_busy_ray_worker():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            if "ray::run_trial" in " ".join(process.info["cmdline"] or []):
                process.kill()
                return
        time.sleep(0.02)
    raise AssertionError("no worker was busy")


def test_the_notebook_runs_top_to_bottom_and_takes_up_where_it_was(catalog, tmp_path):
    parameters = {"DATA": str(catalog.folder), "BACKBONES": [LITE0], "SIZES": [64, 96], "BEST": 0}
    for _ in range(2):
        executed = run_notebook(
            "sweep.ipynb", parameters, runs=tmp_path / "runs", console=Console(quiet=True)
        )
    text = "".join(str(cell.get("outputs")) for cell in nbformat.read(executed, 4).cells)
    assert text.count("probe") >= 2 and "image/png" in text
    assert len([run for run in catalog.runs() if run.kind == "sweep"]) == 2
