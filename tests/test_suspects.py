"""Suspects: planted wrong labels come first, nobody votes on its own label, and every reason is true."""

import csv
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from winnow.catalog import Catalog
from winnow.clean import index, views
from winnow.clean.folder import LookedAtFolder
from winnow.clean.report import CannotWrite, write_suspects
from winnow.clean.scoring import score_labels
from winnow.clean.suspects import NothingToClean, find_suspects
from winnow.cli import app

CLASSES = 4


def blobs(n=400, wrong=0.1, spread=1.0, seed=0, width=40):
    """Features of four blobs, labels of which a share is wrong, and the mask of the wrong ones."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, CLASSES, n)
    features = random.normal(size=(CLASSES, width))[truth] + random.normal(size=(n, width)) * spread
    bad = np.zeros(n, bool)
    bad[random.choice(n, round(wrong * n), replace=False)] = True
    labels = np.where(bad, (truth + random.integers(1, CLASSES, n)) % CLASSES, truth)
    return features.astype(np.float32), labels, bad


def average_precision(scores, truth):
    hits = truth[np.argsort(-scores, kind="stable")]
    return (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()


def test_planted_errors_come_first():
    features, labels, bad = blobs()
    assert average_precision(score_labels(features, labels, n_classes=CLASSES).suspicion, bad) > 0.97


def test_all_views_together_beat_the_probe_alone():
    gains = []
    for seed in range(4):
        features, labels, bad = blobs(spread=3.0, seed=seed)
        found = score_labels(features, labels, n_classes=CLASSES)
        own = found.views["probe"][np.arange(len(labels)), labels]
        gains.append(average_precision(found.suspicion, bad) / average_precision(-own, bad))
    assert np.mean(gains) > 1.03
    assert min(gains) > 1


def test_the_suggestion_is_the_true_class():
    features, labels, bad = blobs(seed=3)
    truth = score_labels(features, np.where(bad, 0, labels), n_classes=CLASSES)
    found = score_labels(features, labels, n_classes=CLASSES)
    assert (found.suggested[bad] != labels[bad]).mean() > 0.95
    assert (found.suggested[~bad] == labels[~bad]).mean() > 0.95
    assert set(truth.suggested) <= set(range(CLASSES))


def test_a_left_out_prediction_is_that_of_a_regression_without_the_row():
    features, labels, _ = blobs(n=60, width=8)
    x, targets = views.prepare(features)[0], np.eye(CLASSES)[labels]
    quick = views.left_out_regression(x, targets, penalty=0.5)
    for row in (0, 7, 59):
        rest = np.delete(np.arange(60), row)
        # the same penalty and centring as with the row: subtract its part from both sums
        gram = x[rest].T @ x[rest] + 60 * 0.5 * np.eye(8)
        design = np.c_[x[rest], np.ones(59)]
        left = np.zeros((9, 9))
        left[:8, :8] = gram
        left[:8, 8] = left[8, :8] = x[rest].sum(axis=0)
        left[8, 8] = 59
        weight = np.linalg.solve(left, design.T @ targets[rest])
        assert np.allclose(np.r_[x[row], 1] @ weight, quick[row], atol=2e-3)


@pytest.mark.parametrize("view", [views.kernel_view, views.prototype_view])
def test_no_view_learns_from_a_photos_own_label_or_its_duplicates(view):
    features, labels, _ = blobs(n=200)
    features[1] = features[0]  # a duplicate, and both carry the same label
    groups = np.array([0, 0, *range(1, 199)])
    other = labels.copy()
    other[:2] = (labels[:2] + 1) % CLASSES
    features, _ = views.prepare(features)
    before = view(features, labels, n_classes=CLASSES, groups=groups)
    after = view(features, other, n_classes=CLASSES, groups=groups)
    assert np.abs(before[0] - after[0]).max() < 0.03
    alone = view(features, other, n_classes=CLASSES)
    assert np.abs(before[0] - alone[0]).max() > np.abs(before[0] - after[0]).max()


def test_neighbours_are_nearest_first_and_never_the_photo_or_its_duplicate():
    features, _, _ = blobs(n=150)
    groups = np.arange(150)
    groups[:3] = 0
    nearest, similarity = views.find_neighbours(*views.prepare(features), votes=10, groups=groups)
    assert (np.diff(similarity, axis=1) <= 1e-6).all()
    assert not (nearest == np.arange(150)[:, None]).any()
    assert not np.isin(nearest[:3], [0, 1, 2]).any()
    roots = np.sign(features) * np.sqrt(np.abs(features))
    unit = views.normalise(roots - roots.mean(axis=0))
    truth = unit @ unit.T
    truth[groups[:, None] == groups] = -2
    assert (nearest[:, 0] == truth.argmax(axis=1)).all()


def test_very_many_photos_are_searched_by_an_index_with_nearly_the_same_answer(monkeypatch):
    features, labels, bad = blobs(n=600)
    prepared, groups = views.prepare(features), np.arange(600)
    groups[:4] = 0
    exact, _ = views.find_neighbours(*prepared, votes=10, groups=groups)
    monkeypatch.setattr(index, "EXACT_UP_TO", 100)
    nearest, similarity = views.find_neighbours(*prepared, votes=10, groups=groups)
    assert nearest.shape == exact.shape and (np.diff(similarity, axis=1) <= 0).all()
    assert not (nearest == np.arange(600)[:, None]).any() and not np.isin(nearest[:4], range(4)).any()
    shared = np.mean([len(set(a) & set(b)) for a, b in zip(nearest, exact, strict=True)]) / 10
    assert shared > 0.97
    assert average_precision(score_labels(features, labels, n_classes=CLASSES).suspicion, bad) > 0.95


def test_above_the_limit_a_part_of_the_photos_votes(monkeypatch):
    monkeypatch.setattr(views, "VOTERS", 100)
    features, labels, bad = blobs(n=400)
    nearest, _ = views.find_neighbours(*views.prepare(features), votes=10)
    assert len(np.unique(nearest)) <= 100
    assert average_precision(score_labels(features, labels, n_classes=CLASSES).suspicion, bad) > 0.95


def test_a_useless_set_of_features_is_silenced():
    features, labels, bad = blobs()
    noise = np.random.default_rng(9).normal(size=features.shape).astype(np.float32)
    found = score_labels([features, noise], labels, n_classes=CLASSES)
    useful = sum(weight for name, weight in found.weights.items() if not name.endswith(" 2"))
    assert useful > 5 * (sum(found.weights.values()) - useful)
    assert average_precision(found.suspicion, bad) > 0.97


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 12])
def test_a_handful_of_photos_gives_scores_without_a_fault(n):
    features, labels, _ = blobs(n=60)
    found = score_labels(features[:n], labels[:n], n_classes=CLASSES)
    assert found.suspicion.shape == (n,)
    assert np.isfinite(found.suspicion).all()


@pytest.fixture
def cells(cell_photos, tmp_path):
    """A folder of 120 sure solar cells in which six labels are wrong."""
    folder = tmp_path / "cells"
    shutil.copytree(cell_photos, folder)
    for name in sorted(folder.glob("defective/*.png"))[:6]:
        name.rename(folder / "functional" / name.name)
    return folder


def test_every_photo_is_listed_once_most_suspect_first(cells, tmp_path):
    catalog = Catalog(cells)
    found = find_suspects(catalog, sizes=(96,))
    assert sorted(row.path for row in found.only("label")) == [photo.path for photo in catalog.photos()]
    scores = [row.score for row in found]
    assert scores == sorted(scores, reverse=True)
    lines = list(csv.DictReader(found.to_csv(tmp_path / "s.csv").open()))
    assert list(lines[0]) == ["path", "label", "suggested", "score", "reason"]
    assert [line["path"] for line in lines] == [row.path for row in found]
    assert all((line["suggested"] != line["label"]) == (float(line["score"]) > 0.5) for line in lines)


def test_a_reason_counts_neighbours_truly(cells):
    catalog = Catalog(cells)
    labels = {photo.path: photo.label for photo in catalog.photos()}
    counted = 0
    for row in find_suspects(catalog, sizes=(96,)):
        if said := re.match(r"(\d+) of its (\d+) nearest neighbours are \*(.+?)\*", row.reason):
            votes = [labels[path] for path in row.neighbours]
            assert (votes.count(said[3]), len(votes)) == (int(said[1]), int(said[2]))
            counted += 1
    assert counted > 60


def test_what_a_person_decided_goes_to_the_end_and_counts(cells):
    catalog = Catalog(cells)
    first = find_suspects(catalog, sizes=(96,))
    catalog.keep(first[0].path)
    catalog.relabel(first[1].path, "defective" if first[1].label == "functional" else "functional")
    catalog.remove(first[2].path)
    assert (first.estimate().reviewed, first.estimate().found) == (3, 2)
    second = find_suspects(catalog, sizes=(96,))
    assert {row.path for row in second[-3:]} == {first[i].path for i in range(3)}
    assert {row.reviewed for row in second[-3:]} == {"keep", "relabel", "remove"}
    catalog.undo(3)
    assert first.estimate().reviewed == 0


def test_a_further_target_can_be_cleaned(cells):
    catalog = Catalog(cells)
    photos = catalog.photos()
    catalog.set_target(
        "brightness", {photo.path: "bright" if i % 2 else "dark" for i, photo in enumerate(photos[:80])}
    )
    found = find_suspects(catalog, sizes=(96,), target="brightness")
    assert len(found) == 80
    assert {row.label for row in found} == {"bright", "dark"}
    with pytest.raises(NothingToClean, match="target 'age'"):
        find_suspects(catalog, target="age")


@pytest.fixture
def one_small_view(monkeypatch, tmp_path):
    """The default views, made quick, and a cache of the test's own."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(LookedAtFolder, "cache", tmp_path / "cache")
    monkeypatch.setattr("winnow.clean.suspects.VIEWS", (("tf_efficientnet_lite0", 96),))


