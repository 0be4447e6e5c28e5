"""The cleaner under a real Voila in a real browser, on photos of solar cells."""

import shutil

import pytest

from winnow.catalog import Catalog
from winnow.collect.sample import write_sample

NOTEBOOK = """
import os
from pathlib import Path
from winnow.catalog import Catalog
from winnow.clean.cleaner import ImageClassifierCleaner
from winnow.clean.suspects import Suspect

catalog = Catalog(os.environ["WINNOW_TEST_DATA"])
other = {"functional": "defective", "defective": "functional"}
rows = [
    Suspect(p.path, p.label, other[p.label], 0.95 - i / 100, 0.95 - i / 100, "label", "looks *different*", [])
    for i, p in enumerate(catalog.photos())
]
cleaner = ImageClassifierCleaner(catalog, suspects=rows, by="test")
cleaner
"""


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Forty solar cells with a frozen split; written once, copied for each test."""
    folder = tmp_path_factory.mktemp("sample") / "solar"
    write_sample(folder, limit=40).split()
    return folder


@pytest.fixture(scope="session")
def served(sample, tmp_path_factory):
    """The folder that the served notebook opens; each test puts fresh photos there."""
    return tmp_path_factory.mktemp("cleaner") / "data"


@pytest.fixture(scope="session")
def notebook(tmp_path_factory):
    from nbformat import write
    from nbformat.v4 import new_code_cell, new_notebook

    nb = new_notebook(cells=[new_code_cell(NOTEBOOK)])
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path_factory.mktemp("cleaner-notebook") / "cleaner.ipynb"
    write(nb, path)
    return path


@pytest.fixture
def folder(sample, served):
    shutil.rmtree(served, ignore_errors=True)
    shutil.copytree(sample, served)
    return served


@pytest.fixture
def cleaner(page, voila, notebook, folder):
    """A page with the cleaner open on a fresh copy of the sample."""
    open_cleaner(page, voila, notebook, folder)
    return page


def open_cleaner(page, voila, notebook, folder):
    page.goto(voila(notebook, env={"WINNOW_TEST_DATA": str(folder)}))
    page.locator(".wc-row img").first.wait_for()
    page.get_by_role("listbox").focus()


def decided(page, text):
    """Wait until a row of the list says `text`."""
    page.locator(".wc-row", has_text=text).first.wait_for()


def choices(folder):
    """What the journal holds, by file name."""
    return {path: (d.kind, d.after) for path, d in Catalog(folder).pending().items()}


def current(page):
    return page.locator(".wc-path").inner_text().split(" · ")[0]


def test_choices_survive_the_menus_and_apply_moves_the_files(cleaner, folder):
    page = cleaner
    relabelled = current(page)
    page.get_by_role("button", name="Accept: functional").click()
    decided(page, "now functional")
    removed = current(page)
    page.keyboard.press("x")
    decided(page, "removed")
    page.get_by_label("Class").select_option("functional")
    page.locator(".wc-row", has_text="defective").first.wait_for()
    page.get_by_label("Split").select_option("Valid")
    page.get_by_label("Split").select_option("All")
    page.get_by_label("Class").select_option("defective")
    decided(page, "now functional")
    decided(page, "removed")
    assert choices(folder) == {relabelled: ("relabel", "functional"), removed: ("remove", None)}
    assert (folder / relabelled).exists() and (folder / removed).exists()
    page.get_by_role("button", name="Apply 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Apply", exact=True).click()
    page.get_by_text("Applied: 1 photo relabelled, 1 removed.").wait_for()
    assert (folder / relabelled.replace("defective/", "functional/")).exists()
    assert (folder / ".removed" / removed).exists()
    assert not (folder / relabelled).exists() and not (folder / removed).exists()
