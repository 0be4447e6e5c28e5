"""The app's kernel side: parts become photos, hostile uploads become sentences, nothing is kept."""

import io
import logging
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from winnow.share import photo_app as module
from winnow.share.feedback import FeedbackBox
from winnow.share.photo_app import join_modules, open_upload, photo_app
from winnow.share.prediction import load_predictor
from winnow.share.uploads import BadUpload, Uploads


class Visitor:
    """Talks to the widget as the browser does, and keeps what comes back."""

    def __init__(self, export, **options):
        self.app = photo_app(export, **options)
        self.got = []
        self.app.send = lambda message, buffers=None: self.got.append((message, buffers))

    def send(self, photo: bytes, *, key="a", kind="predict", part=200_000, **more):
        parts = [photo[i : i + part] for i in range(0, len(photo), part)] or [b""]
        for index, data in enumerate(parts):
            message = {"kind": kind, "id": key, "index": index, "count": len(parts), **more}
            self.app._receive(self.app, message, [data])
        return self.got[-1]


@pytest.fixture(scope="module")
def visitor(trained_export):
    return Visitor(trained_export)


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, options.pop("format", "JPEG"), **options)
    return buffer.getvalue()


def png_that_claims(width, height):
    """A PNG of a few bytes whose header promises width × height pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def a_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", b"x" * 1000)
    return buffer.getvalue()


def hostile_uploads():
    """500 files that are no photos, or not quite."""
    rng = np.random.default_rng(0)
    good = jpeg(Image.fromarray(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)))
    fixed = [
        b"",
        b"\0",
        b"\0" * 5000,
        a_zip(),
        b"GIF89a",
        b"%PDF-1.7\n",
        b"#!/bin/sh\nrm -rf /\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html><body onload=alert(1)>",
        png_that_claims(60_000, 60_000),
        png_that_claims(10_000, 10_000),
        png_that_claims(2**31 - 1, 2**31 - 1),
        png_that_claims(0, 0),
        jpeg(Image.new("RGB", (1, 1))),
        jpeg(Image.new("RGB", (30_000, 2))),
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"\0\0\0\x18ftypheic" + bytes(100),
        b"II*\0" + b"\xff" * 200,
    ]
    cut = [good[: int(len(good) * rng.uniform(0.02, 0.95))] for _ in range(200)]
    noise = [rng.bytes(int(rng.integers(1, 20_000))) for _ in range(150)]
    masked = [good[:20] + rng.bytes(3000) for _ in range(500 - len(fixed) - 350)]
    return fixed + cut + noise + masked


def test_500_hostile_uploads_each_get_a_sentence_and_the_next_photo_works(visitor, cell_photos, caplog):
    expected = visitor.app.predictor.predict([sorted(cell_photos.rglob("*.png"))[0]])[0]
    uploads = hostile_uploads()
    assert len(uploads) == 500
    with caplog.at_level(logging.ERROR, module.__name__):
        for n, data in enumerate(uploads):
            answer = visitor.send(data, key=f"h{n}")[0]["answer"]
            assert answer["error"] and answer["error"].strip().endswith((".", "one.")), (n, data[:40], answer)
            assert "Traceback" not in answer["error"] and "\n" not in answer["error"], answer["error"]
    assert caplog.records == []  # none of them was a surprise
    answer = visitor.send(sorted(cell_photos.rglob("*.png"))[0].read_bytes())[0]["answer"]
    assert answer["error"] is None and answer["label"] == expected.label
    assert visitor.app.uploads.waiting == 0


def test_a_strip_is_answered_or_refused_within_the_memory_of_a_photo(visitor):
    strip = jpeg(Image.new("RGB", (10_000, 40), "white"))
    answer = visitor.send(strip)[0]["answer"]
    assert answer["error"] is None or answer["error"].endswith(".")


def test_a_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(ValueError, match=r"megapixels|too many"):
        open_upload(png_that_claims(9_000, 9_000))


def test_a_large_jpeg_is_decoded_at_reduced_size():
    large = jpeg(Image.effect_noise((6000, 4000), 50).convert("RGB"))
    assert max(open_upload(large).size) == 1024


def test_messages_that_no_browser_sends_get_a_sentence(visitor):
    messages = [
        {}, {"id": "x"}, {"index": "a", "count": 2}, {"index": 5, "count": 2}, {"index": 0, "count": -1},
        {"index": 0, "count": 10**9}, {"kind": "correct", "index": 0, "count": 1}, {"kind": ["x"], "id": {}},
    ]  # fmt: skip
    for message in messages:
        visitor.got.clear()
        visitor.app._receive(visitor.app, message, [b"x"])
        ((reply, _),) = visitor.got
        assert (reply.get("message") or reply["answer"]["error"]).endswith((".", "one."))
    visitor.app._receive(visitor.app, {"kind": "drop", "id": "x"}, [])
    assert visitor.app.uploads.waiting == 0


def test_parts_are_put_together_in_order_and_acknowledged(visitor, cell_photos):
    photo = sorted(cell_photos.rglob("*.png"))[0].read_bytes()
    visitor.got.clear()
    visitor.send(photo, key="parts", part=5_000)
    kinds = [message["kind"] for message, _ in visitor.got]
    assert len(kinds) > 2 and kinds == ["got"] * (len(kinds) - 1) + ["answer"]


def test_a_preview_comes_only_for_a_photo_that_the_browser_cannot_show(visitor, cell_photos):
    photo = sorted(cell_photos.rglob("*.png"))[0].read_bytes()
    assert visitor.send(photo)[1] == []
    (preview,) = visitor.send(photo, preview=True)[1]
    assert preview[:2] == b"\xff\xd8"


def test_an_app_without_feedback_keeps_nothing(visitor, cell_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = sorted(cell_photos.rglob("*.png"))[0].read_bytes()
    reply, _ = visitor.send(photo, kind="correct", label="functional")
    assert reply["kept"] is False and "keeps no corrections" in reply["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_correction_must_be_one_of_the_answers(trained_export, cell_photos, tmp_path):
    visitor = Visitor(trained_export, feedback=tmp_path / "box")
    photo = sorted(cell_photos.rglob("*.png"))[0].read_bytes()
    assert visitor.send(photo, kind="correct", label="<script>")[0]["kept"] is False
    assert visitor.send(photo, kind="correct", label="functional")[0]["kept"] is True
    assert len(FeedbackBox(tmp_path / "box")) == 1


def test_a_mistake_of_ours_is_logged_and_the_visitor_sees_no_traceback(
    visitor, cell_photos, monkeypatch, caplog
):
    monkeypatch.setattr(visitor.app.predictor, "predict", lambda *a, **k: 1 / 0)
    reply, _ = visitor.send(sorted(cell_photos.rglob("*.png"))[0].read_bytes())
    assert reply["answer"]["error"].startswith("Something went wrong") and "ZeroDivision" in caplog.text


def test_the_info_says_what_the_app_knows_and_what_happens_to_photos(trained_export, cell_photos):
    examples = sorted(cell_photos.rglob("*.png"))[:2]
    info = photo_app(trained_export, examples=examples, title="Cells").info
    assert info["labels"] == load_predictor(trained_export).labels
    assert "Trained on" in info["knows"] and "forgotten" in info["privacy"] and info["feedback"] is False
    assert [e["name"] for e in info["examples"]] == [e.name for e in examples]
    assert info["examples"][0]["url"].startswith("data:image/jpeg;base64,")


def test_the_joined_modules_import_nothing_and_export_one_widget():
    text = join_modules()
    assert "import " not in text.replace("@param {import(", "").replace("import(", "").split("*/")[-1]
    assert text.count("\nexport ") == 1 and "export default" in text
    tops = [line.split() for line in text.splitlines() if line.startswith(("function ", "class ", "const "))]
    names = [words[1].split("(")[0] for words in tops]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


def test_unfinished_photos_never_hold_more_than_the_limit():
    uploads = Uploads(max_bytes=1000, max_waiting=1500)
    for n in range(50):
        uploads.add(f"u{n}", 0, 2, b"x" * 400)
        assert uploads.waiting <= 1500
    assert uploads.add("u49", 1, 2, b"y") == b"x" * 400 + b"y"
    with pytest.raises(BadUpload, match="larger than"):
        uploads.add("big", 0, 2, b"x" * 1001)
    with pytest.raises(BadUpload, match="got lost"):
        uploads.add("u0", 1, 2, b"x")  # its first part had to make room
