"""A fastai `Learner` that starts from the probe's head, and careful fine-tuning that is kept only if it wins."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.fp16 import *  # patches Learner.to_fp16 and to_bf16
from fastai.callback.schedule import *  # patches Learner.fit_one_cycle and lr_find
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import BalancedAccuracy, F1Score, error_rate
from fastai.torch_core import set_seed
from fastai.vision.learner import model_meta, vision_learner
from fastcore.basics import patch

from winnow.catalog import Catalog
from winnow.learn.backbones import make_backbone
from winnow.learn.callbacks import FrozenNorm, LossWatch
from winnow.learn.evaluation import Scores, evaluate
from winnow.learn.features import extract_features
from winnow.learn.loaders import make_loaders
from winnow.learn.memory import keep_memory
from winnow.learn.probe import Probe, fit_probe
from winnow.learn.several import is_main, main_first, spread


@dataclass(frozen=True)
class Outcome:
    """What a fine-tuning gave on the frozen split, beside the probe that it started from."""

    before: Scores = field(repr=False)
    after: Scores = field(repr=False)
    kept: str  # "fine-tuned" or "probe"
    seconds: float

    @property
    def scores(self) -> Scores:
        """Those of the weights that the learner now holds."""
        return self.after if self.kept == "fine-tuned" else self.before

    def __str__(self) -> str:
        return (
            f"macro-F1 {self.before.macro_f1:.3f} before, {self.after.macro_f1:.3f} after {self.seconds:.0f} s "
            f"of fine-tuning: the {self.kept} weights are kept"
        )


@patch(as_prop=True)
def catalog(self: Learner) -> Catalog | None:
    """The catalog that this learner's loaders read; an exported learner has none."""
    return self.dls.__dict__.get("catalog")


def make_learner(
    dls: DataLoaders,
    *,
    backbone: str = "tf_efficientnet_lite0",
    probe: Probe
    | str
    | None = "fit",  # the head to start from; "fit" fits one on the training side; None: random
    dropout: float = 0.0,
    loss_func=None,  # None: cross entropy
    metrics=None,  # None: error rate, macro-F1, balanced accuracy
    cbs=None,
) -> Learner:
    """A fastai `vision_learner` on a pretrained timm body whose head is the probe.

    Before any training it gives the probe's probabilities. `learn.recipe` says how it was made. Batch norm keeps its
    statistics; the body's early half is the first parameter group, its late half the second, the head the third.
    """
    set_seed(dls.recipe["seed"])
    size = dls.recipe["size"]
    body = make_backbone(backbone, size=size)
    if isinstance(probe, str):
        probe = probe_of(dls, backbone=backbone)
    arch = partial(_given_body, body)
    model_meta[arch] = {
        "cut": _whole,
        "split": depth_groups,
    }  # vision_learner forgets its own parameter `cut`
    try:
        learn = vision_learner(
            dls,
            arch,
            normalize=False,
            pretrained=False,
            n_out=len(dls.vocab),
            init=None,
            custom_head=make_head(body.num_features, len(dls.vocab), probe=probe, dropout=dropout),
            loss_func=loss_func,
            metrics=[error_rate, F1Score(average="macro"), BalancedAccuracy()]
            if metrics is None
            else metrics,
            train_bn=False,
            cbs=[FrozenNorm(), LossWatch(), *(cbs or [])],
        )
    finally:
        del model_meta[arch]
    learn.arch = partial(make_backbone, backbone, size=size)  # what an export can name
    learn.recipe = {**dls.recipe, "backbone": backbone, "temperature": 1.0}
    return suit_device(learn)


def probe_of(dls: DataLoaders, *, backbone: str = "tf_efficientnet_lite0") -> Probe:
    """A probe fitted on the training side of `dls`, with its sampling weights."""
    recipe, catalog = dls.recipe, dls.catalog
    photos = {catalog.file(photo.path): photo for photo in catalog.photos()}
    features = extract_features(
        catalog,
        photos=[photos[file] for file in dls.train_ds.items],
        backbone=backbone,
        size=recipe["size"],
        method=recipe["method"],
    )
    labels = [int(label) for label in _targets(dls.train_ds)]
    return fit_probe(
        features, labels, n_classes=len(dls.vocab), weights=dls.train.weights, seed=recipe["seed"]
    )


