"""The predictor: which path it takes, what it says when it can't, and that it stays light."""

import csv
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from winnow.share.prediction import (
    ExportError,
    ForeignExport,
    MismatchedExport,
    MissingExport,
    OnnxModel,
    load_predictor,
    seen_box,
)


def one_sentence(error) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and "Traceback" not in text


def photos(folder, n=3):
    return sorted(folder.rglob("*.png"))[:n]


def test_importing_the_predictor_loads_neither_torch_nor_fastai(trained_export, cell_photos):
    code = f"""
import sys
from winnow.share.prediction import load_predictor
answers = load_predictor({str(trained_export)!r}).predict([{str(photos(cell_photos)[0])!r}])
assert answers[0].label, answers
print(sorted(m for m in ("torch", "fastai", "pandas", "sklearn", "matplotlib") if m in sys.modules))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_light_path_is_taken_when_the_digest_matches(trained_export):
    assert load_predictor(trained_export).light
    assert not load_predictor(trained_export, light=False).light


def test_a_missing_export_is_one_sentence(tmp_path):
    with pytest.raises(MissingExport, match="run train") as error:
        load_predictor(tmp_path / "export.pkl")
    assert one_sentence(error)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not really", b"\x80\x04K*."])
def test_a_foreign_export_is_one_sentence(tmp_path, content):
    (tmp_path / "export.pkl").write_bytes(content)
    with pytest.raises(ForeignExport) as error:
        load_predictor(tmp_path / "export.pkl")
    assert one_sentence(error)


def test_a_pickle_that_holds_no_learner_is_foreign(tmp_path):
    import torch

    torch.save({"not": "a learner"}, tmp_path / "export.pkl")
    with pytest.raises(ForeignExport, match="holds no fastai learner") as error:
        load_predictor(tmp_path / "export.pkl")
    assert one_sentence(error)


def test_a_damaged_onnx_is_foreign(own_export):
    own_export.onnx.write_bytes(own_export.onnx.read_bytes()[:5000])
    with pytest.raises(ForeignExport, match="run export_learner") as error:
        load_predictor(own_export.pkl)
    assert one_sentence(error)


def test_somebody_elses_onnx_is_foreign(own_export):
    model = onnx.load(own_export.onnx)
    del model.metadata_props[:]
    onnx.save(model, own_export.onnx)
    with pytest.raises(ForeignExport, match="was not written by") as error:
        load_predictor(own_export.pkl)
    assert one_sentence(error)


def test_an_onnx_of_another_pickle_is_not_used(own_export):
    with own_export.pkl.open("ab") as f:
        f.write(b"\0")  # still the same zip, another digest
    with pytest.raises(MismatchedExport, match=r"export.onnx was not made from this export.pkl") as error:
        load_predictor(own_export.pkl, light=True)
    assert one_sentence(error)


def test_a_mismatch_falls_back_to_fastai(own_export, cell_photos):
    expected = load_predictor(own_export.pkl).predict(photos(cell_photos))
    with own_export.pkl.open("r+b") as f:
        f.seek(-1, 2)
        last = f.read(1)
    import zipfile

    with zipfile.ZipFile(own_export.pkl, "a") as archive:
        archive.comment = b"changed" + last
    predictor = load_predictor(own_export.pkl)
    assert not predictor.light
    for one, two in zip(expected, predictor.predict(photos(cell_photos)), strict=True):
        assert one.label == two.label
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-3)


def test_a_photo_that_cannot_be_read_gets_a_sentence_and_the_others_go_on(
    trained_export, cell_photos, tmp_path
):
    (tmp_path / "notes.txt").write_text("hello")
    good = photos(cell_photos, 2)
    answers = load_predictor(trained_export).predict(
        [good[0], tmp_path / "notes.txt", b"", tmp_path / "no.png", good[1]]
    )
    assert [bool(a.error) for a in answers] == [False, True, True, True, False]
    assert all(a.error.endswith(".") and not a.label for a in answers[1:4])
    assert all(sum(a.probabilities.values()) == pytest.approx(1) for a in (answers[0], answers[4]))


def test_batches_of_any_size_give_the_same_answers(trained_export, cell_photos):
    files, predictor = photos(cell_photos, 40), load_predictor(trained_export)
    one = predictor.predict(files, batch_size=7)
    many = predictor.predict(iter(files), batch_size=64)
    assert [a.label for a in one] == [a.label for a in many]
    assert np.allclose(
        [max(a.probabilities.values()) for a in one], [max(a.probabilities.values()) for a in many], atol=1e-4
    )


def test_paths_bytes_and_images_give_the_same_answer(trained_export, cell_photos):
    file = photos(cell_photos)[0]
    answers = load_predictor(trained_export).predict([file, str(file), file.read_bytes(), Image.open(file)])
    assert len({tuple(a.probabilities.items()) for a in answers}) == 1


def test_a_photo_is_turned_upright_before_it_is_judged(trained_export, cell_photos, tmp_path):
    image = Image.open(photos(cell_photos)[0]).convert("RGB").resize((300, 200))
    image.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me 90° clockwise"
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright, turned = load_predictor(trained_export).predict(
        [tmp_path / "upright.png", tmp_path / "turned.png"]
    )
    assert upright.probabilities == pytest.approx(turned.probabilities, abs=1e-6)


def test_the_heat_is_highest_where_the_main_class_is_strongest(trained_export, cell_photos):
    predictor = load_predictor(trained_export)
    answer = predictor.predict(photos(cell_photos, 1), heatmap=True)[0]
    assert answer.heat.values.shape == (3, 3) and answer.heat.box == (0, 0, 1, 1)
    assert answer.heat.values.min() == 0 and answer.heat.values.max() == 1
    assert predictor.predict(photos(cell_photos, 1))[0].heat is None


def test_cells_of_a_linear_head_average_to_the_logits(trained_export, cell_photos):
    image = Image.open(photos(cell_photos)[0]).convert("RGB")
    raw = OnnxModel(trained_export.with_suffix(".onnx")).run([image], cells=True)
    assert np.allclose(raw.cells.mean(1), raw.logits, atol=1e-3)


def test_the_box_says_what_the_model_saw():
    assert seen_box(400, 200, "squish") == (0, 0, 1, 1)
    assert seen_box(400, 200, "crop") == (0.25, 0, 0.5, 1)
    assert seen_box(400, 200, "pad") == (0, -0.5, 1, 2)


def test_augmented_passes_need_fastai(trained_export, cell_photos):
    with pytest.raises(ExportError, match="light=False"):
        load_predictor(trained_export).predict(photos(cell_photos), tta=2)
    answers = load_predictor(trained_export, light=False).predict(photos(cell_photos), tta=2)
    assert all(sum(a.probabilities.values()) == pytest.approx(1) for a in answers)


def run_winnow(*args):
    command = [sys.executable, "-m", "winnow.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_winnow_predict_writes_a_row_for_every_photo(trained_export, cell_photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    out = tmp_path / "answers.csv"
    done = run_winnow(
        "predict", cell_photos, tmp_path / "broken.png", "--export", trained_export, "--out", out
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.open()))
    files = sorted(cell_photos.rglob("*.png"))
    assert [r["photo"] for r in rows] == [*map(str, files), str(tmp_path / "broken.png")]
    expected = load_predictor(trained_export).predict(files[:5])
    assert [r["label"] for r in rows[:5]] == [a.label for a in expected]
    assert float(rows[0]["p_defective"]) == pytest.approx(expected[0].probabilities["defective"], abs=1e-4)
    assert rows[-1]["label"] == "" and rows[-1]["error"].endswith(".")
    assert "120 photos, 1 could not be read" in done.stderr


def test_winnow_predict_without_an_export_is_one_sentence(tmp_path):
    done = run_winnow("predict", tmp_path, "--export", tmp_path / "export.pkl")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "run train.ipynb" in done.stderr


def test_an_interrupted_predict_leaves_the_old_answers(trained_export, tmp_path):
    (tmp_path / "answers.csv").write_text("old")
    done = run_winnow(
        "predict", tmp_path / "none", "--export", trained_export, "--out", tmp_path / "answers.csv"
    )
    assert done.returncode == 1 and "There is no" in done.stderr
    assert (tmp_path / "answers.csv").read_text() == "old"


def test_an_export_of_fastais_own_is_answered_as_fastai_answers(tiny_learner, cell_photos, tmp_path):
    tiny_learner.export(tmp_path / "export.pkl")
    predictor = load_predictor(tmp_path / "export.pkl")
    assert not predictor.light and predictor.labels == list(tiny_learner.dls.vocab)
    answers = predictor.predict(photos(cell_photos))
    for photo, answer in zip(photos(cell_photos), answers, strict=True):
        with tiny_learner.no_bar(), tiny_learner.no_logging():
            label, _, shares = tiny_learner.predict(photo)
        assert answer.label == label and answer.error is None
        assert np.allclose([answer.probabilities[name] for name in predictor.labels], shares, atol=1e-3)
