"""The rule that says "none of these", and the calibration: numbers against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from winnow.share.calibration import expected_calibration_error, fit_temperature
from winnow.share.graph import _Likeness
from winnow.share.likeness import MOST_ANCHORS, fit_likeness


def clusters(n, *, seed=0, centres=((8, 0, 0), (0, 8, 0))):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(centres), n)
    return (np.array(centres)[labels] + rng.normal(0, 1, (n, 3))).astype(np.float32), labels


def test_what_lies_elsewhere_is_less_alike_than_nearly_all_unseen_photos():
    train, labels = clusters(400)
    valid, _ = clusters(300, seed=1)
    rule = fit_likeness(train, labels, valid, classes=2)
    elsewhere = np.array([[4, 4, 30], [4, 4, -30]], np.float32)
    assert (rule.of(elsewhere).max(1) < rule.threshold).all()
    assert (rule.of(valid).max(1) < rule.threshold).mean() <= 0.02


def test_the_nearest_class_is_named_first():
    train, labels = clusters(200)
    rule = fit_likeness(train, labels, train, classes=2)
    assert rule.of(np.array([[9, 0, 0], [0, 9, 0]], np.float32)).argmax(1).tolist() == [0, 1]


def test_the_graph_gives_the_same_numbers():
    train, labels = clusters(200)
    rule = fit_likeness(train, labels, train, classes=2)
    query = np.random.default_rng(3).normal(0, 5, (20, 3)).astype(np.float32)
    assert np.allclose(_Likeness(rule)(torch.from_numpy(query)).numpy(), rule.of(query), atol=1e-5)


def test_a_rare_class_keeps_its_anchors():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 5000 + [1] * 4)
    rule = fit_likeness(
        rng.normal(0, 1, (5004, 3)).astype(np.float32), labels, np.zeros((2, 3), np.float32), classes=2
    )
    assert rule.owner.sum(0).tolist() == [MOST_ANCHORS - 4, 4]


def test_a_class_of_one_photo_is_compared_with_that_photo():
    train, labels = np.eye(3, dtype=np.float32), np.array([0, 0, 1])
    rule = fit_likeness(train, labels, train, classes=3)
    assert rule.nearest == 1 and rule.of(train).argmax(1).tolist() == [0, 0, 1]


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, (4000, 3))
    p = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    assert fit_temperature(true * 4, labels, np.ones(3)) == pytest.approx(4, rel=0.1)
    assert fit_temperature(true / 2, labels, np.ones(3)) == pytest.approx(0.5, rel=0.1)
    sharp = np.exp(true * 4) / np.exp(true * 4).sum(1, keepdims=True)
    assert expected_calibration_error(p, labels) < 0.03 < 0.15 < expected_calibration_error(sharp, labels)
