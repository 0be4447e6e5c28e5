"""The cleaner under a real Voila in a real browser, on photos of solar cells."""

import shutil
import sys

import pytest
from playwright.sync_api import expect
from servers import free_port, start, stop

from winnow.catalog import Catalog
from winnow.collect.sample import write_sample
from winnow.share.feedback import FeedbackBox
from winnow.share.prediction import Prediction

NOTEBOOK = """
import os
from pathlib import Path
from winnow.catalog import Catalog
from winnow.clean.cleaner import ImageClassifierCleaner
from winnow.clean.suspects import Suspect

catalog = Catalog(Path(os.environ["WINNOW_TEST_DATA"]).read_text())
other = {"functional": "defective", "defective": "functional"}
rows = [
    Suspect(p.path, p.label, other[p.label], 0.955 - i / 100, 0.955 - i / 100, "label", "looks *different*", [])
    for i, p in enumerate(catalog.photos())
]
cleaner = ImageClassifierCleaner(catalog, suspects=rows, by="test")
cleaner
"""


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Seventy solar cells (more than a page of rows) with a frozen split; written once, copied for each test."""
    folder = tmp_path_factory.mktemp("sample") / "solar"
    write_sample(folder, limit=70).split()
    return folder


@pytest.fixture(scope="session")
def pointer(tmp_path_factory):
    """A file that tells the one served notebook which folder to open; each test writes its own there."""
    return tmp_path_factory.mktemp("cleaner") / "folder.txt"


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
def folder(sample, pointer, tmp_path):
    shutil.copytree(sample, tmp_path / "solar")
    pointer.write_text(str(tmp_path / "solar"))
    return tmp_path / "solar"


@pytest.fixture
def open_cleaner(voila, notebook, pointer):
    """`open_cleaner(page)`: the served notebook with its cleaner, on this test's photos."""

    def go(page):
        page.goto(voila(notebook, env={"WINNOW_TEST_DATA": str(pointer)}))
        page.locator(".wc-row img").first.wait_for(timeout=90_000)
        page.get_by_role("listbox").focus()

    return go


@pytest.fixture
def cleaner(page, folder, open_cleaner):
    open_cleaner(page)
    return page


def decided(page, text):
    """Wait until a row says `text` and the kernel has confirmed that it is written."""
    page.locator(".wc-row .wc-chip:not(.wc-on-its-way)", has_text=text).first.wait_for()


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


def test_every_choice_has_a_key_and_undo_takes_each_back(cleaner, folder):
    page, press = cleaner, cleaner.keyboard.press
    first = current(page)
    press("Enter")
    decided(page, "now functional")
    second = current(page)
    press("k")
    decided(page, "kept")
    third = current(page)
    press("Delete")
    decided(page, "removed")
    press("End")
    last = current(page)
    press("1")
    decided(page, "now defective")
    assert choices(folder) == {
        first: ("relabel", "functional"),
        second: ("keep", None),
        third: ("remove", None),
        last: ("relabel", "defective"),
    }
    for _ in range(4):
        press("u")
    page.get_by_text(f"Took back: {first.split('/')[1]} now functional.").wait_for()
    assert current(page) == first and choices(folder) == {}
    page.locator(".wc-chip").wait_for(state="detached")
    press("u")
    page.get_by_text("Nothing to take back.").wait_for()


def test_keys_reach_windows_and_escape_leaves_them(cleaner):
    page, press = cleaner, cleaner.keyboard.press
    for key, title in (
        ("?", "Keys"),
        ("h", "History"),
        ("t", "Accept suggestions above a threshold"),
        ("l", "Choose a label"),
    ):
        press(key)
        page.get_by_role("dialog", name=title).wait_for()
        press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    press("f")
    page.locator(".wc-full img").wait_for()
    press("Escape")
    press("g")
    page.locator(".wc-as-grid").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "listbox"


def test_several_photos_are_chosen_in_the_grid_and_decided_at_once(cleaner, folder):
    page, press = cleaner, cleaner.keyboard.press
    press("g")
    press("]")
    press("]")
    counts = {label: len(Catalog(folder).photos(label=label)) for label in ("defective", "functional")}
    page.get_by_role("button", name=f"functional {counts['functional']}", pressed=True).wait_for()
    press("[")
    page.locator(f".wc-row[aria-setsize='{counts['defective']}'] img").first.wait_for()
    for _ in range(3):
        press("Shift+ArrowRight")
    page.get_by_text("4 photos selected").wait_for()
    page.get_by_role("group", name="Selected photos").get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Apply 4").wait_for()
    assert [choice for choice, _ in choices(folder).values()] == ["remove"] * 4
    page.get_by_role("listbox").focus()
    press("u")
    page.get_by_text("Took back: 4 choices.").wait_for()
    assert choices(folder) == {}


def test_ctrl_a_selects_photos_that_were_not_on_the_screen_yet(cleaner, folder):
    page = cleaner
    assert page.locator(".wc-row").count() < 40
    page.keyboard.press("Control+a")
    page.get_by_text("70 photos selected").wait_for()
    page.keyboard.press("k")
    page.get_by_role("button", name="Apply 70").wait_for()
    assert len(choices(folder)) == 70
    page.keyboard.press("Control+z")
    page.get_by_text("Took back: 70 choices.").wait_for()


