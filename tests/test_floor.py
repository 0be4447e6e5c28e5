"""The floor of training: counted right, told in one sentence."""

import pytest
import torch

from winnow.learn.floor import Floor, count_floor


def test_flops_of_a_plain_layer_are_those_one_counts_by_hand():
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 100))
    floor = count_floor(layer, 8)
    forward = 2 * 3 * 8 * 8 * 100
    assert floor.flops == pytest.approx(
        2 * forward
    )  # the input needs no gradient: forward and the weights' gradient


def test_the_sentence_names_the_limit_and_the_share_of_it_that_was_reached():
    floor = Floor(flops=2e9, bytes=1e6, flops_a_second=100e9, bytes_a_second=10e9)
    assert floor.bound == "compute" and floor.seconds == pytest.approx(0.02)
    assert floor.tell(0.04) == (
        "2.00 GFLOP and 1 MB a photo: 50 photos a second at most (compute); measured 25, 50% of it"
    )
