"""The export: the same model twice, proved equal on original files."""

import json
import zipfile

import numpy as np
import onnxruntime as ort
import pytest

from winnow.images import sha256_of
from winnow.share.export import ParityFailed, export_learner
from winnow.share.prediction import load_predictor


def facts_of(onnx):
    return json.loads(ort.InferenceSession(str(onnx)).get_modelmeta().custom_metadata_map["winnow"])


def validation_files(learner):
    return list(learner.dls.valid_ds.items)


def test_both_paths_give_the_same_probabilities_for_original_files(trained_export, tiny_learner):
    files = validation_files(tiny_learner)
    light = load_predictor(trained_export).predict(files)
    heavy = load_predictor(trained_export, light=False).predict(files)
    labels = load_predictor(trained_export).labels
    one, two = (np.array([[p.probabilities[k] for k in labels] for p in run]) for run in (light, heavy))
    assert np.abs(one - two).max() < 1e-3
    assert [p.label for p in light] == [p.label for p in heavy]


def test_uncalibrated_answers_are_those_of_the_learner_itself(trained_export, tiny_learner):
    from fastai.vision.all import L

    expected = tiny_learner.get_preds(dl=tiny_learner.dls.test_dl(L(validation_files(tiny_learner))))[
        0
    ].numpy()
    predictor = load_predictor(trained_export)
    predictor.facts["targets"][0] |= {"temperature": 1.0, "prior": [1.0, 1.0]}
    got = [
        [p.probabilities[k] for k in predictor.labels]
        for p in predictor.predict(validation_files(tiny_learner))
    ]
    assert np.abs(np.array(got) - expected).max() < 1e-3


def test_the_metadata_says_what_the_app_needs(trained_export):
    facts = facts_of(trained_export.with_suffix(".onnx"))
    assert facts["digest"] == sha256_of(trained_export)
    assert facts["targets"][0]["labels"] == ["defective", "functional"]
    assert (facts["size"], facts["method"]) == (96, "squish")
    assert facts["trained"]["photos"] == 90 and facts["trained"]["checked"] == 30
    assert 0.1 < facts["targets"][0]["temperature"] < 50
    assert "defective and functional" in facts["knows"] and facts["versions"]["fastai"]


def test_the_export_names_no_folder_of_this_machine(trained_export, cell_photos):
    with zipfile.ZipFile(trained_export) as archive:
        inside = b"".join(archive.read(n) for n in archive.namelist())
    assert str(cell_photos).encode() not in inside
    assert str(cell_photos).encode() not in trained_export.with_suffix(".onnx").read_bytes()
    assert trained_export.stat().st_size < 20e6


def test_the_learner_is_as_before_after_an_export(trained_export, tiny_learner, cell_photos):
    assert tiny_learner.dls.path == cell_photos and len(tiny_learner.dls.valid_ds) == 30


def test_an_export_that_fails_leaves_the_old_files_as_they_were(own_export, tiny_learner):
    before = own_export.pkl.read_bytes(), own_export.onnx.read_bytes()
    tiny_learner.dls.valid.after_batch.add(brighten := Brighten())
    try:
        with pytest.raises(ParityFailed, match="differs from the learner"):
            export_learner(tiny_learner, own_export.pkl)
    finally:
        tiny_learner.dls.valid.after_batch.fs.remove(brighten)
    assert (own_export.pkl.read_bytes(), own_export.onnx.read_bytes()) == before
    assert sorted(p.name for p in own_export.pkl.parent.iterdir()) == ["export.onnx", "export.pkl"]


def Brighten():
    """A preprocessing step that the light path knows nothing of."""
    from fastai.vision.all import TensorImage, Transform

    class Brightened(Transform):
        order = 100

        def encodes(self, x: TensorImage):
            return x + 2

    return Brightened()
