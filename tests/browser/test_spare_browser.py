"""The Voila app whose kernel is gone: the page's model, fetched in the background, goes on answering."""

import re

import psutil
import pytest
from playwright.sync_api import expect

from winnow.share.page import write_page
from winnow.share.page_files import modules
from winnow.share.prediction import load_predictor
from winnow.share.spare import ENGINE, WORKER, NoPage, Spare

APP = """from winnow.share.photo_app import photo_app
photo_app({export!r}, page={site!r})"""


@pytest.fixture(scope="module")
def site(trained_export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spare") / "site"
    write_page(trained_export, folder)
    return folder


def test_answers_keep_coming_when_the_kernel_is_gone(
    page, voila, write_notebook, trained_export, site, cell_photos
):
    first, second = sorted(cell_photos.rglob("*.png"))[:2]
    page.goto(voila(write_notebook(APP.format(export=str(trained_export), site=str(site)))))
    page.locator("input[type=file]").set_input_files(str(first))
    expect(page.locator(".card .verdict")).to_have_count(1, timeout=60_000)
    page.locator("[data-spare=ready]").wait_for(timeout=120_000)
    mine = psutil.Process().children(recursive=True)
    kernels = [p for p in mine if "ipykernel_launcher" in " ".join(p.cmdline())]
    max(kernels, key=lambda p: p.create_time()).kill()
    page.wait_for_timeout(500)
    page.locator("input[type=file]").set_input_files(str(second))
    expect(page.locator(".card .verdict")).to_have_count(2, timeout=120_000)
    expect(page.locator(".notice")).to_have_text(re.compile("gone to sleep.*answered in this browser"))
    wanted = load_predictor(trained_export).predict([second])[0]
    expect(page.locator(".card .verdict strong").nth(1)).to_have_text(wanted.label)


def test_every_module_that_the_spare_needs_is_handed_over():
    assert {f"{name}.js" for name in ENGINE} == set(modules(["engine_browser.js"]))
    assert {f"{name}.js" for name in WORKER} == set(modules(["worker.js"]))


def test_a_page_of_another_model_is_refused(site, tmp_path):
    with pytest.raises(NoPage, match="another model"):
        Spare(site, digest="0" * 64)
    with pytest.raises(NoPage, match="holds no page"):
        Spare(tmp_path, digest="0" * 64)


def test_only_the_pages_own_files_are_handed_out(site, trained_export):
    (site.parent / "secret.txt").write_text("secret")
    spare = Spare(site, digest=load_predictor(trained_export).digest)
    for name in ("../secret.txt", "/etc/passwd", "index.html", ""):
        with pytest.raises(NoPage):
            spare.part(name, 0)


def test_the_parts_of_a_file_make_the_file(site, trained_export):
    spare = Spare(site, digest=load_predictor(trained_export).digest)
    whole, size = b"", 1
    while len(whole) < size:
        part, size = spare.part("runtime.bin", len(whole))
        whole += part
    assert whole == (site / "runtime.bin").read_bytes()
