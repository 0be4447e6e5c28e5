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


def test_a_depthwise_layer_counts_its_own_products_and_a_frozen_one_only_forward():
    depthwise = torch.nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
    model = torch.nn.Sequential(depthwise, torch.nn.Conv2d(3, 4, 1, bias=False))
    first, second = 2 * 8 * 8 * 3 * 9, 2 * 8 * 8 * 4 * 3
    assert count_floor(model, 8).flops == 2 * first + 3 * second  # the photo itself needs no gradient
    whole = count_floor(model, 8).bytes
    depthwise.requires_grad_(False)
    assert count_floor(model, 8).flops == first + 2 * second
    assert count_floor(model, 8).bytes == whole - 3 * 4 * 3 * 8 * 8


def test_attention_is_counted_though_no_layer_of_its_own_does_it():
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64)
    layers = sum(
        p.numel() for name, p in vit.blocks.named_parameters() if name.endswith("weight") and p.dim() == 2
    )
    tokens = (64 // 16) ** 2 + 1
    assert count_floor(vit, 64).flops > 3 * 2 * tokens * layers + 12 * 3 * 4 * tokens**2 * 192 * 0.9


def test_the_sentence_names_the_limit_and_the_share_of_it_that_was_reached():
    floor = Floor(flops=2e9, bytes=1e6, flops_a_second=100e9, bytes_a_second=10e9)
    assert floor.bound == "compute" and floor.seconds == pytest.approx(0.02)
    assert floor.tell(0.04) == (
        "2.00 GFLOP and 1 MB a photo: 50 photos a second at most (compute); measured 25, 50% of it"
    )
