"""The predictor's fastai half, apart from prediction.py so that importing that loads neither torch nor fastai."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fastai.callback.fp16  # noqa: F401  gives learners `to_fp32`
import numpy as np
import torch
from fastai.learner import Learner
from fastai.vision.augment import RandomResizedCrop, Resize
from fastai.vision.core import PILImage
from PIL import Image

from winnow.share.prediction import FORMAT, ForeignExport


def load(path: Path) -> Learner:
    """The learner in `path`, on the CPU; raises `ForeignExport` for a file that holds something else."""
    try:
        learn = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as e:  # unpickling raises whatever the pickle holds
        reason = (str(e).splitlines() or [""])[0]
        raise ForeignExport(
            f"{path} can't be read as a fastai export ({type(e).__name__}: {reason}): make it again with "
            "export_learner(learn), and keep labelling functions in an importable module."
        ) from e
    if not isinstance(learn, Learner):
        raise ForeignExport(f"{path} holds no fastai learner: make one with export_learner(learn).")
    learn.dls.cpu()
    return learn.to_fp32() if hasattr(learn, "mixed_precision") else learn


def plain_facts(learn: Learner) -> dict:
    """The facts of a learner that `export_learner` did not make: labels and resize, nothing calibrated."""
    labels = [str(v) for v in _main_vocab(learn.dls)]
    size, method = resize_of(learn.dls)
    return {
        "format": FORMAT,
        "targets": [_plain_target("label", labels)],
        "size": size,
        "method": method,
        "cells": None,
        "unlike": None,
        "knows": f"This model tells apart: {', '.join(labels)}.",
    }


def _main_vocab(dls) -> Sequence:
    vocab = dls.vocab
    return vocab[0] if (vocab and isinstance(vocab[0], (list, tuple))) or hasattr(vocab[0], "o2i") else vocab


def _plain_target(name: str, labels: list[str]) -> dict:
    return {"name": name, "labels": labels, "temperature": 1.0, "prior": [1.0] * len(labels)}


def resize_of(dls) -> tuple[int | None, str]:
    """How validation photos are resized before the batch: pixels a side and method; (None, "squish") if not at all."""
    for step in dls.valid.after_item.fs:
        if isinstance(step, Resize) and step.size[0] == step.size[1]:
            return int(step.size[0]), str(step.method)
        if isinstance(step, RandomResizedCrop) and step.size[0] == step.size[1]:
            extra = -(-int(step.size[0] * step.val_xtra) // 8) * 8
            return int(step.size[0]) + extra, "squish"
        if getattr(step, "winnow_resize", None):  # a transform of winnow.learn.loaders says it itself
            return step.winnow_resize
    return None, "squish"


def logits_of(learn: Learner, images: Sequence[Image.Image], facts: dict, *, tta: int = 0) -> np.ndarray:
    """Logits (n, K) of upright RGB `images`; with `tta` > 0 the log of fastai's averaged probabilities."""
    dl = learn.dls.test_dl([PILImage(i.copy()) for i in images], bs=len(images), num_workers=0)
    if tta:
        with learn.no_bar(), learn.no_logging():
            return np.log(learn.tta(dl=dl, n=tta)[0].numpy().clip(1e-12))
    model = learn.model.eval()
    with torch.inference_mode():
        return np.concatenate([_with_extra(learn, model, batch[0], facts) for batch in dl])


def _with_extra(learn, model, x, facts: dict) -> np.ndarray:
    heads = getattr(learn, "winnow_heads", None)  # further targets: linear heads on the pooled features
    if heads is None:
        return model(x).float().numpy()
    maps = model[0](x)
    pooled = maps.mean((2, 3)).float().numpy()
    return np.concatenate([model[1](maps).float().numpy(), *[pooled @ w.T + b for w, b in heads]], 1)
