"""Margins of a training run: each photo gets its own, and they reach the suspects."""

import shutil

import numpy as np
import pytest

from winnow.catalog import Catalog
from winnow.clean.suspects import find_suspects
from winnow.images import sha256_of


@pytest.fixture(scope="module")
def trained(cell_photos, tmp_path_factory):
    """A learner whose linear model saw 120 cells for 12 epochs; six labels were wrong."""
    import torch
    from fastai.vision.all import CrossEntropyLossFlat, Learner

    from winnow.learn.dynamics import MarginWatch
    from winnow.learn.loaders import make_loaders

    folder = tmp_path_factory.mktemp("dynamics") / "cells"
    shutil.copytree(cell_photos, folder)
    for name in sorted((folder / "defective").glob("*.png"))[:6]:
        name.rename(folder / "functional" / f"wrong-{name.name}")
    catalog = Catalog(folder)
    catalog.split(valid=0.1)
    dls = make_loaders(catalog, size=32, batch_size=16, augment="none")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32 * 3, 2))
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), cbs=MarginWatch())
    with learn.no_bar(), learn.no_logging():
        learn.fit(12, 1e-3)
    return catalog, learn


def test_every_training_photo_that_was_drawn_has_a_margin_by_its_hash(trained):
    catalog, learn = trained
    train = {sha256_of(catalog.file(photo.path)) for photo in catalog.photos(split="train")}
    assert set(learn.label_margins) == train


def test_a_margin_is_that_of_the_photo_and_not_of_its_neighbour_in_the_batch(trained):
    """The mean over the epochs goes with what the final model thinks of the same photo."""
    import torch

    catalog, learn = trained
    photos = catalog.photos(split="train")
    dl = learn.dls.test_dl([catalog.file(photo.path) for photo in photos])
    with learn.no_bar(), torch.no_grad():
        probs = learn.get_preds(dl=dl)[0].numpy()
    own = np.array([list(learn.dls.vocab).index(photo.label) for photo in photos])
    rows = np.arange(len(photos))
    final = np.log(probs[rows, own]) - np.log(probs[rows, 1 - own])
    mean = np.array([learn.label_margins[photo.sha256] for photo in photos])
    assert np.corrcoef(final, mean)[0, 1] > 0.9


def test_the_margins_move_the_suspects(trained):
    catalog, learn = trained
    alone = {row.path: row.score for row in find_suspects(catalog, sizes=(96,))}
    found = find_suspects(catalog, sizes=(96,), learn=learn)
    both = {row.path: row.score for row in found}
    moved = {photo.path for photo in catalog.photos() if abs(alone[photo.path] - both[photo.path]) > 1e-4}
    assert moved == moved & {photo.path for photo in catalog.photos(split="train")}
    assert len(moved) > 50
    below = {photo.path for photo in catalog.photos() if learn.label_margins.get(photo.sha256, 1) < 0}
    said = {row.path for row in found if "slow to believe" in row.reason}
    assert said
    assert said <= below


def test_an_export_carries_no_margins(trained, tmp_path):
    _, learn = trained
    from fastai.learner import load_learner

    learn.export(tmp_path / "export.pkl")
    assert load_learner(tmp_path / "export.pkl").label_margins is None
