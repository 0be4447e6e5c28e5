"""Run a notebook without a browser: progress in the terminal, the executed copy under `runs/`."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


class NotebookFailed(Exception):
    """A cell of the notebook raised: the executed copy, kept in the run's folder, shows where and why."""


class NoSuchNotebook(Exception):
    """The path is not a notebook file that can be read."""


class UnknownParameter(Exception):
    """A parameter was given that the notebook's `parameters` cell doesn't set: most likely a typing error."""


def run_notebook(
    notebook: Path | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    runs: Path | str = "runs",
    console: Console | None = None,
) -> Path:
    """Execute `notebook` in its own folder with `parameters` and return the executed copy's path.

    Every run gets a new folder `runs/<name>-<time>/`, so none overwrites another; the copy is saved after
    each cell, so a run that is cut off leaves what it had done. A closed terminal doesn't end the run.
    Raises `NotebookFailed`, `NoSuchNotebook` or `UnknownParameter`.
    """
    notebook = Path(notebook)
    source = _read(notebook)
    _check_parameters(source, parameters or {}, notebook)
    nb = _with_parameters(source, dict(parameters or {}))
    folder = _new_folder(Path(runs), notebook.stem)
    executed = folder / notebook.name
    with _outliving_the_terminal(), _Reporter(notebook.name, nb, console or Console(), folder) as report:
        client = _Client(nb, report, executed, cwd=notebook.resolve().parent)
        try:
            client.execute()
        except (CellExecutionError, DeadKernelError) as error:
            raise NotebookFailed(_explain(notebook, executed, error)) from error
        finally:
            nbformat.write(nb, executed)
    return executed


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """Turn `NAME=VALUE` strings into values: numbers, booleans, None, lists."""
    import yaml

    split = [pair.split("=", 1) for pair in pairs]
    if bad := [pair[0] for pair in split if len(pair) == 1]:
        raise UnknownParameter(f"Write each parameter as NAME=VALUE; {bad[0]!r} has no value.")
    constants = {"None": None, "True": True, "False": False}
    return {
        name.strip(): constants[value] if value in constants else yaml.safe_load(value)
        for name, value in split
    }


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except FileNotFoundError:
        raise NoSuchNotebook(f"There is no notebook {notebook}: give the path of an .ipynb file.") from None
    except Exception as error:
        raise NoSuchNotebook(f"{notebook} is not a notebook that can be read: {error}.") from error


def _parameters_cell(nb: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    tagged = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    return tagged[0] if tagged else None


def _check_parameters(nb: nbformat.NotebookNode, parameters: Mapping[str, Any], notebook: Path) -> None:
    cell = _parameters_cell(nb)
    known = re.findall(r"^(\w+)\s*(?::[^=\n]+)?=", cell.source, flags=re.M) if cell else []
    if unknown := [name for name in parameters if name not in known]:
        choice = ", ".join(known) or "none"
        raise UnknownParameter(f"{notebook.name} has no parameter {unknown[0]}; it knows {choice}.")


def _with_parameters(nb: nbformat.NotebookNode, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    from papermill.parameterize import parameterize_notebook

    if not parameters:
        return nb
    nb.metadata.setdefault("papermill", {})
    for cell in nb.cells:  # papermill reads the tags of every cell, and most have none
        cell.metadata.setdefault("tags", [])
    return parameterize_notebook(nb, parameters, kernel_name="python3", language="python")


def _new_folder(runs: Path, name: str) -> Path:
    """A folder that no other run has: made exclusively, so that two runs in one second get two."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    runs.mkdir(parents=True, exist_ok=True)
    for count in range(1000):
        folder = runs / (f"{name}-{stamp}" + (f"-{count}" if count else ""))
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise FileExistsError(f"{runs} already has a thousand runs of {name} from this second.")


def _explain(notebook: Path, executed: Path, error: Exception) -> str:
    if isinstance(error, CellExecutionError):
        why = f"{error.ename}: {error.evalue}"
    else:
        why = "its kernel died, most often for want of memory"
    return f"{notebook.name} stopped: {why}. The executed copy is {executed}."


@contextlib.contextmanager
def _outliving_the_terminal():
    """Ignore the hang-up that a closing terminal sends; the kernel has a session of its own already."""
    try:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    except (ValueError, AttributeError):  # not the main thread, or Windows
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


class _Client(NotebookClient):
    """nbclient that tells a reporter of each cell and each printed line, and saves as it goes."""

    def __init__(self, nb: nbformat.NotebookNode, report: _Reporter, executed: Path, *, cwd: Path):
        super().__init__(
            nb,
            timeout=None,
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: its warnings aren't the notebook's
            resources={"metadata": {"path": str(cwd)}},
            on_cell_start=lambda cell, cell_index: report.start(cell_index),
            on_cell_executed=lambda cell, cell_index, execute_reply: nbformat.write(nb, executed),
        )
        self._report = report

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stdout":
            self._report.say(msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)


class _Reporter:
    """Progress on a terminal (section and time in a bar), plain lines elsewhere, a log always."""

    def __init__(self, name: str, nb: nbformat.NotebookNode, console: Console, folder: Path):
        self._sections = _sections(nb)
        self._console, self._name = console, name
        self._log = (folder / "log.txt").open("a", encoding="utf-8")
        self._section, self._began = "", time.monotonic()
        columns = [
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
        ]
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._task = self._progress.add_task(name, total=len(nb.cells))

    def __enter__(self) -> _Reporter:
        if self._console.is_terminal:
            self._progress.start()
        self._print(f"[bold]{self._name}[/bold]")
        return self

    def __exit__(self, *exc) -> None:
        self._end_section()
        with contextlib.suppress(OSError):
            self._progress.stop()
        self._log.close()

    def start(self, index: int) -> None:
        """Cell `index` begins; a new section ends the one before and shows its time."""
        section = self._sections[index]
        if section != self._section:
            self._end_section()
            self._section, self._began = section, time.monotonic()
        with contextlib.suppress(OSError):
            self._progress.update(self._task, completed=index, description=f"{self._name} · {section}")

    def say(self, text: str) -> None:
        """Show what a cell printed."""
        for line in filter(None, (part.rsplit("\r", 1)[-1].rstrip() for part in text.splitlines())):
            self._print(f"    {line}", markup=False)

    def _end_section(self) -> None:
        if self._section:
            self._print(f"  {self._section:<58} {time.monotonic() - self._began:6.1f} s", markup=False)

    def _print(self, text: str, *, markup: bool = True) -> None:
        self._log.write(re.sub(r"\[/?bold\]", "", text) + "\n")
        self._log.flush()
        with contextlib.suppress(OSError):  # the terminal is gone: the log goes on
            self._console.print(text, markup=markup, highlight=False)


def _sections(nb: nbformat.NotebookNode) -> list[str]:
    """For each cell, the heading that it stands under."""
    titles, current = [], ""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^#+\s+(.+)$", cell.source, flags=re.M)):
            current = heading.group(1).strip()
        titles.append(current)
    return titles
