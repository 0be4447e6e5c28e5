"""Each rule of tests/check_notebooks.py catches the notebook that breaks it."""

import copy

import pytest
from check_notebooks import check, clean

GOOD = {
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": "# Read /home/alice first"},
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": ["parameters"]},
            "outputs": [],
            "source": ["N = 1\n", "%time print(N)"],
        },
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["data/solar https://a.b/tmp/x\n"]}
            ],
            "source": "def f(x):\n    return x",
        },
    ],
    "metadata": {"kernelspec": {"name": "python3"}},
}


def broken(change):
    notebook = copy.deepcopy(GOOD)
    change(notebook, notebook["cells"][2])
    return list(check(notebook))


def show(cell, **output):
    cell["outputs"] = [{"output_type": "display_data", "data": output}]


def test_a_clean_notebook_has_no_fault():
    assert list(check(GOOD)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda nb, cell: cell.update(execution_count=3), "execution count"),
        (lambda nb, cell: nb["cells"][1]["metadata"].clear(), "0 cells tagged"),
        (lambda nb, cell: cell["metadata"].update(tags=["parameters"]), "2 cells tagged"),
        (lambda nb, cell: show(cell, **{"image/png": "A" * 200_001}), "outputs of 200 kB"),
        (lambda nb, cell: show(cell, **{"text/plain": ["saved to /tmp/abc/export.pkl"]}), "/tmp/abc"),
        (lambda nb, cell: show(cell, **{"text/html": "<b>/Users/bob/x</b>"}), "/Users/bob"),
        (lambda nb, cell: cell.update(source="def f():\n" + "    x = 1\n" * 8), "defines f()"),
        (lambda nb, cell: nb["metadata"]["kernelspec"].update(name="venv"), "'venv'"),
        (lambda nb, cell: nb["metadata"].update(widgets={}), "widgets"),
        (
            lambda nb, cell: cell.update(
                outputs=[{"output_type": "error", "ename": "KeyError", "traceback": []}]
            ),
            "KeyError",
        ),
    ],
)
def test_each_fault_is_named(change, said):
    faults = broken(change)
    assert len(faults) == 1 and said in faults[0]


def test_cleaning_drops_counts_and_widget_state_and_keeps_outputs_and_tags():
    notebook = copy.deepcopy(GOOD)
    notebook["metadata"]["widgets"] = {"state": {}}
    notebook["cells"][1].update(execution_count=1)
    notebook["cells"][1]["metadata"]["papermill"] = {"duration": 1}
    assert clean(notebook) == GOOD
