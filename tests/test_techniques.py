"""What a practitioner does beyond the first training, and the silent failures that it must not have."""

import shutil

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.mixup import MixUp
from fastai.callback.training import GradientAccumulation
from fastai.losses import LabelSmoothingCrossEntropyFlat

from winnow.catalog import Catalog
from winnow.learn.calibration import apply_temperature, calibration_error, fit_temperature, restore_prior
from winnow.learn.callbacks import Accumulate, BestWeights, NothingLearned
from winnow.learn.ensembles import combine, predict_tta, probe_ensemble
from winnow.learn.evaluation import evaluate
from winnow.learn.loaders import make_loaders
from winnow.learn.progressive import Step, UnfitSchedule, set_size, train_progressively
from winnow.learn.targets import (
    NoSuchTarget,
    fine_tune_targets,
    make_multi_learner,
    predict_targets,
    view,
)
from winnow.learn.training import fine_tune, make_learner, score
from winnow.learn.variation import Spread, compare_paired, repeat, repeat_probe


@pytest.fixture(scope="module")
def catalog(cell_photos, tmp_path_factory):
    """40 functional and 20 defective cells; `shade` says whether a cell is darker than most: a target one can see."""
    folder = tmp_path_factory.mktemp("techniques") / "cells"
    for label, count in (("functional", 40), ("defective", 20)):
        (folder / label).mkdir(parents=True)
        for file in sorted((cell_photos / label).glob("*.png"))[:count]:
            shutil.copy(file, folder / label)
    catalog = Catalog(folder)
    light = {p.path: np.asarray(catalog.open(p.path)).mean() for p in catalog.photos()}
    middle = np.median(list(light.values()))
    catalog.set_target(
        "shade", {path: "dark" if value < middle else "light" for path, value in light.items()}
    )
    return catalog


@pytest.fixture
def learn(catalog):
    learn = make_learner(make_loaders(catalog, size=48, batch_size=8, weighted=1.0))
    with learn.no_bar(), learn.no_logging():
        yield learn


def drawn_share(dls, label, epochs=40):
    labels = np.array([int(dls.train_ds.tls[1][i]) for i in range(len(dls.train_ds))])
    rows = np.concatenate([dls.train.get_idxs() for _ in range(epochs)])
    return (labels[rows] == dls.vocab.o2i[label]).mean()


def test_a_schedule_trains_one_learner_at_each_size_and_keeps_its_sampling_weights(learn):
    body = learn.model
    outcomes = train_progressively(learn, [(48, 1), Step(64, 1, method="crop", batch_size=4)], keep="last")
    assert len(outcomes) == 2 and learn.model is body
    assert (learn.recipe["size"], learn.recipe["method"], learn.recipe["batch_size"]) == (64, "crop", 4)
    assert learn.dls.one_batch()[0].shape == (4, 3, 64, 64)
    assert abs(drawn_share(learn.dls, "defective") - 0.5) < 0.05


def test_the_learning_rate_is_halved_from_size_to_size_unless_given(learn, monkeypatch):
    rates = []
    monkeypatch.setattr(
        "winnow.learn.progressive.fine_tune", lambda learn, epochs, *, lr, **options: rates.append(lr)
    )
    train_progressively(learn, [(48, 1), (56, 1), Step(64, lr=9.0), (64, 1)], lr=0.8)
    assert rates == pytest.approx([0.8, 0.4, 9.0, 0.1])


def test_one_cycle_goes_through_all_sizes_and_is_judged_at_the_last(learn):
    seen = []

    class Watch(Callback):
        order = 90  # after the rate of this batch was set

        def before_batch(self):
            if self.training:
                seen.append((tuple(self.xb[0].shape[2:]), self.opt.hypers[-1]["lr"]))

    schedule = [Step(48, 2, method="random"), Step(64, 1, method="squish", accumulate=2)]
    (outcome,) = train_progressively(learn, schedule, lr=1e-3, one_cycle=True, keep="last", cbs=[Watch()])
    sizes, rates = [size for size, _ in seen], np.array([rate for _, rate in seen])
    assert sizes == sorted(sizes) and set(sizes) == {(48, 48), (64, 64)}
    assert sizes.count((48, 48)) == 2 * sizes.count((64, 64))
    assert (np.diff(rates[rates.argmax() :]) <= 0).all() and rates.argmax() < sizes.index((64, 64))
    assert learn.dls.recipe["size"] == learn.recipe["size"] == 64
    assert learn.recipe["schedule"] == [[48, 2], [64, 1]] and learn.recipe["fine_tune"]["epochs"] == 3
    assert outcome.after == score(learn)


def test_a_step_may_not_have_a_rate_of_its_own_in_one_cycle(learn):
    with pytest.raises(UnfitSchedule, match="leave the steps' own lr out"):
        train_progressively(learn, [Step(48), Step(64, lr=1e-4)], one_cycle=True)