def test_the_command_lists_a_read_only_folder_and_leaves_it_as_it_was(
    cells, tmp_path, monkeypatch, one_small_view
):
    from typer.testing import CliRunner

    before = {path: path.read_bytes() for path in cells.rglob("*") if path.is_file()}
    for folder in [cells, *cells.iterdir()]:
        folder.chmod(0o555)
    try:
        ran = CliRunner().invoke(app, ["suspects", str(cells), "--out", str(tmp_path / "out.csv")])
    finally:
        for folder in [cells, *cells.iterdir()]:
            folder.chmod(0o755)
    assert ran.exit_code == 0, ran.output
    assert len(list(csv.DictReader((tmp_path / "out.csv").open()))) == len(before)
    assert {path: path.read_bytes() for path in cells.rglob("*") if path.is_file()} == before


def test_a_file_that_is_no_image_is_listed_with_the_reason(cells, tmp_path, one_small_view):
    (cells / "defective" / "broken.png").write_text("no image")
    write_suspects(cells, tmp_path / "out.csv")
    lines = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert lines[0]["path"] == "defective/broken.png"
    assert "Can't be read" in lines[0]["reason"]
    assert len(lines) == 121


def test_equal_files_never_vouch_for_each_other_even_before_duplicates_were_sought(cells, one_small_view):
    one = sorted((cells / "defective").glob("*.png"))[-1]
    for number in range(3):
        shutil.copy(one, cells / "functional" / f"copy{number}.png")
    found = find_suspects(LookedAtFolder(cells))
    assert len(found.only("label")) == 123
    for row in found.only("label"):
        if "copy" in row.path or one.name in row.path:
            assert not any("copy" in path or one.name in path for path in row.neighbours)


