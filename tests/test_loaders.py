"""Loaders: the frozen split, photos as Winnow reads them, and sampling that stays what it was."""

import shutil

import numpy as np
import pytest
import torch
from fastai.vision.core import PILImage, PILMask
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from winnow.catalog import Catalog
from winnow.images import open_image, resize
from winnow.learn.blocks import UprightPhoto
from winnow.learn.crops import cut, draw_boxes, source_size
from winnow.learn.loaders import TooFewPhotos, UnknownChoice, make_loaders, sampling_weights

SIZE = 48


@pytest.fixture(scope="module")
def catalog(cell_photos, tmp_path_factory):
    """40 functional and 16 defective cells, with their type as a second target."""
    folder = tmp_path_factory.mktemp("loaders") / "cells"
    for label, count in (("functional", 40), ("defective", 16)):
        (folder / label).mkdir(parents=True)
        for file in sorted((cell_photos / label).glob("*.png"))[:count]:
            shutil.copy(file, folder / label)
    catalog = Catalog(folder)
    catalog.set_target("type", {p.path: "mono" if i % 2 else "poly" for i, p in enumerate(catalog.photos())})
    return catalog


def loaders(catalog, **options):
    return make_loaders(catalog, **{"size": SIZE, "batch_size": 8, "augment": "none", **options})


def as_pixels(dls, tensor):
    """A normalised image tensor back as uint8 (size, size, 3)."""
    return ((tensor.permute(1, 2, 0) * 0.5 + 0.5) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("method", ["squish", "crop", "pad", "random"])
def test_the_validation_side_sees_exactly_what_resize_gives(catalog, method):
    dls = loaders(catalog, method=method)
    batch = next(iter(dls.valid))[0].as_subclass(torch.Tensor)
    for tensor, file in zip(batch, dls.valid_ds.items, strict=False):
        expected = np.asarray(resize(open_image(file), SIZE, dls.recipe["method"]))
        assert np.array_equal(as_pixels(dls, tensor), expected)


def test_a_photo_taken_with_the_camera_turned_is_upright(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(5):
            photo = Image.new("RGB", (40, 60), (number, 0, 0))
            photo.paste((255, 255, 255), (0, 0, 40, 30))  # white above
            exif = Image.Exif()
            exif[0x0112] = 6
            photo.rotate(90, expand=True).save(tmp_path / label / f"{number}.jpg", exif=exif, quality=95)
    dls = loaders(Catalog(tmp_path), batch_size=4, method="crop")
    pixels = as_pixels(dls, dls.valid.one_batch()[0][0].as_subclass(torch.Tensor))
    assert pixels[:20].mean() > 240 > 20 > pixels[-20:].mean()


def test_removing_a_photo_moves_no_other_to_the_other_side(catalog, tmp_path):
    shutil.copytree(catalog.folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".winnow"))
    copy = Catalog(tmp_path / "copy")
    before = {file.name for file in loaders(copy).valid_ds.items}
    gone = copy.photos(split="train")[0].path
    copy.remove(gone)
    copy.apply()
    assert {file.name for file in loaders(copy).valid_ds.items} == before


def test_weights_lift_the_rare_class_and_survive_a_new_loader(catalog):
    dls = loaders(catalog, weighted=1.0)
    again = dls.train.new(bs=4).new(after_item=None)
    rare = dls.vocab.o2i["defective"]
    labels = np.array([int(dls.train_ds.tls[1][i]) for i in range(len(dls.train_ds))])
    for loader in (dls.train, again):
        drawn = np.concatenate([labels[loader.get_idxs()] for _ in range(60)])
        assert abs((drawn == rare).mean() - 0.5) < 0.04
    assert (labels == rare).mean() < 0.35


def test_the_recipe_says_how_far_sampling_moved_the_classes(catalog):
    recipe = loaders(catalog, weighted=1.0).recipe
    assert recipe["sampled_prior"] == pytest.approx([0.5, 0.5])
    assert recipe["prior"] == pytest.approx([13 / 45, 32 / 45], abs=0.03)
    plain = loaders(catalog).recipe
    assert plain["prior"] == plain["sampled_prior"]


@pytest.mark.parametrize("weighted", [False, 0.5])
def test_the_order_of_an_epoch_comes_from_the_seed_alone(catalog, weighted):
    one, two, other = (loaders(catalog, weighted=weighted, seed=seed) for seed in (5, 5, 6))
    np.random.seed(0)  # what else draws random numbers doesn't matter
    torch.manual_seed(1)
    assert list(one.train.get_idxs()) == list(two.train.get_idxs()) != list(other.train.get_idxs())


def test_weights_are_the_counts_to_a_power():
    weights = sampling_weights(["a"] * 4 + ["b"], True)
    assert weights[4] / weights[0] == pytest.approx(2) and sampling_weights(["a", "b"], False) is None


def test_too_many_or_too_few_weights_are_refused(catalog):
    dls = loaders(catalog)
    for count in (3, len(dls.train_ds) + 1):
        with pytest.raises(ValueError, match="weights were given"):
            dls.train.new(weights=np.ones(count))


def test_a_loader_that_asks_for_shuffled_false_as_tta_does_is_not_shuffled(catalog):
    dls = loaders(catalog, weighted=True)
    assert list(dls.train.new(shuffled=False, drop_last=False).get_idxs()) == list(range(len(dls.train_ds)))


def test_a_further_target_gives_its_own_labels(catalog):
    dls = loaders(catalog, target="type")
    types = {catalog.file(p.path): p.targets["type"] for p in catalog.photos()}
    assert list(dls.vocab) == ["mono", "poly"]
    assert [dls.vocab[int(dls.valid_ds.tls[1][i])] for i in range(4)] == [
        types[f] for f in dls.valid_ds.items[:4]
    ]


def test_a_training_side_smaller_than_a_batch_is_refused_with_a_size_that_works(catalog):
    with pytest.raises(TooFewPhotos, match=r"fewer than one batch of 64.*batch_size to"):
        loaders(catalog, batch_size=64)


def test_a_misspelled_choice_is_refused_with_the_choices(catalog):
    with pytest.raises(UnknownChoice, match="METHOD can't be 'squash': choose one of squish"):
        loaders(catalog, method="squash")
    with pytest.raises(UnknownChoice, match="AUGMENT"):
        loaders(catalog, augment="lots")


def test_one_class_alone_is_refused(cell_photos, tmp_path):
    (tmp_path / "only").mkdir()
    for file in sorted((cell_photos / "functional").glob("*.png"))[:12]:
        shutil.copy(file, tmp_path / "only")
    with pytest.raises(TooFewPhotos, match="two classes"):
        loaders(Catalog(tmp_path), batch_size=4)


@pytest.mark.parametrize("target", [None, "type"])
def test_batches_cut_from_held_photos_are_those_that_the_items_give(catalog, target):
    dls = loaders(catalog, weighted=True, target=target)
    for side in (dls.train, dls.valid):
        assert side.held is not None
        plain = side.new(after_item=side.after_item)  # goes through the items
        assert plain.held is None
        rows = list(range(0, side.n, 3))
        for fast, slow in zip(side.create_batches(rows), plain.create_batches(rows), strict=True):
            assert [type(part) for part in fast] == [type(part) for part in slow]
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(fast, slow, strict=True))


