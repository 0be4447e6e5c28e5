"""A learner that starts from the probe: ordinary for fastai, and never worse than the probe."""

import copy
import shutil
import warnings

import numpy as np
import pytest
import torch
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner

from winnow.catalog import Catalog
from winnow.learn.callbacks import LossNotANumber
from winnow.learn.features import extract_features
from winnow.learn.loaders import make_loaders
from winnow.learn.training import fine_tune, make_learner, probe_of, score

SIZE = 64


@pytest.fixture(scope="module")
def catalog(cell_photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "cells"
    for label in ("functional", "defective"):
        (folder / label).mkdir(parents=True)
        for file in sorted((cell_photos / label).glob("*.png"))[:40]:
            shutil.copy(file, folder / label)
    return Catalog(folder)


@pytest.fixture(scope="module")
def start(catalog):
    """A learner that was not trained; tests take copies of its weights."""
    learn = make_learner(make_loaders(catalog, size=SIZE, batch_size=16))
    learn.start = copy.deepcopy(learn.model.state_dict())
    return learn


@pytest.fixture
def learn(start):
    start.model.load_state_dict(start.start)
    start.unfreeze()
    start.opt = None
    with start.no_bar(), start.no_logging():
        yield start


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_before_training_it_gives_the_probes_probabilities(learn, catalog):
    probe = probe_of(learn.dls)
    rows = [i for i, photo in enumerate(catalog.photos()) if photo.split == "valid"]
    expected = probe.predict_proba(extract_features(catalog, size=SIZE)[rows])
    assert np.abs(learn.get_preds()[0].numpy() - expected).max() < 1e-3


def test_a_fine_tuning_that_makes_it_worse_is_not_kept(learn):
    outcome = fine_tune(learn, 1, lr=10.0, depth="head")
    assert outcome.after.macro_f1 <= outcome.before.macro_f1 and outcome.kept == "probe"
    assert same(learn.model.state_dict(), learn.start)
    assert score(learn).macro_f1 == outcome.scores.macro_f1


def test_training_leaves_norm_statistics_and_the_early_half_as_they_were(learn):
    fine_tune(learn, 1, lr=1e-3, keep="last")
    now = learn.model.state_dict()
    moved = {name for name in now if not torch.equal(now[name], learn.start[name])}
    assert not {name for name in moved if "running" in name or "num_batches" in name}
    assert not {name for name in moved if name.startswith(("0.conv_stem", "0.bn1", "0.blocks.0"))}
    assert {"1.1.weight", "0.conv_head.weight"} <= moved


def test_a_loss_that_is_no_number_raises_and_puts_the_weights_back(learn):
    with torch.no_grad():
        learn.model[1][1].bias[0] = float("nan")
    broken = copy.deepcopy(learn.model.state_dict())
    with pytest.raises(LossNotANumber, match=r"step 1.*smaller lr"):
        fine_tune(learn, 1)
    now = learn.model.state_dict()
    assert all(torch.equal(now[name], broken[name]) for name in now if name != "1.1.bias")


def test_no_epochs_stay_with_the_probe(learn):
    outcome = fine_tune(learn, 0)
    assert outcome.kept == "probe" and outcome.before is outcome.after


def test_the_rate_finder_suggests_and_puts_no_folder_into_the_dataset(learn, catalog, tmp_path, monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    found = learn.lr_find(num_it=12)
    assert 0 < found.valley < 10 and same(learn.model.state_dict(), learn.start)
    assert catalog.classes == ["defective", "functional"]


def test_show_results_interpretation_and_predict_work_as_on_any_learner(learn, catalog):
    import matplotlib

    matplotlib.use("Agg")
    learn.show_results(max_n=2)
    interpretation = ClassificationInterpretation.from_learner(learn)
    assert interpretation.confusion_matrix().sum() == len(learn.dls.valid_ds)
    interpretation.plot_top_losses(2)
    photo = catalog.photos(split="valid")[0]
    label, _, probs = learn.predict(catalog.file(photo.path))
    assert label in learn.dls.vocab and float(probs.sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("side", [0, 1])
def test_tta_keeps_photos_and_labels_together_on_both_sides(learn, side):
    labels = [int(learn.dls[side].dataset.tls[1][i]) for i in range(len(learn.dls[side].dataset))]
    probs, targets = learn.tta(ds_idx=side, n=2)
    assert targets.tolist() == labels and len(probs) == len(labels)


def test_an_export_is_an_ordinary_learner_without_photos_or_folders(learn, catalog, tmp_path):
    file = catalog.file(catalog.photos()[0].path)
    expected = learn.predict(file)[2]
    learn.path = tmp_path
    learn.export("export.pkl")
    learn.path = learn.dls.path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_learner(tmp_path / "export.pkl")
    with loaded.no_bar():
        assert torch.allclose(loaded.predict(file)[2], expected, atol=1e-4)
    assert loaded.catalog is None and loaded.recipe["classes"] == ["defective", "functional"]
    assert file.name.encode() not in (tmp_path / "export.pkl").read_bytes()
