"""The estimate: its interval holds the truth, reviews narrow it, and it says when to stop."""

import numpy as np
import pytest

from tests.test_suspects import CLASSES, blobs
from winnow.clean.estimate import estimate_errors, expected_share
from winnow.clean.scoring import score_labels


def scored(wrong, seed=0, n=600):
    features, labels, bad = blobs(n=n, wrong=wrong, spread=2.5, seed=seed)
    found = score_labels(features, labels, n_classes=CLASSES)
    return found.suspicion, expected_share(found.probs, labels), bad


@pytest.mark.parametrize("wrong", [0.02, 0.05, 0.1, 0.2, 0.3])
def test_the_interval_holds_the_true_number(wrong):
    held = []
    for seed in range(4):
        suspicion, share, bad = scored(wrong, seed)
        estimate = estimate_errors(suspicion, share)
        held.append(estimate.low <= bad.sum() <= estimate.high)
    assert sum(held) >= 3


def test_reviews_narrow_the_interval_and_are_counted():
    suspicion, share, bad = scored(0.1)
    widths = []
    for count in (0, 60, 200, 600):
        reviewed = np.zeros(600, bool)
        reviewed[np.argsort(-suspicion)[:count]] = True
        estimate = estimate_errors(suspicion, share, reviewed=reviewed, wrong=bad)
        assert estimate.found == (bad & reviewed).sum()
        assert estimate.reviewed == count
        widths.append(estimate.high - estimate.low)
    assert widths[0] > widths[1] > widths[2] > widths[3]
    assert estimate.wrong == bad.sum()


def test_the_reviews_it_names_find_nine_in_ten():
    shares = []
    for seed in range(5):
        suspicion, share, bad = scored(0.1, seed)
        estimate = estimate_errors(suspicion, share)
        looked = np.argsort(-suspicion)[: estimate.reviews]
        shares.append(bad[looked].sum() / bad.sum())
        assert estimate.reviews_low <= estimate.reviews <= estimate.reviews_high
    assert 0.8 < np.mean(shares) <= 1


def test_it_says_stop_when_all_is_found_and_go_on_before():
    suspicion, share, bad = scored(0.1)
    assert estimate_errors(suspicion, share).advice.startswith("Review about")
    reviewed = np.zeros(600, bool)
    reviewed[np.argsort(-suspicion)[:400]] = True
    assert estimate_errors(suspicion, share, reviewed=reviewed, wrong=bad).advice.startswith("Stop here")


def test_reviews_that_find_nothing_lower_the_number():
    suspicion, share, _ = scored(0.1)
    reviewed = np.zeros(600, bool)
    reviewed[np.argsort(-suspicion)[:50]] = True
    after = estimate_errors(suspicion, share, reviewed=reviewed, wrong=np.zeros(600, bool))
    assert after.wrong < 0.5 * estimate_errors(suspicion, share).wrong


@pytest.mark.parametrize("n", [0, 1, 5, 12])
def test_few_photos_give_an_estimate_without_a_fault(n):
    suspicion = np.linspace(0.9, 0.1, n)
    probs = np.c_[1 - suspicion, suspicion]
    estimate = estimate_errors(suspicion, expected_share(probs, np.zeros(n, int)))
    assert 0 <= estimate.low <= estimate.wrong <= estimate.high <= n