def test_a_pipeline_sees_each_photo_anew(catalog):
    assert loaders(catalog, pipeline=lambda image: {"image": image}).train.held is None
    both = loaders(catalog, method="random", pipeline=lambda image: {"image": image})
    assert both.train.held is None


def test_random_crops_are_cut_from_the_photos_and_differ_from_batch_to_batch(catalog):
    held = loaders(catalog, method="random").train.held
    rows = list(range(6))
    crops, labels = held.batch(rows, None)
    assert crops.shape == (6, 3, SIZE, SIZE) and crops.min() >= 0 and crops.max() <= 255
    assert labels.tolist() == held.labels[0][:6].tolist()
    assert not torch.equal(crops, held.batch(rows, None)[0])


def test_the_same_seed_cuts_the_same_crops(catalog):
    first, again = (loaders(catalog, method="random", seed=3).train.one_batch()[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, loaders(catalog, method="random", seed=4).train.one_batch()[0])


def test_a_crop_from_the_cache_is_that_of_the_whole_photo(catalog):
    """Wide photos too: the cache holds them squished, a box is drawn in their own proportions."""
    file = catalog.file(catalog.photos()[0].path)
    photo = open_image(file).resize((300, 200))
    box = torch.tensor([[0.25, 0.1, 0.6, 0.8]])
    squished = torch.from_numpy(np.array(resize(photo, source_size(SIZE)))).permute(2, 0, 1)[None]
    found = cut(squished, box, SIZE)[0].permute(1, 2, 0).numpy()
    whole = photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(75, 20, 255, 180))
    assert np.abs(found - np.asarray(whole, float)).mean() < 4  # of 255: two resizes blur twice
    shifted = cut(squished, box + torch.tensor([[0.05, 0.05, 0, 0]]), SIZE)[0].permute(1, 2, 0).numpy()
    assert np.abs(shifted - np.asarray(whole, float)).mean() > 2 * np.abs(found - np.asarray(whole)).mean()


@given(st.lists(st.tuples(st.integers(8, 6000), st.integers(8, 6000)), min_size=1, max_size=8))
def test_a_box_lies_in_its_photo(shapes):
    """And shows half of it at least, where the photo isn't so long that a box of a usual shape can't."""
    boxes = draw_boxes(shapes)
    assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 1 + 1e-6).all()
    for (width, height), (_, _, w, h) in zip(shapes, boxes.tolist(), strict=True):
        if max(width, height) < 1.2 * min(width, height) and min(width, height) > 100:
            assert w * h > 0.49


def test_other_photos_are_not_answered_from_the_held_ones(catalog):
    dls = loaders(catalog)
    files = list(dls.valid_ds.items)[:2]
    other = dls.test_dl(files[::-1])
    shown = as_pixels(dls, other.one_batch()[0][0].as_subclass(torch.Tensor))
    assert np.array_equal(shown, np.asarray(resize(open_image(files[1]), SIZE, "squish")))


def test_a_photo_of_fastais_own_kind_is_taken_for_one():
    """As `learn.predict(PILImage.create(…))` of fastai's book gives it; a class of fastai's that is no photo isn't."""
    photo = PILImage.create(np.zeros((8, 8, 3), np.uint8))
    assert isinstance(photo, UprightPhoto) and isinstance(UprightPhoto.create(photo), UprightPhoto)
    assert not isinstance(PILMask.create(np.zeros((8, 8), np.uint8)), UprightPhoto)
