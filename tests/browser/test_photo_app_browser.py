"""The photo app under a real Voila in a real browser: photos in, answers out, nothing kept."""

import base64
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import expect

from winnow.share.feedback import FeedbackBox
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
    before = page.locator(".card").count()
    page.locator("input[type=file]").set_input_files([str(f) for f in files])
    page.wait_for_function(
        "n => document.querySelectorAll('.card:is([data-state=answered],[data-state=failed])').length >= n",
        arg=before + len(files),
    )


def cards(page):
    return {c.locator(".name").inner_text(): c for c in page.locator(".card").all()}


def expect_picture(card, width):
    """The card shows a picture of this many pixels, once it is near the window."""
    card.scroll_into_view_if_needed()
    expect(card.locator(".frame img")).to_have_js_property("naturalWidth", width)


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
        expect_picture(shown[photo.name], 300)
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
    expect_picture(shown["photo.heic"], 640)


def test_a_file_name_with_markup_stays_text(app, cell_photos, tmp_path):
    evil = tmp_path / "<img src=x onerror=alert(1)>.png"
    shutil.copy(sorted(cell_photos.rglob("*.png"))[0], evil)
    send(app, evil)
    assert list(cards(app)) == [evil.name]
    assert app.locator(".name img").count() == 0


def noisy_photo(path, width, height, *, seed=0, **options):
    """A photo of noise on a gradient: compresses as badly as a real one."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8))
    small.resize((width, height), Image.Resampling.BILINEAR).save(path, **options)
    return path


def drop(page, *files):
    """Drop files onto the app as a file manager does."""
    data = page.evaluate_handle("() => new DataTransfer()")
    for file in files:
        page.evaluate(
            """([data, name, text]) => {
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: "image/png" }));
            }""",
            [data, file.name, base64.b64encode(file.read_bytes()).decode()],
        )
    page.dispatch_event(".winnow-app", "drop", {"dataTransfer": data})
    return data


def test_twelve_megapixels_are_shrunk_here_and_a_large_tiff_goes_to_the_server_in_parts(app, tmp_path):
    photo = noisy_photo(tmp_path / "phone.jpg", 4000, 3000, quality=95)
    tiff = noisy_photo(tmp_path / "scan.tiff", 2400, 1800)
    assert photo.stat().st_size > 2**20 and tiff.stat().st_size > 12 * 2**20
    app.evaluate(
        """() => { window.sent = []; const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (data) {
                window.sent.push(data.byteLength ?? data.length);
                return send.call(this, data); }; }"""
    )
    send(app, photo)
    shrunk = sum(app.evaluate("() => window.sent.splice(0)"))
    assert shrunk < 700_000 < photo.stat().st_size
    send(app, photo, tiff)
    sizes = app.evaluate("() => window.sent")
    assert sum(sizes) > 12 * 2**20 and max(sizes) < 2**20
    expect_picture(cards(app)["scan.tiff"], 640)


def test_shrinking_in_the_browser_does_not_change_the_answer(app, app_folder, cell_photos, tmp_path):
    files = []
    for n, file in enumerate(sorted((cell_photos / "defective").iterdir())[:4]):
        large = Image.open(file).convert("RGB").resize((2400, 2400), Image.Resampling.BICUBIC)
        noise = np.random.default_rng(n).integers(-8, 9, (2400, 2400, 3))
        pixels = np.clip(np.asarray(large, dtype=np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.jpg", quality=92)
        files.append(tmp_path / f"{n}.jpg")
    send(app, *files)
    for file, answer in zip(files, load_predictor(app_folder / "export.pkl").predict(files), strict=True):
        shown = cards(app)[file.name].locator(".bar").first
        assert answer.label in shown.inner_text()
        width = shown.locator(".bar-fill").evaluate("b => parseFloat(b.style.width)")
        assert width == pytest.approx(100 * answer.probabilities[answer.label], abs=3)


def test_photos_can_be_dropped_and_pasted(app, cell_photos):
    one, two = sorted((cell_photos / "functional").iterdir())[:2]
    data = drop(app, one)
    app.locator(".card[data-state=answered]").wait_for()
    data = drop(app, two)
    app.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
        data,
    )
    app.wait_for_function("() => document.querySelectorAll('.card[data-state=answered]').length === 3")
    assert app.locator(".name").all_inner_texts() == [one.name, two.name, two.name]


def test_the_camera_gives_a_photo_or_a_sentence(new_page, voila, app_folder):
    page = new_page(viewport={"width": 390, "height": 844})
    page.goto(voila(app_folder / "app.ipynb"))
    page.add_script_tag(
        content="""navigator.mediaDevices.getUserMedia = async () => {
            if (window.refuse) throw new DOMException("no", "NotAllowedError");
            const canvas = document.createElement("canvas"); canvas.width = 320; canvas.height = 240;
            const draw = () => { canvas.getContext("2d").fillRect(0, 0, 320, 240); requestAnimationFrame(draw); };
            draw(); return canvas.captureStream(); }"""
    )
    page.get_by_role("button", name="Use camera").click(timeout=30000)
    page.wait_for_function("() => document.querySelector('.camera video').videoWidth > 0")
    page.get_by_role("button", name="Take photo").click()
    page.locator(".card[data-state=answered]").wait_for()
    assert page.locator(".name").inner_text().startswith("camera ")
    page.evaluate("() => { window.refuse = true; }")
    page.get_by_role("button", name="Use camera").click()
    assert "switched off for this page" in page.locator(".notice").inner_text()


def test_a_photo_of_something_else_is_none_of_these(app, tmp_path):
    send(app, noisy_photo(tmp_path / "noise.png", 320, 240))
    card = cards(app)["noise.png"]
    assert card.locator(".verdict strong").inner_text() == "None of these"
    assert "comes nearest to: " in card.inner_text()
    assert not card.locator(".bar").first.is_visible()
    card.get_by_text("What it would say all the same").click()
    assert card.locator(".bar").first.is_visible()


def test_the_table_and_the_csv_hold_every_answer(app, app_folder, cell_photos, tmp_path):
    photo = sorted(cell_photos.rglob("*.png"))[0]
    evil = tmp_path / '=cmd|calc,"x".png'
    shutil.copy(photo, evil)
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:2000])
    send(app, photo, evil, tmp_path / "broken.jpg")
    app.get_by_role("button", name="Table").click()
    assert app.get_by_role("row").count() == 4
    with app.expect_download() as download:
        app.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    answer = load_predictor(app_folder / "export.pkl").predict([photo])[0]
    assert [r["photo"] for r in rows] == [photo.name, "'" + evil.name, "broken.jpg"]
    assert rows[0]["label"] == answer.label and rows[0]["none_of_these"] == "false"
    assert float(rows[0]["p_defective"]) == pytest.approx(answer.probabilities["defective"], abs=1e-3)
    assert rows[2]["label"] == "" and rows[2]["error"].endswith(".")


def test_the_heat_map_lies_over_the_photo(app, cell_photos):
    send(app, sorted(cell_photos.rglob("*.png"))[0])
    button = app.get_by_role("button", name="Show what decided")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    photo, heat = (app.locator(f".picture {tag}").bounding_box() for tag in ("img", "canvas"))
    assert heat == pytest.approx(photo)
    alphas = app.locator("canvas").evaluate(
        "c => { const all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " const alphas = all.filter((_, i) => i % 4 === 3);"
        " return [alphas.reduce((a, b) => Math.min(a, b)), alphas.reduce((a, b) => Math.max(a, b))]; }"
    )
    assert alphas[0] < 20 and alphas[1] > 120


def test_a_correction_reaches_the_box_without_its_place_and_only_with_consent(
    app, app_folder, cell_photos, tmp_path
):
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    image = Image.open(sorted((cell_photos / "defective").iterdir())[5]).convert("RGB")
    image.save(tmp_path / "mine.jpg", exif=exif)
    box = FeedbackBox(app_folder / "feedback")
    send(app, tmp_path / "mine.jpg")
    said = app.locator(".verdict strong").inner_text()
    app.get_by_text("That’s wrong").click()
    other = {"defective": "functional", "functional": "defective"}[said]
    app.get_by_label("This is really").select_option(other)
    app.get_by_role("button", name="Send correction").click()
    assert len(box) == 0  # the browser asks for the consent first
    app.get_by_label("may keep this photo").check()
    app.get_by_role("button", name="Send correction").click()
    app.get_by_text("Thank you").wait_for()
    (row,) = box.rows()
    assert (row.label, row.answer["label"]) == (other, said)
    assert row.digest == load_predictor(app_folder / "export.pkl").digest
    assert b"SecretCamera" not in box.photo(row)


def test_everything_works_from_the_keyboard(app, cell_photos):
    app.on(
        "filechooser", lambda _: None
    )  # Playwright catches choosers from now on, not first while Enter travels
    app.keyboard.press("Tab")
    assert app.evaluate("() => document.activeElement.innerText") == "Choose photos"
    with app.expect_file_chooser() as chooser:
        app.keyboard.press("Enter")
    chooser.value.set_files([str(f) for f in sorted(cell_photos.rglob("*.png"))[:2]])
    app.wait_for_function("() => document.querySelectorAll('.card[data-state=answered]').length === 2")
    assert "2 of 2 photos answered" in app.get_by_role("status").first.inner_text()
    reached = []
    for _ in range(16):
        app.keyboard.press("Tab")
        reached.append(
            app.evaluate("() => document.activeElement.innerText || document.activeElement.tagName")
        )
    for name in (
        "Use camera",
        "Table",
        "Download CSV",
        "Clear all",
        "Show what decided",
        "That’s wrong",
        "×",
    ):
        assert name in reached, reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(new_page, voila, app_folder, axe, cell_photos, tmp_path, scheme):
    page = new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(voila(app_folder / "app.ipynb"))
    page.get_by_role("heading", name="What is on this photo?").wait_for(timeout=30000)
    (tmp_path / "notes.txt").write_text("x")
    send(
        page,
        sorted(cell_photos.rglob("*.png"))[0],
        tmp_path / "notes.txt",
        noisy_photo(tmp_path / "n.png", 320, 240),
    )
    page.get_by_role("button", name="Table").click()
    page.get_by_text("That’s wrong").first.click()
    page.get_by_role("button", name="Show what decided").first.click()
    assert axe(page, context=".winnow-app") == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_visitor_whose_kernel_ended_is_told_so(app, cell_photos):
    mine = psutil.Process().children(recursive=True)
    kernels = [p for p in mine if "ipykernel_launcher" in " ".join(p.cmdline())]
    max(kernels, key=lambda p: p.create_time()).kill()
    app.wait_for_timeout(500)
    app.locator("input[type=file]").set_input_files(str(sorted(cell_photos.rglob("*.png"))[0]))
    app.locator(".card[data-state=failed]").wait_for(timeout=60000)
    assert "Reload the page" in app.locator(".notice").inner_text()