@pytest.fixture
def visitors_photo(folder, tmp_path):
    """A photo whose label a visitor of the app corrected, waiting in the catalog before the cleaner opens."""
    catalog, box = Catalog(folder), FeedbackBox(tmp_path / "box")
    file = catalog.file(catalog.photos(label="defective")[0].path)
    answer = Prediction("functional", {"functional": 0.8, "defective": 0.2})
    box.add(file.read_bytes(), label="defective", answer=answer)
    box.import_into(catalog)
    return catalog


def test_a_visitors_photo_is_seen_and_joins_its_class_by_one_key(visitors_photo, cleaner):
    page = cleaner
    page.get_by_label("Suspected").select_option("feedback")
    expect(page.locator(".wc-headline")).to_have_text("The app said functional, a visitor says defective")
    expect(page.locator(".wc-photo img")).to_be_visible()
    page.get_by_role("listbox").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".wc-headline")).to_contain_text("defective")
    expect(page.locator(".wc-row .wc-chip:not(.wc-on-its-way)")).to_contain_text("defective")
    added = [p for p in visitors_photo.photos() if p.origin.get("engine") == "feedback"]
    assert [p.label for p in added] == ["defective"]
    page.keyboard.press("u")
    expect(page.get_by_text("like any photo")).to_be_visible()


def test_accept_all_shows_what_it_will_do_and_one_undo_takes_it_back(cleaner, folder):
    page = cleaner
    page.keyboard.press("t")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Accept 6 suggestions").wait_for()
    assert dialog.locator("li").count() == 6
    dialog.get_by_role("button", name="Accept 6 suggestions").click()
    page.get_by_role("button", name="Apply 6").wait_for()
    assert all("at least 90%" in d.why for d in Catalog(folder).pending().values())
    page.keyboard.press("h")
    page.locator(".wc-history tbody tr").nth(5).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("listbox").focus()
    page.keyboard.press("u")
    page.get_by_text("Took back: 6 choices.").wait_for()


def test_two_people_see_each_others_choices_and_a_new_kernel_finds_them(
    cleaner, new_page, open_cleaner, folder
):
    ann, bob = cleaner, new_page(viewport={"width": 1100, "height": 900})
    open_cleaner(bob)
    path = current(ann)
    ann.keyboard.press("x")
    decided(ann, "removed")
    bob.get_by_text("Somebody else decided on 1 photo.").wait_for(timeout=10_000)
    decided(bob, "removed")
    ann.close()  # the tab and, with it, the kernel
    bob.reload()
    decided(bob, "removed")
    assert choices(folder) == {path: ("remove", None)}


def test_axe_finds_no_serious_fault_light_or_dark_wide_or_narrow(cleaner, axe):
    page = cleaner
    page.emulate_media(reduced_motion="reduce")  # else axe may measure a colour that is half faded
    page.keyboard.press("x")
    decided(page, "removed")
    for light in ("true", "false"):
        page.evaluate(f"document.body.dataset.jpThemeLight = '{light}'")
        page.locator(f"[data-theme={'light' if light == 'true' else 'dark'}]").wait_for()
        for key in ("", "g", "h", "t", "?", "l"):
            press_and_check(page, axe, key)
    page.set_viewport_size({"width": 360, "height": 780})
    press_and_check(page, axe, "")
    page.locator(".wc-row").first.wait_for()
    assert page.evaluate("document.querySelector('.winnow-cleaner').scrollWidth") <= 360


def press_and_check(page, axe, key):
    """Press a key, wait until what it opens stands still, ask axe, and go back."""
    if key:
        page.keyboard.press(key)
        page.wait_for_timeout(150)
    assert axe(page, context=".winnow-cleaner") == []
    page.keyboard.press("g" if key == "g" else "Escape")


@pytest.fixture(params=["jupyterlab", "notebook"])
def lab(notebook, folder, pointer, tmp_path, request):
    """The address of the notebook in a real JupyterLab or Notebook 7 that keeps its settings in this test's folder."""
    work, port = tmp_path / "work", free_port()
    work.mkdir()
    shutil.copy(notebook, work)
    url = f"http://127.0.0.1:{port}/"
    command = [
        *(sys.executable, "-m", request.param, "--no-browser", "--allow-root", f"--port={port}"),
        *("--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={work}"),
    ]
    names = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTER_DATA_DIR")
    env = {name: str(tmp_path / name.lower()) for name in names}
    process, _ = start(command, url, "api", work, env | {"WINNOW_TEST_DATA": str(pointer)})
    yield url + {"jupyterlab": "lab/tree/", "notebook": "notebooks/"}[request.param] + notebook.name
    stop(process)


def run_first_cell(page):
    """JupyterLab drops a cell that is run before its kernel is connected, and calls it idle already: ask again."""
    prompt = page.locator(".jp-Cell .jp-InputPrompt").first
    for _ in range(20):
        page.locator(".jp-Cell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(1000)
        if prompt.inner_text() != "[ ]:":
            return


def test_keys_decide_in_jupyterlab_and_notebook_7_and_leave_their_cells_alone(page, lab, folder):
    page.goto(lab)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=90_000)
    run_first_cell(page)
    page.locator(".wc-row img").first.wait_for(timeout=60_000)
    cells = page.locator(".jp-Cell").count()
    page.get_by_role("listbox").focus()
    for key in "xkdda":  # in JupyterLab's command mode: cut, up, delete, insert above
        page.keyboard.press(key)
    page.get_by_role("button", name="Apply 3").wait_for()
    assert page.locator(".jp-Cell").count() == cells
    assert sorted(kind for kind, _ in choices(folder).values()) == ["keep", "relabel", "remove"]
