"""`winnow serve` in real browsers: the app works behind every lock, and the line moves by itself."""

import shutil
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def served_app(trained_export, tmp_path):
    """app.ipynb as it is in the repository, with an export beside it."""
    for file in (trained_export, trained_export.with_suffix(".onnx"), ROOT / "app.ipynb"):
        shutil.copy(file, tmp_path)
    return tmp_path / "app.ipynb"


def open_app(page, url):
    page.goto(url)
    page.locator("input[type=file]").first.wait_for(state="attached", timeout=30000)


def classify(page, *photos):
    """Send photos; the texts of the verdicts."""
    page.locator("input[type=file]").first.set_input_files([str(photo) for photo in photos])
    page.wait_for_function(
        "n => document.querySelectorAll('.card:is([data-state=answered],[data-state=failed])').length >= n",
        arg=len(photos),
    )
    return [card.inner_text() for card in page.locator(".card").all()]


def visitors(url):
    return httpx.get(url + "health").json()["visitors"]


def wait_until(condition, seconds=15):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.2)
    return condition()


def test_the_app_answers_photos_and_talks_to_no_other_server(page, winnow_serve, served_app, cell_photos):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    url = winnow_serve(served_app)
    open_app(page, url)
    photos = sorted((cell_photos / "defective").iterdir())[:2]
    assert len(classify(page, *photos)) == 2
    assert {u for u in asked if not u.startswith((url, "blob:", "data:"))} == set()
    assert page.errors == []


def test_a_page_cannot_send_a_photo_elsewhere(page, winnow_serve, served_app):
    open_app(page, winnow_serve(served_app))
    stopped = page.evaluate(
        "fetch('https://example.com/', {method: 'POST'}).then(() => 'sent', () => 'stopped')"
    )
    assert stopped == "stopped"
    assert any("Content Security Policy" in error for error in page.errors)


def test_the_busy_page_opens_the_app_by_itself_when_a_place_is_free(new_page, winnow_serve, served_app, axe):
    url = winnow_serve(served_app, "--max-visitors=1")
    first, second = new_page(), new_page()
    open_app(first, url)
    second.goto(url)
    second.get_by_role("heading", name="Busy: you are next").wait_for()
    assert axe(second) == []
    first.close(run_before_unload=True)
    second.locator("input[type=file]").first.wait_for(state="attached", timeout=30000)
    assert visitors(url) == 1


def test_closed_and_reloaded_pages_leave_no_kernel(new_page, winnow_serve, served_app):
    url = winnow_serve(served_app)
    page = new_page()
    open_app(page, url)
    for _ in range(3):
        page.reload()
        page.locator("input[type=file]").first.wait_for(state="attached", timeout=30000)
    assert wait_until(lambda: visitors(url) == 1)
    page.close(run_before_unload=True)
    assert wait_until(lambda: visitors(url) == 0)


def test_a_page_whose_visit_ended_says_so(page, winnow_serve, served_app):
    url = winnow_serve(served_app, "--idle-minutes=0.05")
    open_app(page, url)
    assert wait_until(lambda: visitors(url) == 0)
    page.get_by_role("alert").filter(has_text="This visit has ended").wait_for(timeout=30000)
    page.get_by_role("link", name="Reload the page").click()
    page.locator("input[type=file]").first.wait_for(state="attached", timeout=30000)


def test_two_visitors_see_their_own_photos_only(new_page, winnow_serve, served_app, cell_photos):
    url = winnow_serve(served_app)
    mine, yours = new_page(), new_page()
    open_app(mine, url)
    open_app(yours, url)
    classify(mine, sorted((cell_photos / "defective").iterdir())[0])
    assert yours.locator(".card").count() == 0
    kernel = mine.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    assert yours.evaluate(f"fetch('/api/kernels/{kernel}').then(answer => answer.status)") == 404
    assert mine.evaluate(f"fetch('/api/kernels/{kernel}').then(answer => answer.status)") == 200