def test_a_cycle_that_is_stopped_leaves_the_loaders_of_the_last_size(learn):
    class Stop(Callback):
        def before_batch(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_progressively(learn, [Step(48), Step(64)], one_cycle=True, cbs=[Stop()])
    assert learn.dls.recipe["size"] == 64 and learn.dls.one_batch()[0].shape[2:] == (64, 64)


def test_a_new_size_changes_nothing_else(learn):
    before = dict(learn.recipe)
    set_size(learn, 56)
    assert {name for name in before if before[name] != learn.recipe[name]} == {"size"}


def test_accumulated_batches_give_the_step_of_one_large_batch(catalog):
    def trained(batch_size, cbs):
        learn = make_learner(make_loaders(catalog, size=48, batch_size=batch_size, augment="none"))
        with learn.no_bar(), learn.no_logging():
            learn.freeze_to(-1)
            learn.fit(1, 1e-3, cbs=cbs)
        return learn.model[1][1].weight.detach()

    large, small = trained(48, []), trained(8, [Accumulate(6)])
    assert torch.allclose(large, small, atol=2e-5)


def test_leftover_batches_are_stepped_at_the_end_of_an_epoch(learn):
    before = learn.model[1][1].weight.detach().clone()
    fine_tune(learn, 1, depth="head", keep="last", cbs=[Accumulate(1000)])
    assert not torch.equal(before, learn.model[1][1].weight)


def test_a_fit_without_one_optimizer_step_is_an_error(learn):
    with pytest.raises(NothingLearned, match="without one optimizer step"):
        fine_tune(learn, 1, depth="head", cbs=[GradientAccumulation(10_000)])


def test_the_best_epoch_is_kept_and_no_file_of_an_earlier_run_is_read(learn, tmp_path):
    learn.path, seen = tmp_path, []
    best = BestWeights()
    learn.freeze_to(-1)
    learn.fit(1, 1e-3, cbs=[best])
    first = learn.model[1][1].weight.detach().clone()
    seen = [torch.equal(first, learn.model[1][1].weight)]
    learn.fit(2, 50.0, cbs=[best])  # spoils the head: whatever is kept comes from this fit
    assert (
        seen == [True]
        and not torch.equal(first, learn.model[1][1].weight)
        and not list(tmp_path.rglob("*.pth"))
    )


def test_mixup_and_label_smoothing_go_in_as_fastais_own(catalog):
    learn = make_learner(
        make_loaders(catalog, size=48, batch_size=8), loss_func=LabelSmoothingCrossEntropyFlat(eps=0.1)
    )
    with learn.no_bar(), learn.no_logging():
        outcome = fine_tune(learn, 1, depth="head", keep="last", cbs=[MixUp(0.3)])
    assert 0 < outcome.after.macro_f1 <= 1


def test_an_albumentations_pipeline_changes_training_photos_only(catalog):
    albumentations = pytest.importorskip("albumentations")
    pipeline = albumentations.Compose([albumentations.InvertImg(p=1.0)])
    plain, turned = (
        make_loaders(catalog, size=48, batch_size=8, augment="none", pipeline=p) for p in (None, pipeline)
    )
    for name, inverted in (("train", True), ("valid", False)):
        one, two = (getattr(d, name).new(shuffled=False).one_batch()[0] for d in (plain, turned))
        assert torch.allclose(one, -two if inverted else two, atol=0.01)


def test_tta_puts_the_true_shares_of_the_classes_back(learn):
    probs, labels = predict_tta(learn, n=1, beta=1.0)
    plain = learn.get_preds()[0].numpy()
    expected = plain * np.array(learn.recipe["prior"]) / np.array(learn.recipe["sampled_prior"])
    assert np.allclose(probs, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    assert labels.tolist() == [int(y) for _, y in learn.dls.valid_ds]


def test_a_restored_prior_makes_weighted_probabilities_honest_again():
    random = np.random.default_rng(0)
    rare = random.random(20_000) < 0.1
    x = rare * 1.0 + random.normal(size=20_000)
    odds = np.exp(x - 0.5)  # the likelihood ratio: what a model believes after sampling both classes equally
    believed = np.c_[1 / (1 + odds), odds / (1 + odds)]
    honest = restore_prior(believed, prior=[0.9, 0.1], sampled_prior=[0.5, 0.5])
    loss = [-np.log(p[np.arange(20_000), rare.astype(int)]).mean() for p in (believed, honest)]
    assert loss[1] < loss[0] - 0.2 and believed[:, 1].mean() > 0.3
    assert honest[:, 1].mean() == pytest.approx(0.1, abs=0.01)


def test_a_temperature_undoes_overconfidence_and_changes_no_answer():
    random = np.random.default_rng(1)
    logits = random.normal(size=(4000, 3))
    labels = np.array([random.choice(3, p=p) for p in apply_temperature(np.exp(logits), 1.0)])
    sure = apply_temperature(np.exp(logits * 3), 1.0)
    temperature = fit_temperature(sure, labels)
    calm = apply_temperature(sure, temperature)
    assert temperature == pytest.approx(3, rel=0.1)
    assert calibration_error(calm, labels) < 0.03 < 0.1 < calibration_error(sure, labels)
    assert (calm.argmax(1) == sure.argmax(1)).all()


def test_repeating_gives_mean_and_spread_and_pairs_tell_chance_from_difference():
    spread = repeat(lambda seed: 0.8 + seed / 100, 3, seed=1)
    assert spread.values == pytest.approx((0.81, 0.82, 0.83)) and spread.deviation == pytest.approx(0.01)
    noisy = Spread((0.70, 0.80, 0.75, 0.85))
    better = Spread(tuple(v + g for v, g in zip(noisy.values, (0.02, 0.021, 0.019, 0.022), strict=True)))
    other = Spread((0.80, 0.72, 0.83, 0.78))
    assert compare_paired(better, noisy).is_real and not compare_paired(other, noisy).is_real
    with pytest.raises(ValueError, match="can't be paired"):
        compare_paired([0.5], [0.6])


def test_a_probe_is_repeated_over_random_splits():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    features = (labels[:, None] * 0.8 + random.normal(size=(200, 20))).astype("f4")
    spread = repeat_probe(features, labels, ["a", "b"], 4)
    assert len(set(spread.values)) > 1 and 0.6 < spread.mean < 1 and 0 < spread.deviation < 0.2


def test_a_mean_of_members_that_err_differently_beats_the_best_of_them():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    members = {
        name: apply_temperature(np.exp(np.eye(3)[labels] + random.normal(size=(900, 3))), 1.0)
        for name in "abc"
    }
    sides = [{name: p[part] for name, p in members.items()} for part in (slice(0, 500), slice(500, 900))]
    ensemble = combine(*sides, labels[:500], labels[500:], ["x", "y", "z"])
    best = ensemble.scores[ensemble.best_single].macro_f1
    assert ensemble.scores["mean"].macro_f1 > best and ensemble.scores["stack"].macro_f1 > best - 0.03
    with pytest.raises(ValueError, match="two or more members"):
        combine({"a": members["a"]}, {"a": members["a"]}, labels, labels, ["x", "y", "z"])


def test_probes_at_two_sizes_are_combined_on_the_frozen_split(catalog):
    catalog.split()
    lite = "tf_efficientnet_lite0"
    ensemble = probe_ensemble(catalog, views=[(lite, 48), (lite, 64)])
    assert {"mean", "stack"} < ensemble.scores.keys() and len(ensemble.members) == 2
    assert len(ensemble.probs["mean"]) == len(catalog.photos(split="valid"))


def test_each_of_several_targets_is_learned_and_is_an_ordinary_learner(catalog, tmp_path):
    learn = make_multi_learner(catalog, ["label", "shade"], size=48, batch_size=8, augment="none")
    with learn.no_bar(), learn.no_logging():
        fine_tune_targets(learn, 1)
    photo = catalog.photos(split="valid")[0]
    answer = predict_targets(learn, catalog.file(photo.path))
    assert {name: sorted(values) for name, values in answer.items()} == {
        "label": ["defective", "functional"],
        "shade": ["dark", "light"],
    }
    shade = view(learn, "shade")
    with shade.no_bar(), shade.no_logging():
        probs, labels = shade.tta(n=1)
        assert torch.allclose(probs.sum(dim=1), torch.ones(len(probs)), atol=1e-4)
        assert evaluate(labels.numpy(), probs.numpy(), list(shade.dls.vocab)).accuracy > 0.6
        shade.show_results(max_n=2)
    with pytest.raises(NoSuchTarget, match="choose one of label, shade"):
        view(learn, "colour")


def test_an_unknown_target_is_refused_before_anything_is_trained(catalog):
    with pytest.raises(NoSuchTarget, match="this dataset has label, shade"):
        make_multi_learner(catalog, ["label", "colour"])


@pytest.mark.parametrize(
    ("backbone", "size"), [("swin_s3_tiny_224", 112), ("convnext_atto", 64), ("vit_tiny_patch16_224", 96)]
)
def test_bodies_that_fastai_itself_fails_on_give_one_vector_a_photo_and_train(
    catalog, monkeypatch, backbone, size
):
    from winnow.learn import backbones

    untrained = backbones._made_for(backbone, size, pretrained=False)  # the hub's weights need a network
    monkeypatch.setattr(backbones, "_from_hub", lambda *a: untrained)
    learn = make_learner(make_loaders(catalog, size=size, batch_size=8), backbone=backbone, probe=None)
    with learn.no_bar(), learn.no_logging():
        fine_tune(learn, 1, depth="head", keep="last")
    assert learn.model[0] is untrained and learn.model[1][1].in_features == untrained.num_features
    if backbone == "convnext_atto":  # its pretrained last norm, which fastai drops
        assert "0.head.norm.weight" in learn.model.state_dict()
