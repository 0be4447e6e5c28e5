"""Running notebooks without a browser."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console

from winnow.notebooks import NoSuchNotebook, NotebookFailed, UnknownParameter, parse_parameters, run_notebook


def write_notebook(path, *sources):
    cells = [new_markdown_cell("# Count"), new_code_cell("N = 2", metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells + [new_code_cell(source) for source in sources]), path)
    return path


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """One run with N=3 and what it printed."""
    folder = tmp_path_factory.mktemp("counted")
    notebook = write_notebook(folder / "count.ipynb", "print(sum(range(N + 1)))")
    console = Console(record=True, width=100)
    executed = run_notebook(notebook, {"N": 3}, runs=folder / "runs", console=console)
    return notebook, executed, console.export_text()


def test_a_parameter_reaches_the_notebook_and_the_copy_holds_the_answer(counted):
    _, executed, _ = counted
    outputs = [out for cell in nbformat.read(executed, 4).cells for out in cell.get("outputs", [])]
    assert outputs[0]["text"] == "6\n"


def test_progress_shows_the_section_and_what_a_cell_printed(counted):
    _, executed, printed = counted
    assert "Count" in printed and "6" in printed
    assert "Count" in (executed.parent / "log.txt").read_text()


def test_the_notebook_itself_stays_as_it_was(counted):
    notebook, _, _ = counted
    assert all(not cell.get("outputs") for cell in nbformat.read(notebook, 4).cells)


def test_a_second_run_does_not_overwrite_the_first(counted):
    notebook, executed, _ = counted
    before = executed.read_bytes()
    again = run_notebook(notebook, {"N": 4}, runs=executed.parent.parent, console=Console(quiet=True))
    assert again != executed
    assert executed.read_bytes() == before


def test_a_failing_cell_ends_the_command_with_one_sentence_and_keeps_the_copy(tmp_path):
    notebook = write_notebook(tmp_path / "bad.ipynb", "1 / 0")
    with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
        run_notebook(notebook, runs=tmp_path / "runs", console=Console(quiet=True))
    done = subprocess.run(
        [sys.executable, "-m", "winnow.cli", "run", str(notebook)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "Traceback" not in done.stderr
    assert len(list((tmp_path / "runs").glob("bad-*/bad.ipynb"))) == 2


def test_an_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    notebook = write_notebook(tmp_path / "count.ipynb")
    with pytest.raises(UnknownParameter, match="no parameter EPOCH; it knows N"):
        run_notebook(notebook, {"EPOCH": 1}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_missing_or_foreign_notebook_is_one_sentence(tmp_path):
    with pytest.raises(NoSuchNotebook, match="There is no notebook"):
        run_notebook(tmp_path / "none.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(NoSuchNotebook, match="not a notebook"):
        run_notebook(tmp_path / "text.ipynb")


def test_values_are_read_as_python_writes_them():
    pairs = ["EPOCHS=12", "LR=0.001", "WEIGHTED=True", "LIMIT=None", "SOURCE=folder", "SIZES=[128, 160]"]
    values = parse_parameters(pairs)
    assert list(values.values()) == [12, 0.001, True, None, "folder", [128, 160]]


def test_a_run_outlives_a_closed_terminal(tmp_path):
    """The hang-up signal that a closing terminal sends, while a cell is running."""
    notebook = write_notebook(
        tmp_path / "long.ipynb",
        "open('started', 'w').close()\nimport time\ntime.sleep(1.5)",
        "open('ended', 'w').close()",
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "winnow.cli", "run", str(notebook)], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGHUP)
    assert run.wait(timeout=60) == 0
    assert (tmp_path / "ended").exists()
