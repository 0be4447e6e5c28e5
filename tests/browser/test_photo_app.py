"""The photo app under a real Voila in a real browser: photos in, answers out, nothing kept."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from winnow.share.prediction import load_predictor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def app_folder(trained_export, tmp_path_factory) -> Path:
    """app.ipynb as it is in the repository, with a tiny export beside it and feedback switched on."""
    folder = tmp_path_factory.mktemp("app")
    for file in (trained_export, trained_export.with_suffix(".onnx")):
        shutil.copy(file, folder)
    notebook = json.loads((ROOT / "app.ipynb").read_text())
    source = "".join(notebook["cells"][0]["source"])
    assert "FEEDBACK = False" in source
    notebook["cells"][0]["source"] = source.replace("FEEDBACK = False", 'FEEDBACK = "feedback"')
    (folder / "app.ipynb").write_text(json.dumps(notebook))
    return folder


@pytest.fixture
def app(page, voila, app_folder):
    """A page with the app open in it."""
    page.goto(voila(app_folder / "app.ipynb"))
    page.get_by_role("heading", name="What is on this photo?").wait_for(timeout=30000)
    return page


def send(page, *files):
    """Choose files as a visitor does; returns when every card has its answer or error."""
    page.locator("input[type=file]").set_input_files([str(f) for f in files])
    page.wait_for_function(
        "n => document.querySelectorAll('.card:is([data-state=answered],[data-state=failed])').length >= n",
        arg=len(files),
    )


def cards(page):
    return {c.locator(".name").inner_text(): c for c in page.locator(".card").all()}


def test_three_photos_and_a_text_file_each_get_their_own_answer(app, app_folder, cell_photos, tmp_path):
    photos = [
        *sorted((cell_photos / "defective").iterdir())[:2],
        sorted((cell_photos / "functional").iterdir())[0],
    ]
    (tmp_path / "notes.txt").write_text("I am no photo")
    send(app, photos[0], tmp_path / "notes.txt", *photos[1:])
    expected = load_predictor(app_folder / "export.pkl").predict(photos)
    shown = cards(app)
    for photo, answer in zip(photos, expected, strict=True):
        assert shown[photo.name].locator(".verdict strong").inner_text() == answer.label
        assert shown[photo.name].locator(".bar").count() == 2
        assert shown[photo.name].locator(".frame img").evaluate("i => i.naturalWidth") == 300
    assert "not an image" in shown["notes.txt"].locator(".error").inner_text()
    assert [e for e in app.errors if "net::ERR" not in e] == []  # Voila asks a CDN for its maths font


def test_heic_and_webp_are_read_and_a_turned_photo_gets_the_upright_answer(app, cell_photos, tmp_path):
    import pillow_heif

    pillow_heif.register_heif_opener()
    image = Image.open(sorted((cell_photos / "defective").iterdir())[0]).convert("RGB").resize((1600, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "upright.jpg", quality=95)
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image.save(tmp_path / "photo.webp", quality=95)
    image.save(tmp_path / "photo.heic", quality=95)
    send(app, *(tmp_path / n for n in ("upright.jpg", "turned.jpg", "photo.webp", "photo.heic")))
    shown = cards(app)
    texts = {name: card.locator(".verdict").inner_text() for name, card in shown.items()}
    assert len({t.split()[0] for t in texts.values()}) == 1, texts
    assert shown["photo.heic"].locator(".frame img").evaluate("i => i.complete && i.naturalWidth") == 640


def test_a_file_name_with_markup_stays_text(app, cell_photos, tmp_path):
    evil = tmp_path / "<img src=x onerror=alert(1)>.png"
    shutil.copy(sorted(cell_photos.rglob("*.png"))[0], evil)
    send(app, evil)
    assert list(cards(app)) == [evil.name]
    assert app.locator(".name img").count() == 0
