"""One browser and one Voila per notebook for the whole session; every test gets a page with no past.

    def test_the_app_opens(page, voila):
        page.goto(voila(notebook_path))

`page.errors` holds what the page wrote as console errors and uncaught exceptions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/

from install_browser import ARGUMENTS, find_browser
from servers import start_voila, start_winnow, stop


@pytest.fixture(scope="session")
def browser():
    """The installed Chrome or Chromium, headless. A machine without one fails: nothing is skipped."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    assert path, "No browser: run `python tests/install_browser.py`."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    """`new_page(**options)`: a page in a context of its own (another visitor); closed after the test."""
    contexts = []

    def make(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on(
            "console", lambda message: (message.type == "error" and page.errors.append(message.text)) or None
        )
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page):
    return new_page(viewport={"width": 1100, "height": 900})


@pytest.fixture(scope="session")
def voila():
    """`voila(notebook, cwd=None, env=None)` gives the URL of a real Voila that serves just this notebook.

    A second call for the same notebook and `cwd` reuses the server; each visit still gets its own kernel.
    The repository's voila.json applies.
    """
    servers: dict[tuple, tuple] = {}

    def serve(notebook, *, cwd=None, env=None):
        notebook = Path(notebook).resolve()
        key = (notebook, notebook.stat().st_mtime_ns, str(cwd), tuple(sorted((env or {}).items())))
        if key not in servers:
            servers[key] = start_voila(notebook, cwd or notebook.parent, env or {})
        return servers[key][1]

    yield serve
    for process, _ in servers.values():
        stop(process)


@pytest.fixture
def winnow_serve():
    """`winnow_serve(notebook, "--max-visitors=2", …)` gives the URL of a `winnow serve` for this test alone."""
    processes = []

    def serve(notebook, *options, env=None):
        process, url = start_winnow(notebook, *options, env=env)
        processes.append(process)
        return url

    yield serve
    for process in processes:
        stop(process)


@pytest.fixture
def write_notebook(tmp_path):
    """`write_notebook("source", …)` writes a notebook of code cells and returns its path."""

    def write(*sources, name="notebook.ipynb"):
        nb = new_notebook(cells=[new_code_cell(source) for source in sources])
        nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nb, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def axe():
    """`axe(page)` gives the page's serious and critical accessibility faults as readable lines."""
    from axe_playwright_python.sync_playwright import Axe

    def faults(page, **options):
        found = Axe().run(page, **options).response["violations"]
        return [
            f"{fault['id']} ({fault['impact']}): {fault['help']} at {node['target']}: {node['html'][:200]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    return faults
