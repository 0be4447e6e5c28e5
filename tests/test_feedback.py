"""The feedback box: what it keeps, what it never keeps, and how corrections come back into the loop."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
from PIL import Image
from typer.testing import CliRunner

from winnow.catalog import Catalog
from winnow.cli import app
from winnow.images import BadImage, open_image
from winnow.share.feedback import (
    BoxFull,
    FeedbackBox,
    ForeignZip,
    accept,
    check_corrections,
    refuse,
    waiting,
)
from winnow.share.prediction import Prediction, load_predictor

ANSWER = Prediction("cat", {"cat": 0.75, "dog": 0.25})


def photo(shade=0, *, exif=None, size=(60, 40)):
    image = Image.linear_gradient("L").resize(size).convert("RGB").point(lambda v: (v + shade) % 256)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **({"exif": exif} if exif else {}))
    return buffer.getvalue()


@pytest.fixture
def box(tmp_path):
    return FeedbackBox(tmp_path / "box")


@pytest.fixture
def catalog(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for n in range(2):
            (tmp_path / "pets" / label / f"{n}.jpg").write_bytes(photo(10 * n + len(label) + ord(label[0])))
    return Catalog(tmp_path / "pets")


def test_a_correction_is_kept_with_the_answer_and_the_model(box):
    assert box.add(photo(), label="dog", answer=ANSWER, digest="abc").startswith("Thank you")
    (row,) = box.rows()
    assert (row.label, row.answer["label"], row.digest) == ("dog", "cat", "abc")
    assert row.answer["probabilities"] == [{"label": "cat", "p": 0.75}, {"label": "dog", "p": 0.25}]
    assert row.reason == "A visitor says dog; the model said cat."
    assert open_image(box.photo(row)).size == (60, 40)


def test_place_and_camera_are_stripped_and_the_photo_is_upright(box):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    box.add(photo(exif=exif), label="dog")
    jpeg = box.photo(box.rows()[0])
    assert b"SecretCamera" not in jpeg and b"Exif" not in jpeg
    assert open_image(jpeg).size == (40, 60)


def test_the_same_photo_twice_is_one_row_with_the_last_word(box):
    box.add(photo(), label="dog")
    box.add(photo(), label="cat")
    assert [row.label for row in box.rows()] == ["cat"] and len(box) == 1


def test_a_large_photo_is_kept_small(box):
    box.add(photo(size=(4000, 3000)), label="dog")
    assert max(open_image(box.photo(box.rows()[0])).size) == 1024


def test_what_is_no_photo_is_not_kept(box):
    with pytest.raises(BadImage):
        box.add(b"<svg onload=alert(1)>", label="dog")
    assert box.rows() == [] and not list(box.folder.glob("*"))


@pytest.mark.parametrize("cap", [{"max_photos": 2}, {"max_bytes": 2 * 1024}])
def test_a_full_box_says_so_and_keeps_what_it_has(tmp_path, cap):
    box = FeedbackBox(tmp_path / "box", **cap)
    with pytest.raises(BoxFull, match="full"):
        for shade in range(10):
            box.add(photo(shade), label="dog")
    kept = len(box)
    assert 0 < kept < 10 and len(list(box.folder.glob("*.jpg"))) == kept
    assert len(box.rows()) == kept


def test_a_half_written_row_is_passed_over(box):
    box.add(photo(), label="dog")
    (box.folder / f"{'0' * 64}.json").write_text('{"sha256": ')
    (box.folder / f"{'1' * 64}.json").write_text(json.dumps({"unknown": 1}))
    assert len(box.rows()) == 1


def test_a_zip_brings_the_box_to_another_machine(box, tmp_path):
    for shade, label in ((1, "cat"), (2, "dog")):
        box.add(photo(shade), label=label, answer=ANSWER, digest="abc")
    other = FeedbackBox(tmp_path / "other")
    assert other.import_zip(box.zip()) == 2
    assert [(r.label, r.answer, r.digest, r.at) for r in other.rows()] == [
        (r.label, r.answer, r.digest, r.at) for r in box.rows()
    ]


def hostile_zip(rows, files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("corrections.json", json.dumps({"format": 1, "corrections": rows}))
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_zip_from_a_stranger_writes_nothing_outside_the_box(box, tmp_path):
    evil = {"sha256": "../../evil", "label": "dog", "file": "../../evil.jpg"}
    script = {"sha256": "a" * 64, "label": "dog"}
    good = {"sha256": "b" * 64, "label": "x" * 1000, "answer": "no dict"}
    data = hostile_zip(
        [evil, script, good],
        {"../../evil.jpg": photo(), f"{'a' * 64}.jpg": b"#!/bin/sh", f"{'b' * 64}.jpg": photo()},
    )
    assert box.import_zip(data) == 1
    (row,) = box.rows()
    assert len(row.label) == 200 and row.answer is None and row.sha256 != "b" * 64
    assert sorted(p.parent.name for p in tmp_path.rglob("*") if p.is_file()) == ["box", "box"]


@pytest.mark.parametrize(
    "data", [b"", b"PK no", hostile_zip("text", {}), hostile_zip([{}], {}), hostile_zip([1], {})]
)
def test_a_foreign_zip_is_one_sentence(box, data):
    with pytest.raises(ForeignZip, match="no corrections"):
        box.import_zip(data)


def test_corrections_become_rows_to_review_and_join_no_class_by_themselves(box, catalog):
    box.add(photo(), label="dog", answer=ANSWER)
    before = [p.path for p in catalog.photos()]
    assert box.import_into(catalog) == 1
    assert box.import_into(catalog) == 0
    (row,) = waiting(catalog)
    assert row.reason == "A visitor says dog; the model said cat." and row.data["label"] == "dog"
    assert (catalog.folder / row.path).read_bytes() == box.photo(box.rows()[0])
    catalog.sync()
    assert [p.path for p in catalog.photos()] == before


@pytest.mark.parametrize("as_zip", [True, False])
def test_the_command_queues_a_folder_or_a_zip_once_and_leaves_it_as_it_was(box, catalog, tmp_path, as_zip):
    box.add(photo(), label="dog", answer=ANSWER)
    source = box.folder
    if as_zip:
        source = tmp_path / "corrections.zip"
        source.write_bytes(box.zip())
    for said in ("1 new", "0 new"):
        done = CliRunner().invoke(app, ["feedback", str(catalog.folder), str(source)])
        assert done.exit_code == 0 and done.output.startswith(said)
    assert [row.data["label"] for row in waiting(catalog)] == ["dog"]
    assert source.exists() and len(box) == 1


def test_the_command_says_what_it_needs_where_there_are_no_corrections(catalog, tmp_path):
    for source in (tmp_path / "nowhere.zip", next(catalog.folder.glob("cat/*.jpg"))):
        command = [sys.executable, "-m", "winnow.cli", "feedback", str(catalog.folder), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "corrections" in done.stderr and "Traceback" not in done.stderr
    assert waiting(catalog) == []


def test_an_accepted_correction_joins_the_catalog_and_says_where_it_came_from(box, catalog):
    box.add(photo(), label="dog", answer=ANSWER)
    box.import_into(catalog)
    added = accept(catalog, waiting(catalog)[0])
    assert added.label == "dog" and added.path in [p.path for p in catalog.photos()]
    assert catalog.photo(added.path).origin["engine"] == "feedback"
    assert waiting(catalog) == [] and box.import_into(catalog) == 0


def test_the_reviewer_has_the_last_word_on_the_label(box, catalog):
    box.add(photo(), label="dog")
    box.import_into(catalog)
    assert accept(catalog, waiting(catalog)[0], label="cat").label == "cat"


def test_a_refused_correction_stays_out_and_does_not_come_back(box, catalog):
    box.add(photo(), label="dog")
    box.import_into(catalog)
    refuse(catalog, waiting(catalog)[0], "no pet in it")
    assert waiting(catalog) == [] and box.import_into(catalog) == 0
    assert [r.reason for r in catalog.rejections()] == ["no pet in it"]


def test_past_corrections_are_checked_against_the_new_model(trained_export, cell_photos, tmp_path):
    predictor = load_predictor(trained_export)
    files = sorted((cell_photos / "defective").iterdir())[:3]
    answers = predictor.predict(files)
    (tmp_path / "cells" / "defective").mkdir(parents=True)
    (tmp_path / "cells" / "functional").mkdir()
    catalog, box = Catalog(tmp_path / "cells"), FeedbackBox(tmp_path / "box")
    assert str(check_corrections(catalog, predictor)) == "There are no corrections yet."
    other = {"defective": "functional", "functional": "defective"}
    labels = [answers[0].label, answers[1].label, other[answers[2].label]]
    for file, label, answer in zip(files, labels, answers, strict=True):
        box.add(file.read_bytes(), label=label, answer=answer)
    box.import_into(catalog)
    for row in waiting(catalog):
        accept(catalog, row)
    check = check_corrections(catalog, predictor)
    assert check.right == 2 and [(right, said) for _, right, said in check.wrong] == [
        (labels[2], answers[2].label)
    ]
    assert str(check) == "2 of 3 past corrections are now right."
