"""Scores: the same as scikit-learn's, beside the majority baseline, with intervals that mean something."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from winnow.learn.evaluation import auroc, evaluate, majority_baseline


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(2, 80), st.integers(0, 10_000))
def test_scores_are_those_of_sklearn(k, n, seed):
    random = np.random.default_rng(seed)
    labels, probs = random.integers(0, k, n), random.dirichlet(np.ones(k), n)
    guesses = probs.argmax(axis=1)
    ours = evaluate(labels, probs, [str(i) for i in range(k)], resamples=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ours.accuracy == pytest.approx(metrics.accuracy_score(labels, guesses))
        assert ours.macro_f1 == pytest.approx(metrics.f1_score(labels, guesses, average="macro"))
        assert ours.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, guesses))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=50))
def test_auroc_counts_ties_half_as_sklearn_does(pairs):
    labels, scores = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs], float)
    if labels.all() or not labels.any():
        assert auroc(labels, scores) is None
    else:
        assert auroc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores))


def test_the_majority_baseline_is_right_as_often_as_its_class_occurs():
    scores = majority_baseline([0, 0, 1], [0] * 7 + [1] * 3, ["a", "b"])
    assert scores.accuracy == 0.7 and scores.balanced_accuracy == 0.5
    assert scores.recall == {"a": 1.0, "b": 0.0} and scores.macro_f1 == pytest.approx(0.7 / 1.7)


def test_a_class_that_does_not_occur_has_no_recall_and_spoils_nothing():
    scores = evaluate([0, 0, 1], np.eye(3)[[0, 0, 1]], ["a", "b", "never"])
    assert np.isnan(scores.recall["never"]) and scores.balanced_accuracy == 1 and scores.macro_f1 == 1


def test_intervals_hold_the_score_and_narrow_with_more_photos():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 1600)
    p = np.clip(labels * 0.3 + random.normal(0.35, 0.25, 1600), 0, 1)
    few = evaluate(labels[:100], np.c_[1 - p, p][:100], ["a", "b"])
    many = evaluate(labels, np.c_[1 - p, p], ["a", "b"])
    for scores in (few, many):
        for name, (low, high) in scores.intervals.items():
            assert low < getattr(scores, name) < high
    width = [s.intervals["macro_f1"][1] - s.intervals["macro_f1"][0] for s in (few, many)]
    assert width[1] < width[0] / 2


def test_probabilities_that_fit_no_labels_are_refused():
    with pytest.raises(ValueError, match="don't fit"):
        evaluate([0, 1], np.ones((3, 2)) / 2, ["a", "b"])
