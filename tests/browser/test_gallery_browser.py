"""The gallery in a real browser: what is unticked there is left out here."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from replica.server import Replica

from winnow.collect.found import Found
from winnow.collect.gallery import Gallery

CELLS = """
import json, pathlib
import ipywidgets
from winnow.collect.found import Found
from winnow.collect.gallery import Gallery

rows = [Found(**row) for row in json.loads(pathlib.Path({rows!r}).read_text())]
gallery = Gallery(rows)
heard = ipywidgets.Label("none")
def hear(change):
    heard.value = "left out: " + " ".join(row.title for row in gallery.unticked) + f"; {{len(gallery.ticked)}} stay"
gallery.observe(hear, "left_out")
display(gallery, heard)
"""


@pytest.fixture(scope="module")
def address(voila, tmp_path_factory):
    """A Voila page with 70 bears and 3 cats, whose thumbnails come from a replica; one has none."""
    folder = tmp_path_factory.mktemp("gallery")
    with Replica(2) as web:
        rows = [
            {"url": web.url(n), "label": "bear", "title": f"bear{n}", "page": "https://p"} for n in range(70)
        ]
        rows += [{"url": web.url(n), "label": "cat", "title": f"cat{n}"} for n in range(100, 103)]
        rows[1]["thumbnail"] = web.url(1, "404")
        rows[2]["title"] = "<img src=x onerror=alert(1)>"
        rows[3]["page"] = "javascript:alert(1)"
        (folder / "rows.json").write_text(json.dumps(rows))
        notebook = new_notebook(cells=[new_code_cell(CELLS.format(rows=str(folder / "rows.json")))])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / "gallery.ipynb")
        yield voila(folder / "gallery.ipynb")


@pytest.fixture
def opened(page, address):
    """A fresh visit."""
    page.goto(address)
    page.wait_for_selector(".winnow-gallery section")
    return page


def test_what_is_unticked_in_the_browser_is_left_out_in_python(opened):
    page = opened
    page.get_by_label("bear0", exact=True).uncheck()
    page.get_by_text("left out: bear0; 72 stay").wait_for()
    page.get_by_label("cat101", exact=True).uncheck()
    page.get_by_text("left out: bear0 cat101; 71 stay").wait_for()
    page.get_by_label("bear0", exact=True).check()
    page.get_by_text("left out: cat101; 72 stay").wait_for()
    assert "2 of 3 ticked" in page.locator("section", has_text="cat").last.inner_text()


def test_a_whole_class_is_unticked_at_once_with_what_is_not_shown_yet(opened):
    page = opened
    page.get_by_role("button", name="Untick all").first.click()
    page.get_by_text("; 3 stay").wait_for()
    assert page.locator(".wg-grid").first.locator("input").count() == 60
    page.get_by_role("button", name="Show 10 more of bear").click()
    assert page.locator(".wg-grid").first.locator("input:checked").count() == 0
    assert page.locator(".wg-grid").first.locator("input").count() == 70


def test_the_keyboard_is_enough(opened):
    page = opened
    page.get_by_role("button", name="Untick all").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.get_by_text("left out: bear1; 72 stay").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    page.get_by_text("left out: bear0 bear1; 71 stay").wait_for()


def test_thumbnails_are_shown_and_a_missing_one_says_so(opened):
    page = opened
    page.wait_for_function(
        "[...document.querySelectorAll('.winnow-gallery img')].filter(i => i.naturalWidth).length > 5"
    )
    page.get_by_text("no preview").wait_for()


def test_titles_and_links_from_the_web_are_only_text_and_only_web_links(opened):
    page = opened
    assert page.get_by_text("<img src=x onerror=alert(1)>").is_visible()
    assert page.locator('.winnow-gallery a[href^="javascript"]').count() == 0
    assert page.locator('.winnow-gallery img[src="x"]').count() == 0


def test_the_gallery_has_no_accessibility_fault(opened, axe):
    assert axe(opened, context=".winnow-gallery") == []


def test_rows_can_be_unticked_from_python_too():
    gallery = Gallery([Found(url=f"http://a/{n}", label="x") for n in range(3)], unticked=["http://a/2"])
    gallery.untick(["http://a/0"])
    assert [row.url for row in gallery.ticked] == ["http://a/1"]
    assert [row.url for row in gallery.unticked] == ["http://a/0", "http://a/2"]
