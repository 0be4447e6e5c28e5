"""The export: the same model twice, proved equal on original files."""

import json
import shutil
import zipfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from winnow.images import sha256_of
from winnow.share.export import ParityFailed, export_learner
from winnow.share.graph import settle_padding
from winnow.share.prediction import ExportError, OnnxModel, load_predictor


def facts_of(path):
    return json.loads(ort.InferenceSession(str(path)).get_modelmeta().custom_metadata_map["winnow"])


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


@pytest.fixture(scope="module")
def catalog_learner(cell_photos, tmp_path_factory):
    """A learner as train.ipynb makes it: a catalog with a further target, weighted sampling, the probe's head."""
    from winnow.catalog import Catalog
    from winnow.learn.loaders import make_loaders
    from winnow.learn.training import make_learner

    folder = tmp_path_factory.mktemp("catalog") / "cells"
    shutil.copytree(cell_photos, folder)
    for extra in sorted((folder / "defective").iterdir())[30:]:
        extra.unlink()
    catalog = Catalog(folder)
    mean = {p.path: float(np.asarray(catalog.open(p.path)).mean()) for p in catalog.photos()}
    middle = sorted(mean.values())[len(mean) // 2]
    catalog.set_target("light", {path: "bright" if v > middle else "dim" for path, v in mean.items()})
    return make_learner(make_loaders(catalog, size=96, batch_size=16, weighted=True))


@pytest.fixture(scope="module")
def catalog_export(catalog_learner, tmp_path_factory):
    return export_learner(
        catalog_learner, tmp_path_factory.mktemp("export2") / "export.pkl", examples=3, check=20
    )


def test_further_targets_are_answered_the_same_on_both_paths(catalog_export, catalog_learner):
    files = catalog_learner.dls.valid_ds.items
    light, heavy = (load_predictor(catalog_export.pkl, light=light) for light in (True, False))
    assert light.targets == heavy.targets == {"light": ["bright", "dim"]}
    for one, two in zip(light.predict(files), heavy.predict(files), strict=True):
        assert one.targets["light"].probabilities == pytest.approx(
            two.targets["light"].probabilities, abs=1e-3
        )
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-3)
    assert catalog_export.facts["targets"][1]["accuracy"] > 0.6
    assert catalog_export.parity < 1e-3


@pytest.mark.parametrize("names", [["label", "light"], ["light", "label"]])
def test_several_trained_heads_travel_in_one_export_as_they_were_trained(catalog_learner, tmp_path, names):
    from winnow.learn.targets import fine_tune_targets, make_multi_learner, predict_targets

    learn = make_multi_learner(catalog_learner.catalog, names, size=96, batch_size=16)
    with learn.no_bar(), learn.no_logging():
        fine_tune_targets(learn, 1, depth="head", lr=0.05)
    made = export_learner(learn, tmp_path / "export.pkl", check=10)
    assert [target["name"] for target in made.facts["targets"]] == names and made.parity < 1e-3
    files = validation_files(learn.targets[names[0]])[:4]
    for light in (True, False):
        predictor = load_predictor(made.pkl, light=light)
        for target in predictor.facts["targets"]:
            target["temperature"] = 1.0
        for file, answer in zip(files, predictor.predict(files), strict=True):
            expected = predict_targets(learn, file)
            assert answer.probabilities == pytest.approx(expected[names[0]], abs=1e-3)
            assert answer.targets[names[1]].probabilities == pytest.approx(expected[names[1]], abs=1e-3)


def test_the_sampling_prior_is_undone(catalog_export, catalog_learner):
    """Sampling made the rare class likelier: the factors bring the learner's shares back to the photos' own."""
    recipe, (rare, common) = catalog_learner.recipe, catalog_export.facts["targets"][0]["prior"]
    assert recipe["sampled_prior"][0] > recipe["prior"][0] and rare < 1 < common
    assert np.allclose(np.array([rare, common]) * recipe["sampled_prior"], recipe["prior"])


