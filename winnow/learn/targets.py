"""Several targets from one photo: one body, a head for each target, a loss and metrics for each.

fastai's own way (`n_inp=1` and a list of `get_y`) breaks `predict`, `show_results` and interpretation, and its `tta`
returns raw logits. Here the learner that trains has all heads; `view(learn, name)` is an ordinary fastai learner of
one target that shares the weights, so everything that fastai can do works on each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import BalancedAccuracy, F1Score, error_rate
from fastai.torch_core import set_seed
from fastai.vision.augment import Normalize

from winnow.catalog import Catalog
from winnow.learn.blocks import LabelOf, PhotoLoader, photo_block
from winnow.learn.callbacks import FrozenNorm, LossWatch
from winnow.learn.loaders import MEAN_STD, augmentations, hold, make_loaders, ready_pixels, resizes
from winnow.learn.training import depth_groups, make_head, make_learner, probe_of, suit_device

LABEL = "label"  # the name of the class folders among the targets


class NoSuchTarget(ValueError):
    """A target's name isn't one of the dataset's, or no photo has a value for it."""


class Heads(torch.nn.Module):
    """A head for each target on the same features: (n, d) to a list of logits (n, k)."""

    def __init__(self, heads: Sequence[torch.nn.Module]):
        super().__init__()
        self.heads = torch.nn.ModuleList(heads)

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        """One tensor of logits for each target."""
        return [head(features) for head in self.heads]


class SumOfLosses(torch.nn.Module):
    """Cross entropy of each target, weighted and added."""

    def __init__(self, weights: Sequence[float]):
        super().__init__()
        self.weights = list(weights)

    def forward(self, logits: list[torch.Tensor], *labels: torch.Tensor) -> torch.Tensor:
        """The training loss of one batch."""
        losses = [
            torch.nn.functional.cross_entropy(_plain(x), _plain(y))
            for x, y in zip(logits, labels, strict=True)
        ]
        return sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))


def make_multi_learner(
    catalog: Catalog,
    targets: Sequence[str] = (LABEL,),  # "label" is the class folders
    *,
    backbone: str = "tf_efficientnet_lite0",
    weights: Sequence[float] | None = None,  # how much each target's loss counts; None: equally
    augment: str = "upright",
    **loading,  # make_loaders' size, method, batch_size, seed
) -> Learner:
    """A learner with one body and a probed head for each target; photos must have a value for all of them.

    `learn.targets` maps each name to its ordinary one-target learner (see `view`). Raises `NoSuchTarget`.
    """
    _check_targets(catalog, targets)
    names = [None if name == LABEL else name for name in targets]
    single = [make_loaders(catalog, target=name, augment=augment, **loading) for name in names]
    views = [make_learner(dls, backbone=backbone, probe=None) for dls in single]
    body = views[0].model[0]
    heads = [make_head(body.num_features, len(d.vocab), probe=probe_of(d, backbone=backbone)) for d in single]
    dls = _joint_loaders(single, augment)
    set_seed(dls.recipe["seed"])
    learn = Learner(
        dls,
        torch.nn.Sequential(body, Heads(heads)),
        loss_func=SumOfLosses(weights or [1.0] * len(targets)),
        splitter=depth_groups,
        metrics=[partial_metric(_accuracy, i, name) for i, name in enumerate(targets)],
        train_bn=False,
        cbs=[FrozenNorm(), LossWatch()],
    )
    for one, head in zip(views, heads, strict=True):
        one.model = torch.nn.Sequential(body, head)
        one.metrics = [error_rate, F1Score(average="macro"), BalancedAccuracy()]
        one.loss_func = CrossEntropyLossFlat()
        one.recipe["targets"] = list(targets)
    learn.targets = dict(zip(targets, views, strict=True))
    learn.recipe = {**views[0].recipe, "targets": list(targets)}
    return suit_device(learn)


def view(learn: Learner, name: str) -> Learner:
    """The ordinary fastai learner of one target: it shares the weights, so training `learn` changes its answers."""
    if name not in learn.targets:
        raise NoSuchTarget(f"This learner has no target {name!r}: choose one of {', '.join(learn.targets)}.")
    return learn.targets[name]


def predict_targets(learn: Learner, photo) -> dict[str, dict[str, float]]:
    """Each target's probabilities by value, for one photo (a path, bytes or an image)."""
    answers = {}
    for name, one in learn.targets.items():
        with one.no_bar(), one.no_logging():
            probs = one.predict(photo)[2]
        answers[name] = dict(zip(one.dls.vocab, probs.tolist(), strict=True))
    return answers


def fine_tune_targets(learn: Learner, epochs: int = 3, *, lr: float = 4e-4, depth: str = "late") -> None:
    """One cycle over all heads; raises `LossNotANumber` or `NothingLearned` as `fine_tune` does."""
    learn.freeze_to({"head": -1, "late": 1, "all": 0}[depth])
    learn.fit_one_cycle(epochs, slice(lr / 4, lr), wd=0.01, pct_start=0.2)
    learn.loss_watch.check()


def _joint_loaders(single: Sequence[DataLoaders], augment: str) -> DataLoaders:
    """Loaders that give all labels of a photo, for the photos that every target knows."""
    first, recipe = single[0], single[0].recipe
    catalog = first.catalog
    values = [{f: d.vocab[int(y)] for ds in (d.train_ds, d.valid_ds) for f, y in _rows(ds)} for d in single]
    train, valid = (
        [f for f in ds.items if all(f in v for v in values)] for ds in (first.train_ds, first.valid_ds)
    )
    photos = [photo for photo in catalog.photos() if catalog.file(photo.path) in {*train, *valid}]
    pixels = ready_pixels(catalog, photos, recipe["size"], recipe["train_method"])
    block = DataBlock(
        blocks=(
            photo_block(pixels),
            *[CategoryBlock(vocab=list(d.vocab)) for d in single],
        ),
        n_inp=1,
        splitter=lambda files: (list(range(len(train))), list(range(len(train), len(files)))),
        get_y=[LabelOf(v) for v in values],
        item_tfms=resizes(recipe["size"], recipe["train_method"]),
        batch_tfms=[*augmentations(augment), Normalize.from_stats(*MEAN_STD)],
        dl_type=PhotoLoader,
    )
    dls = block.dataloaders(
        [*train, *valid], bs=recipe["batch_size"], num_workers=first.train.fake_l.num_workers,
        dl_kwargs=[{"seed": recipe["seed"]}, {}],
    )  # fmt: skip
    dls.catalog, dls.recipe = catalog, recipe
    return hold(dls, catalog, photos, pixels, size=recipe["size"], method=recipe["train_method"])


def _rows(dataset):
    return ((file, dataset.tls[1][i]) for i, file in enumerate(dataset.items))


def _accuracy(logits, *labels, place: int):
    return (logits[place].argmax(dim=1) == labels[place]).float().mean()


def partial_metric(function, place: int, name: str):
    """A metric of one target, named after it in fastai's table."""
    metric = partial(function, place=place)
    metric.__name__ = f"{name}_accuracy"
    return metric


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(torch.Tensor)


def _check_targets(catalog: Catalog, targets: Sequence[str]) -> None:
    known = [LABEL, *catalog.target_names()]
    for name in targets:
        if name not in known:
            raise NoSuchTarget(f"No photo has a target {name!r}: this dataset has {', '.join(known)}.")
