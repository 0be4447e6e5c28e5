"""One browser and one Voila per notebook for the whole session; every test gets a page with no past.

    def test_the_app_opens(page, voila):
        page.goto(voila(notebook_path))

`page.errors` holds what the page wrote as console errors and uncaught exceptions.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/, for install_browser

from install_browser import ARGUMENTS, find_browser

ROOT = Path(__file__).parents[2]


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
    servers: dict[tuple, tuple[subprocess.Popen, str]] = {}

    def serve(notebook, *, cwd=None, env=None):
        notebook = Path(notebook).resolve()
        key = (notebook, notebook.stat().st_mtime_ns, str(cwd), tuple(sorted((env or {}).items())))
        if key not in servers:
            servers[key] = start_voila(notebook, cwd or notebook.parent, env or {})
        return servers[key][1]

    yield serve
    for process, _ in servers.values():
        stop(process)


def start_voila(notebook: Path, cwd: Path, env: dict[str, str]) -> tuple[subprocess.Popen, str]:
    port = free_port()
    command = [
        *(sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}"),
        *("--Voila.ip=127.0.0.1", "--Voila.port_retries=0", f"--Voila.config_file_paths={[str(ROOT)]}"),
    ]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until_up(url + "voila/static/voila.js", process)
    except BaseException:
        stop(process)
        raise
    drain(process)
    return process, url


def wait_until_up(url: str, process: subprocess.Popen, *, seconds: float = 60) -> None:
    """Wait for a first answer; a server that ended says why."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with {process.returncode}:\n{process.stderr.read()}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer within {seconds} s.")


def drain(process: subprocess.Popen) -> None:
    """Keep reading the log, or a full pipe would block the server; a failing test prints it."""
    import threading

    def copy():
        for line in process.stderr:
            sys.stderr.write(line)

    threading.Thread(target=copy, daemon=True).start()


def stop(process: subprocess.Popen) -> None:
    """End the server; its kernels end with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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
