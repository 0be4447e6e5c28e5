"""The page in a real browser: the model's answers, no network, bad input, corrections, and what a browser may lack."""

import contextlib
import csv
import io
import json
import re
import shutil
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError, expect
from static_site import serve_folder

from winnow.share.feedback import FeedbackBox
from winnow.share.page import write_page
from winnow.share.prediction import load_predictor

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def folder(trained_export, cell_photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "site"
    write_page(
        trained_export, folder, title="Is this cell fine?", examples=sorted(cell_photos.rglob("*.png"))[:2]
    )
    return folder


@pytest.fixture
def site(folder):
    with serve_folder(folder) as site:
        yield site


@pytest.fixture(scope="module")
def photos(cell_photos) -> list[Path]:
    return sorted(cell_photos.rglob("*.png"))[::40]


def opened(page, site, *, state: str = "^Ready"):
    page.goto(site.url)
    expect(page.locator("#state")).to_have_text(re.compile(state), timeout=60_000)
    return page


def give(page, *files) -> None:
    """Choose `files` (paths, or (name, bytes)) and wait until each has its answer or its error."""
    before = page.locator(".card").count()
    pairs = [(f.name, f.read_bytes()) if isinstance(f, Path) else f for f in files]
    buffers = [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in pairs]
    page.set_input_files("input[type=file]", buffers)
    expect(page.locator(".card:not([aria-busy])")).to_have_count(before + len(files), timeout=60_000)


def answers(page) -> list[dict]:
    """Every row of the CSV that the page offers."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def test_the_browser_answers_as_the_predictor_does(page, site, photos, trained_export, tmp_path):
    grey = Image.open(photos[0])
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.write_bytes(jpeg(grey.crop((0, 0, 300, 200)).convert("RGB"), exif=exif))
    clear = tmp_path / "clear.png"
    alpha = grey.convert("RGBA")
    alpha.putalpha(grey.convert("L").point(lambda v: 255 if v > 90 else 60))
    alpha.save(clear)
    webp = tmp_path / "lossless.webp"
    Image.open(photos[1]).convert("RGB").crop((0, 0, 180, 300)).save(webp, lossless=True)
    files = [*photos, turned, clear, webp]
    opened(page, site)
    give(page, *files)
    predicted = load_predictor(trained_export).predict(files)
    for row, wanted in zip(answers(page), predicted, strict=True):
        assert row["label"] == wanted.label
        assert row["none_of_these"] == str(wanted.unlike).lower()
        for label, p in wanted.probabilities.items():
            assert float(row[f"p_{label}"]) == pytest.approx(p, abs=0.02), row["photo"]
    assert not page.errors


def test_nothing_is_asked_of_another_origin(page, site, photos):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    give(opened(page, site), photos[0])
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((site.url, "blob:", "data:"))] == []


def test_the_second_visit_needs_fifty_kilobytes_and_then_no_network(new_page, folder, photos):
    with serve_folder(folder) as site:
        page = new_page()
        opened(page, site, state="without a network")
        first, sent = site.bytes, len(site.sent)
        page.reload()
        expect(page.locator("#state")).to_have_text(re.compile("without a network"))
        assert site.bytes - first < 50_000, site.sent[sent:]
        assert first < 15e6
        assert [path for path, _ in site.sent].count("/model.bin") == 1, (
            "the model is fetched once, not twice"
        )
    page.reload()  # the host is gone
    expect(page.locator("#state")).to_have_text(re.compile("^Ready"))
    give(page, photos[0])
    expect(page.locator(".card .verdict")).to_be_visible()
    page.get_by_role("button", name="Try the example").first.click()
    expect(page.locator(".card .verdict")).to_have_count(2)


def test_a_new_version_is_taken_over_and_only_what_changed_is_fetched(new_page, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "site"))
    with serve_folder(copy) as site:
        page = opened(new_page(), site, state="without a network")
        html = copy / "index.html"
        html.write_text(html.read_text().replace("<title>", "<title>New: "))
        worker, mark = copy / "sw.js", re.compile(r'(\["index\.html", ")\w+')
        worker.write_text(mark.sub(r"\g<1>0123456789abcdef", worker.read_text()))
        before = len(site.sent)
        page.reload()
        page.evaluate("navigator.serviceWorker.getRegistration().then((r) => r.update())")
        page.wait_for_function(  # a reload while Chromium exchanges the worker can wait for ever
            "async () => { const r = await navigator.serviceWorker.getRegistration();"
            " return r.active?.state === 'activated' && !r.installing && !r.waiting"
            " && (await (await fetch('index.html')).text()).includes('<title>New: '); }",
            polling=200,
        )
        for _ in range(20):
            with contextlib.suppress(TimeoutError):  # Chromium, busy, may hold a reload even now: ask again
                page.reload(timeout=5000)
            if page.title().startswith("New: "):
                break
            page.wait_for_timeout(500)
        assert page.title().startswith("New: ")
        fetched = {path for path, _ in site.sent[before:]}
        assert fetched <= {"/", "/index.html", "/sw.js"}, fetched


def test_a_correction_becomes_a_zip_that_the_owner_imports(page, site, photos, trained_export, tmp_path):
    opened(page, site)
    with_place = tmp_path / "with_place.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 1, "SecretCamera"
    with_place.write_bytes(jpeg(Image.open(photos[0]).convert("RGB"), exif=exif))
    give(page, with_place)
    page.get_by_text("That’s wrong").click()
    label = page.locator(".correction select option").nth(1).get_attribute("value")
    page.locator(".correction select").select_option(label)
    page.locator(".correction input[type=checkbox]").check()
    page.get_by_role("button", name="Send correction").click()
    expect(page.locator("#corrections-count")).to_have_text("1 correction is waiting here.")
    page.reload()  # it is kept
    expect(page.locator("#corrections-count")).to_have_text("1 correction is waiting here.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save for the owner").click()
    saved = Path(download.value.path())
    assert zipfile.ZipFile(saved).testzip() is None
    box = FeedbackBox(tmp_path / "box")
    assert box.import_zip(saved) == 1
    (row,) = box.rows()
    assert row.label == label and row.answer["label"] != label
    assert row.digest == load_predictor(trained_export).digest
    assert b"SecretCamera" not in saved.read_bytes()
    page.get_by_role("button", name="Forget here").click()
    expect(page.locator("#corrections")).to_be_hidden()
    page.reload()
    expect(page.locator("#corrections")).to_be_hidden()


def hostile(photos, tmp_path) -> list[tuple[str, bytes]]:
    """(name, bytes) that are no usable photo."""
    good = jpeg(Image.open(photos[0]).convert("RGB").resize((900, 900)))
    png = photos[0].read_bytes()
    header = good.index(b"\xff\xda") + 20
    hole = bytearray(good)
    hole[header + 2000 : header + 4000] = bytes(2000)
    bomb = bytearray(png)
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    dot = io.BytesIO()
    Image.new("RGB", (1, 1)).save(dot, "PNG")
    return [
        ("empty.jpg", b""),
        ("cut.jpg", good[: len(good) // 2]),
        ("no_end.jpg", good[:-2]),
        ("hole.jpg", bytes(hole)),
        ("bomb.png", bytes(bomb)),
        ("flipped.png", bytes(flipped)),
        ("cut.png", png[: len(png) // 2]),
        ("dot.png", dot.getvalue()),
        ("words.jpg", b"just words, really"),
        (
            "drawing.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='owned'</script></svg>",
        ),
        ("page.html.jpg", b"<!doctype html><script>document.title='owned'</script>"),
        ("archive.zip", b"PK\x03\x04" + bytes(100)),
        ("paper.pdf", b"%PDF-1.7 nothing"),
        ("film.mp4", b"\0\0\0\x20ftypisom" + bytes(64)),
        ("phone.heic", b"\0\0\0\x20ftypheic" + bytes(64)),
        ("scan.tif", b"II*\0" + bytes(64)),
        ("soi.jpg", b"\xff\xd8\xff"),
        ("loop.jpg", b"\xff\xd8\xff\xe0\x00\x00" * 50),
        ("fake.webp", b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(40)),
        ("fake.gif", b"GIF89a\xff\xff\xff\xff" + bytes(20)),
        ("fake.bmp", b"BM" + bytes(60)),
        ("<img src=x onerror=document.title='owned'>.jpg", b"\xff\xd8\xff\xd9"),
        ("=cmd|'/c calc'!A1.jpg", b"nothing"),
    ]


def test_every_hostile_file_gets_a_sentence_and_the_next_photo_works(page, site, photos, tmp_path):
    bad = hostile(photos, tmp_path)
    opened(page, site)
    title = page.title()
    give(page, *bad, photos[0])
    errors = page.locator(".card .error").all_inner_texts()
    assert len(errors) == len(bad)
    assert all(re.match(r".+[.!]$", error) and len(error) > 20 for error in errors), errors
    for name, words in (
        ("hole.jpg", "zeros"),
        ("bomb.png", "too many"),
        ("phone.heic", "HEIC"),
        ("film.mp4", "video"),
    ):
        assert any(name in error and words in error for error in errors), (name, errors)
    assert page.locator(".card .verdict").count() == 1 and page.title() == title
    assert not page.errors


def test_a_wide_strip_and_a_large_photo_are_answered(page, site, photos, trained_export, tmp_path):
    large, strip = tmp_path / "large.jpg", tmp_path / "strip.jpg"
    photo = Image.open(photos[0]).convert("RGB")
    grain = Image.effect_noise((6000, 4000), 40).convert("RGB")
    large.write_bytes(jpeg(Image.blend(photo.resize(grain.size, Image.Resampling.BICUBIC), grain, 0.2)))
    strip.write_bytes(jpeg(photo.resize((10_000, 40))))
    opened(page, site)
    give(page, large, strip)
    assert large.stat().st_size > 2**20
    width = page.locator(".card img").first.evaluate("(img) => img.decode().then(() => img.naturalWidth)")
    assert width == 640, "a large photo is shown as a small copy"
    for row, wanted in zip(
        answers(page), load_predictor(trained_export).predict([large, strip]), strict=True
    ):
        assert float(row["probability"]) == pytest.approx(max(wanted.probabilities.values()), abs=0.02)


def test_the_page_stays_awake_while_it_works(page, site, photos):
    opened(page, site)
    large = jpeg(Image.open(photos[0]).convert("RGB").resize((5000, 4000)))
    buffers = [{"name": f"{i}.jpg", "mimeType": "image/jpeg", "buffer": large} for i in range(3)]
    page.set_input_files("input[type=file]", buffers)
    page.get_by_role("button", name="Table").click()  # would wait for the last answer if the page were frozen
    assert page.locator(".card[aria-busy]").count() > 0
    expect(page.locator(".card:not([aria-busy])")).to_have_count(3, timeout=60_000)


def test_a_browser_without_simd_is_told_so(new_page, site):
    page = new_page()
    page.add_init_script("WebAssembly.validate = () => false")
    opened(page, site, state="WebAssembly SIMD.*update it")
    assert not page.errors


def test_without_storage_it_answers_and_says_what_is_not_kept(new_page, site, photos):
    page = new_page()
    page.add_init_script(
        "const no = () => { throw new DOMException('denied', 'SecurityError'); };"
        "Object.defineProperty(window, 'caches', { get: no }); Object.defineProperty(window, 'indexedDB', { get: no });"
    )
    opened(page, site, state="doesn't keep the page")
    give(page, photos[0])
    page.get_by_text("That’s wrong").click()
    page.locator(".correction select").select_option(index=1)
    page.locator(".correction input[type=checkbox]").check()
    page.get_by_role("button", name="Send correction").click()
    expect(page.locator(".card")).to_contain_text("until this page is closed")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save for the owner").click()
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 2


def test_a_browser_that_alters_pixels_is_told_so(new_page, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "site"))
    worker = copy / "worker.js"
    noise = """
const original = OffscreenCanvasRenderingContext2D.prototype.getImageData;
OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...box) {
  const pixels = original.apply(this, box);
  pixels.data[5] ^= 1;
  return pixels;
};
"""
    worker.write_text(worker.read_text() + noise)  # as browsers do that are set to resist fingerprinting
    with serve_folder(copy) as site:
        opened(new_page(), site, state="privacy setting")


def test_a_missing_model_gets_a_sentence(new_page, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "site"))
    (copy / "model.bin").unlink()
    with serve_folder(copy) as site:
        opened(new_page(), site, state=r"model\.bin is missing on this host")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(new_page, site, photos, axe, scheme):
    page = opened(new_page(color_scheme=scheme, **PHONE), site)
    give(page, photos[0], ("words.jpg", b"words"))
    page.get_by_text("That’s wrong").click()
    page.get_by_role("button", name="Show what decided").click()
    assert axe(page) == []


def test_a_phone_needs_no_sideways_scrolling(new_page, site, photos):
    page = opened(new_page(**PHONE), site)
    give(page, *photos[:2])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def with_a_second_question(export: Path, folder: Path) -> Path:
    """A copy of `export` that also says whether a cell is mono or poly: its head doubled, the second one reversed."""
    import onnx

    model = onnx.load(export.with_suffix(".onnx"))
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            node.output[i] = "main_logits" if name == "logits" else name
    for axis, value in (("starts", [-1]), ("ends", [-99]), ("axes", [1]), ("steps", [-1])):
        model.graph.initializer.append(onnx.helper.make_tensor(axis, onnx.TensorProto.INT64, [1], value))
    inputs = ["main_logits", "starts", "ends", "axes", "steps"]
    model.graph.node.append(onnx.helper.make_node("Slice", inputs, ["reversed"]))
    model.graph.node.append(onnx.helper.make_node("Concat", ["main_logits", "reversed"], ["logits"], axis=1))
    out = next(value for value in model.graph.output if value.name == "logits")
    out.type.tensor_type.shape.dim[1].dim_value = 4
    meta = next(entry for entry in model.metadata_props if entry.key == "winnow")
    facts = json.loads(meta.value)
    facts["targets"].append(
        {"name": "type", "labels": ["mono", "poly"], "temperature": 2.0, "prior": [1.0, 3.0]}
    )
    meta.value = json.dumps(facts)
    onnx.save(model, folder / "export.onnx")
    return Path(shutil.copy(export, folder / "export.pkl"))


def test_further_questions_are_answered_as_the_predictor_does(page, photos, trained_export, tmp_path):
    export = with_a_second_question(trained_export, tmp_path)
    write_page(export, tmp_path / "site")
    wanted = load_predictor(export).predict(photos[:4])
    assert {answer.targets["type"].label for answer in wanted} <= {"mono", "poly"}
    with serve_folder(tmp_path / "site") as site:
        give(opened(page, site), *photos[:4])
        for card, row, answer in zip(page.locator(".card").all(), answers(page), wanted, strict=True):
            section = card.get_by_role("region", name="type")
            target = answer.targets["type"]
            expect(section.locator("h3")).to_have_text(f"type: {target.label}")
            expect(section.locator(".bar")).to_have_count(2)
            assert row["type"] == target.label and row["label"] == answer.label
            shown = section.locator(".bar-value").all_inner_texts()
            best = max(target.probabilities.values())
            assert best > 0.99 or abs(float(shown[0].strip("<> %")) / 100 - best) < 0.03
    page.get_by_role("button", name="Table").click()
    expect(page.get_by_role("columnheader", name="type")).to_be_visible()


def test_webp_photos_that_lie_down_are_stood_up(page, site, photos, trained_export, tmp_path):
    files = [tmp_path / f"{orientation}.webp" for orientation in range(2, 9)]
    for orientation, file in enumerate(files, start=2):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(photos[0]).convert("RGB").crop((0, 0, 300, 180)).save(file, lossless=True, exif=exif)
    give(opened(page, site), *files)
    wanted = load_predictor(trained_export).predict(files)
    rows, cards = answers(page), page.locator(".card").all()
    for file, card, row, answer in zip(files, cards, rows, wanted, strict=True):
        for label, p in answer.probabilities.items():
            assert float(row[f"p_{label}"]) == pytest.approx(p, abs=0.003), file.name
        card.scroll_into_view_if_needed()
        upright = (180, 300) if int(file.stem) > 4 else (300, 180)
        for side, pixels in zip(("naturalWidth", "naturalHeight"), upright, strict=True):
            expect(card.locator(".frame img")).to_have_js_property(side, pixels)