def test_a_csv_that_can_not_be_written_is_one_sentence(cells, tmp_path, one_small_view):
    with pytest.raises(CannotWrite, match="choose another --out"):
        write_suspects(cells, tmp_path / "nowhere" / "out.csv")


def test_given_sides_are_no_classes(tmp_path):
    for side in ("train", "valid"):
        for name in ("red", "blue"):
            (tmp_path / side / name).mkdir(parents=True)
            Image.new("RGB", (20, 20), name).save(tmp_path / side / name / "a.png")
    assert [(photo.label, photo.split) for photo in LookedAtFolder(tmp_path).photos()] == [
        ("blue", "train"), ("red", "train"), ("blue", "valid"), ("red", "valid"),
    ]  # fmt: skip


def test_a_photo_that_belongs_to_no_class_is_off_topic(cells):
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (300, 300, 3), np.uint8)).save(cells / "functional" / "noise.png")
    found = find_suspects(Catalog(cells), sizes=(96,)).only("off_topic")
    assert [row.path for row in found] == ["functional/noise.png"]
    assert "Far from every class" in found[0].reason


def test_rows_of_every_kind_stand_in_one_queue_and_can_be_chosen(cells, tmp_path):
    catalog = Catalog(cells)
    first, second, third = [photo.path for photo in catalog.photos()[:3]]
    catalog.add_row("duplicate", first, "The same photo as another.", {"others": [second]})
    catalog.add_row("leak", second, "Its copy is on the other side.", {"others": [third]})
    catalog.add_row("quality", third, "Dark.", {"kind": "dark", "score": 0.1})
    catalog.add_row("feedback", ".winnow/feedback/x.jpg", "A visitor says defective.", {"label": "defective"})
    catalog.keep(first)
    found = find_suspects(catalog, sizes=(96,))
    assert found.kinds == {"label": 120, "duplicate": 1, "leak": 1, "quality": 1, "feedback": 1}
    assert found.only("duplicate")[0].neighbours == [second]
    assert found.only("duplicate")[0].reviewed == "keep"
    assert found.only("feedback")[0].suggested == "defective"
    assert {row.kind for row in find_suspects(catalog, sizes=(96,), kinds=["leak", "quality"])} == {
        "leak",
        "quality",
    }
    lines = list(csv.DictReader(found.only("label", "leak").to_csv(tmp_path / "s.csv").open()))
    assert len(lines) == 120
    assert (
        "Its copy is on the other side." in next(line for line in lines if line["path"] == second)["reason"]
    )


