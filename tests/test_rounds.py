"""A cleaning round: what a review was worth, on photos that stay the same."""

import shutil

import numpy as np
import pytest

from winnow.catalog import Catalog
from winnow.clean.rounds import NothingToMeasure, clean_round, paired_interval

SMALL = {"size": 96}


@pytest.fixture
def noisy(cell_photos, tmp_path):
    """120 sure solar cells, split, of which a third of the training side's defective ones are called functional."""
    folder = tmp_path / "cells"
    shutil.copytree(cell_photos, folder)
    catalog = Catalog(folder)
    catalog.split(valid=0.4)
    wrong = [photo.path for photo in catalog.photos(split="train", label="defective")][::3]
    for path in wrong:
        catalog.relabel(path, "functional")
    catalog.apply()
    planted = catalog.history()[-1].id
    names = {path.split("/")[1] for path in wrong}
    return catalog, names, planted


def fix(catalog, names):
    for photo in catalog.photos(label="functional"):
        if photo.path.split("/")[1] in names:
            catalog.relabel(photo.path, "defective")


def test_fixing_labels_raises_the_score_on_the_same_photos(noisy):
    catalog, names, planted = noisy
    sides = {photo.sha256: photo.split for photo in catalog.photos()}
    fix(catalog, names)
    done = clean_round(catalog, since=planted, **SMALL)
    assert done.after > done.before
    assert done.low <= done.gain <= done.high
    assert done.photos == len(catalog.photos(split="valid"))
    assert done.moves == {("functional", "defective"): len(names)}
    assert {photo.sha256: photo.split for photo in catalog.photos()} == sides
    assert "→" in str(done)


def test_pending_and_applied_choices_count_alike(noisy):
    catalog, names, planted = noisy
    fix(catalog, names)
    pending = clean_round(catalog, since=planted, **SMALL)
    catalog.apply()
    applied = clean_round(catalog, since=planted, **SMALL)
    assert (pending.before, pending.after) == pytest.approx((applied.before, applied.after), abs=0.03)
    assert pending.moves == applied.moves


def test_the_next_round_counts_only_what_is_new(noisy):
    catalog, names, planted = noisy
    fix(catalog, names)
    clean_round(catalog, since=planted, **SMALL)
    catalog.keep(catalog.photos(label="defective")[0].path)
    second = clean_round(catalog, **SMALL)
    assert (second.changed, second.kept) == ([], 1)
    assert second.before == second.after
    assert [run.params["changed"] for run in catalog.runs()] == [len(names), 0]


def test_what_was_reviewed_is_not_suggested_again_first(noisy):
    catalog, names, planted = noisy
    fix(catalog, names)
    done = clean_round(catalog, since=planted, **SMALL)
    assert done.suspects[0].reviewed is None
    assert sum(row.reviewed == "relabel" for row in done.suspects) == len(names)
    assert done.suspects.estimate().found >= len(names)


def test_a_removed_photo_was_trained_on_before_and_is_not_after(noisy):
    catalog, _, _ = noisy
    clean_round(catalog, **SMALL)
    for photo in catalog.photos(split="train", label="defective")[:12]:
        catalog.remove(photo.path)
    waiting = clean_round(catalog, since=catalog.history()[-13].id, **SMALL)
    catalog.apply()
    gone = clean_round(catalog, since=catalog.history()[-13].id, **SMALL)
    assert waiting.moves == gone.moves == {("defective", ""): 12}
    assert (waiting.before, waiting.after) == pytest.approx((gone.before, gone.after), abs=0.03)
    assert waiting.before > waiting.after


def test_a_dataset_without_a_training_side_is_one_sentence(cell_photos, tmp_path):
    for label in ("functional", "defective"):
        (tmp_path / "cells/train/empty").mkdir(parents=True, exist_ok=True)
        shutil.copytree(cell_photos / label, tmp_path / "cells/valid" / label)
    with pytest.raises(NothingToMeasure, match="training side"):
        clean_round(Catalog(tmp_path / "cells"), **SMALL)


def test_the_interval_is_that_of_a_paired_bootstrap_over_photos():
    random = np.random.default_rng(0)
    before, after = random.random(300) < 0.8, random.random(300) < 0.85
    gain = after.astype(int) - before
    drawn = gain[random.integers(0, 300, (4000, 300))].mean(axis=1)
    assert paired_interval(before, after) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    assert paired_interval(before, before) == (0, 0)