def test_the_cells_of_a_timm_body_average_to_the_logits(catalog_export, catalog_learner):
    image = Image.open(catalog_learner.dls.valid_ds.items[0]).convert("RGB")
    raw = OnnxModel(catalog_export.onnx).run([image], cells=True)
    assert raw.cells.shape == (1, 9, 2)
    assert np.allclose(raw.cells.mean(1), raw.logits[:, :2], atol=1e-3)


def test_the_likeness_in_the_graph_is_the_likeness_that_was_fitted(catalog_export):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)) for _ in range(3)]
    answers = load_predictor(catalog_export.pkl).predict(noise)
    assert all(a.unlike and set(a.nearest) == {"defective", "functional"} for a in answers)


def test_few_photos_of_the_own_kind_are_called_none_of_these(catalog_export, catalog_learner):
    answers = load_predictor(catalog_export.pkl).predict(catalog_learner.dls.valid_ds.items)
    assert sum(a.unlike for a in answers) <= 1


def test_examples_travel_with_the_export_only_when_asked(catalog_export, trained_export):
    examples = catalog_export.facts["examples"]
    assert len(examples) == 3 and all(e["url"].startswith("data:image/jpeg;base64,") for e in examples)
    assert facts_of(trained_export.with_suffix(".onnx"))["examples"] == []


def test_the_export_of_a_catalog_names_neither_its_folder_nor_its_photos(catalog_export, catalog_learner):
    with zipfile.ZipFile(catalog_export.pkl) as archive:
        inside = b"".join(archive.read(n) for n in archive.namelist())
    for secret in (str(catalog_learner.catalog.folder), catalog_learner.dls.train_ds.items[0].name):
        assert secret.encode() not in inside
        assert secret.encode() not in catalog_export.onnx.read_bytes()
    assert len(catalog_export.facts["dataset"]) == 64


def test_an_ordinary_fastai_learner_with_a_pooling_head_is_exported_too(cell_photos, tmp_path):
    """fastai's own `create_head`: concatenated pooling, batch norm, two layers."""
    from fastai.vision.all import ImageDataLoaders, Learner, Resize, create_head, nn

    dls = ImageDataLoaders.from_folder(
        cell_photos, valid_pct=0.5, seed=2, item_tfms=Resize(64), bs=8, num_workers=0
    )
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 4, 1))
    learn = Learner(dls, nn.Sequential(body, create_head(16, 2)), loss_func=nn.CrossEntropyLoss())
    export = export_learner(learn, tmp_path / "export.pkl")
    assert export.parity < 1e-3 and export.facts["method"] == "crop" and export.facts["cells"] == [4, 4]


def test_a_read_only_folder_is_one_sentence(tiny_learner, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ExportError, match="read-only"):
        export_learner(tiny_learner, tmp_path / "export.pkl")
    assert list(tmp_path.iterdir()) == []


def test_padding_that_a_graph_works_out_from_its_pixels_becomes_numbers(tmp_path):
    """A convolution with TensorFlow's padding, as EfficientNet has: the same answers, for any number of photos."""
    graph, pixels = (
        write_same_padded(tmp_path / "graph.onnx"),
        np.random.default_rng(0).random((3, 3, 7, 7), "f4"),
    )
    before = answers_of(graph, pixels)
    assert {"Shape", "Ceil"} <= kinds_of(graph)
    settle_padding(graph, pixels[:2])
    assert not {"Shape", "Ceil"} & kinds_of(graph)
    assert np.array_equal(answers_of(graph, pixels), before)
    assert np.array_equal(answers_of(graph, pixels[:1]), before[:1])


def write_same_padded(path):
    from timm.layers import create_conv2d

    sample = torch.zeros(2, 3, 7, 7)
    layer = create_conv2d(3, 4, 3, stride=2, padding="same").eval()
    axes = {name: {0: "photos"} for name in ("pixels", "seen")}
    torch.onnx.export(layer, (sample,), str(path), dynamo=False, opset_version=17, input_names=["pixels"],
                      output_names=["seen"], dynamic_axes=axes)  # fmt: skip
    return path


def answers_of(path, pixels):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels})[
        0
    ]


def kinds_of(path):
    return {node.op_type for node in onnx.load(path).graph.node}