def test_copies_that_were_found_stand_in_the_queue_and_never_vouch_for_each_other(cells):
    from winnow.clean.duplicates import find_duplicates

    one = sorted((cells / "defective").glob("*.png"))[-1]
    shutil.copy(one, cells / "functional" / "copy.png")
    catalog = Catalog(cells)
    find_duplicates(catalog)
    found = find_suspects(catalog, sizes=(96,))
    conflict = next(row for row in found.only("conflict") if row.path == "functional/copy.png")
    assert (conflict.suggested, conflict.neighbours) == ("defective", [f"defective/{one.name}"])
    row = next(row for row in found.only("label") if row.path == "functional/copy.png")
    assert f"defective/{one.name}" not in row.neighbours


def test_a_training_runs_margins_are_one_more_view():
    features, labels, bad = blobs(spread=4.0)
    margins = np.where(bad, -1.0, 1.0) + np.random.default_rng(0).normal(size=len(bad))
    margins[::3] = np.nan  # the validation side was not trained on
    alone = score_labels(features, labels, n_classes=CLASSES)
    both = score_labels(features, labels, n_classes=CLASSES, margins=margins)
    assert average_precision(both.suspicion, bad) > average_precision(alone.suspicion, bad) + 0.01
    assert np.allclose(both.suspicion[::3], alone.suspicion[::3])


def test_networks_can_be_loaded_after_an_index():
    code = (
        "import numpy as np; from winnow.clean.index import NearIndex; "
        "NearIndex(np.eye(8, dtype=np.float32)); import onnxruntime"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
