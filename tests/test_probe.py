"""The linear head: sure of itself, deterministic, and honest about rows that it has not seen."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from winnow.learn.probe import assign_folds, fit_probe, out_of_fold


def blobs(n=600, d=40, k=3, spread=0.45, seed=0):
    """Overlapping clouds: features (n, d) and labels (n,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, k, n)
    return (random.normal(size=(k, d))[labels] * spread + random.normal(size=(n, d))).astype("f4"), labels


def test_probabilities_add_up_and_reach_what_sklearn_reaches():
    x, y = blobs(1200)
    probe = fit_probe(x[:800], y[:800], n_classes=3)
    probs = probe.predict_proba(x[800:])
    peer = LogisticRegression(C=0.1, max_iter=500).fit(x[:800], y[:800]).score(x[800:], y[800:])
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert (probs.argmax(axis=1) == y[800:]).mean() > peer - 0.03 > 0.6


def test_the_same_seed_gives_the_same_probe_and_another_seed_another():
    x, y = blobs()
    one, two, other = (fit_probe(x, y, n_classes=3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.weight, two.weight) and np.array_equal(one.bias, two.bias)
    assert not np.array_equal(one.weight, other.weight)


def test_scale_and_offset_of_features_do_not_matter():
    x, y = blobs()
    plain = fit_probe(x, y, n_classes=3).predict_proba(x)
    moved = fit_probe(x * 300 + 7, y, n_classes=3).predict_proba(x * 300 + 7)
    assert np.abs(plain - moved).max() < 0.01


def test_a_feature_that_never_changes_does_no_harm():
    x, y = blobs()
    x[:, 0] = 3
    assert np.isfinite(fit_probe(x, y, n_classes=3).predict_proba(x)).all()


def test_out_of_fold_probabilities_know_nothing_of_their_own_label():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 400)).astype("f4"), random.integers(0, 2, 300)
    seen = (fit_probe(x, y, n_classes=2).predict_proba(x).argmax(axis=1) == y).mean()
    unseen = (out_of_fold(x, y, n_classes=2).argmax(axis=1) == y).mean()
    assert seen > 0.85 and abs(unseen - 0.5) < 0.12


def test_out_of_fold_finds_labels_that_were_swapped():
    x, y = blobs(900, spread=0.8)
    wrong = np.random.default_rng(1).choice(900, 60, replace=False)
    given = y.copy()
    given[wrong] = (given[wrong] + 1) % 3
    doubt = 1 - out_of_fold(x, given, n_classes=3)[np.arange(900), given]
    assert np.isin(np.argsort(-doubt)[:60], wrong).mean() > 0.8


def test_rows_of_a_group_share_a_fold_and_none_means_alone():
    labels = np.arange(100) % 2
    groups = [f"g{i // 4}" if i < 60 else None for i in range(100)]
    fold = assign_folds(labels, groups=groups)
    assert all(len(set(fold[start : start + 4])) == 1 for start in range(0, 60, 4))
    assert len(set(fold[60:])) == 5


def test_a_class_is_divided_evenly_among_folds():
    labels = np.repeat([0, 1], [93, 12])
    fold = assign_folds(labels, seed=3)
    for label in (0, 1):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_weightless_rows_are_not_learned_from():
    x, y = blobs(800, spread=0.8)
    given, weights = y.copy(), np.ones(800)
    given[:300], weights[:300] = (y[:300] + 1) % 3, 0
    fooled = fit_probe(x, given, n_classes=3).predict_proba(x).argmax(axis=1)
    told = fit_probe(x, given, n_classes=3, weights=weights).predict_proba(x).argmax(axis=1)
    assert (told == y).mean() > 0.9 > (fooled == y).mean()


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "do not fit"),
        (np.zeros((2, 2)), [0, 5], "2 classes"),
        (np.full((2, 2), np.nan), [0, 1], "not finite"),
        (np.zeros((0, 2)), [], "do not fit"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(features, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_probe(features, labels, n_classes=2)