def make_head(
    width: int, n_out: int, *, probe: Probe | None = None, dropout: float = 0.0
) -> torch.nn.Sequential:
    """Dropout and one linear layer, which holds the probe's weights where there is one."""
    linear = torch.nn.Linear(width, n_out)
    if probe is not None:
        linear.weight.data = torch.from_numpy(probe.weight.astype(np.float32))
        linear.bias.data = torch.from_numpy(probe.bias.astype(np.float32))
    return torch.nn.Sequential(torch.nn.Dropout(dropout), linear)


def depth_groups(model: torch.nn.Module) -> list[list[torch.nn.Parameter]]:
    """fastai parameter groups: the body's early half, its late half, the head."""
    body, head = model[0], model[1]
    stages = [stage for child in body.children() for stage in _stages(child)]
    stages = [stage for stage in stages if any(True for _ in stage.parameters())]
    early = [p for stage in stages[: len(stages) // 2] for p in stage.parameters()]
    known = {id(p) for p in early}
    return [early, [p for p in body.parameters() if id(p) not in known], list(head.parameters())]


def fine_tune(
    learn: Learner,
    epochs: int = 8,
    *,
    lr: float = 4e-4,
    depth: str = "late",  # what is trained: "head", "late" (and the head), "all"
    weight_decay: float = 0.01,
    keep: str = "best",  # "best": the weights before or after, by macro-F1 on the validation side; "last"
    before: Scores | None = None,  # the learner's present scores, where they are known
    cbs=None,
) -> Outcome:
    """Train with one cycle, batch norm's statistics frozen; keep what wins on the frozen split.

    A careless fine-tuning of a good probe makes it worse (docs/learn.md has figures), hence the small rate and the
    comparison. Raises `LossNotANumber`, with the weights put back as they were.
    """
    start = copy.deepcopy(learn.model.state_dict())
    before, began = before or score(learn), time.perf_counter()
    if epochs == 0:
        return Outcome(before, before, "probe", 0.0)
    learn.freeze_to({"head": -1, "late": 1, "all": 0}[depth])
    try:
        with spread(learn):
            learn.fit_one_cycle(epochs, slice(lr / 4, lr), wd=weight_decay, pct_start=0.2, cbs=cbs)
        learn.loss_watch.check()
    except BaseException:
        learn.model.load_state_dict(start)
        raise
    seconds = time.perf_counter() - began
    after = score(learn)
    won = keep == "last" or after.macro_f1 > before.macro_f1
    if not won:
        learn.model.load_state_dict(start)
    learn.recipe["fine_tune"] = {"epochs": epochs, "lr": lr, "depth": depth, "weight_decay": weight_decay}
    return Outcome(before, after, "fine-tuned" if won else "probe", seconds)


def score(learn: Learner, ds_idx: int = 1) -> Scores:
    """Scores of a learner on its validation side (or `ds_idx`)."""
    with learn.no_bar(), learn.no_logging():
        probs, labels = learn.get_preds(ds_idx=ds_idx, reorder=True)
    return evaluate(labels.numpy(), probs.numpy(), list(learn.dls.vocab))


def train(
    catalog: Catalog,
    *,
    epochs: int = 8,
    backbone: str = "tf_efficientnet_lite0",
    lr: float = 4e-4,
    depth: str = "late",
    **loading,  # make_loaders' options
) -> Learner:
    """Loaders, probe and fine-tuning in one call; the run is recorded, and `learn.outcome` compares."""
    with main_first():
        learn = make_learner(make_loaders(catalog, **loading), backbone=backbone)
    learn.outcome = fine_tune(learn, epochs, lr=lr, depth=depth)
    if is_main():
        metrics = asdict(learn.outcome.scores) | {"seconds": learn.outcome.seconds}
        catalog.record_run("fine_tune", learn.recipe, metrics)
    return learn


def _given_body(body, pretrained: bool = True):
    return body


def _whole(model):
    return model


def _stages(child: torch.nn.Module) -> list[torch.nn.Module]:
    several = isinstance(child, (torch.nn.Sequential, torch.nn.ModuleList))
    return list(child.children()) if several else [child]


def _targets(dataset) -> list:
    return [dataset.tls[1][i] for i in range(len(dataset))]


def suit_device(learn: Learner) -> Learner:
    """Channels_last everywhere; half precision on a GPU; an allocator that keeps its memory on a CPU."""
    learn.add_cb(ChannelsLast())
    if torch.device(learn.dls.device).type == "cuda":
        return learn.to_bf16() if torch.cuda.is_bf16_supported() else learn.to_fp16()
    keep_memory()
    return learn
