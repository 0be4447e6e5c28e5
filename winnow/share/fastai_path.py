"""The predictor's fastai half, apart from prediction.py so that importing that loads neither torch nor fastai."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import fastai.callback.fp16  # noqa: F401  gives learners `to_fp32`
import numpy as np
import torch
from fastai.learner import Learner
from fastai.vision.augment import RandomResizedCrop, Resize
from PIL import Image

from winnow.share.models import FORMAT, ForeignExport
from winnow.share.parts import Parts


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
        if getattr(step, "split_idx", None) == 0:  # for the training side alone
            continue
        if isinstance(step, Resize) and step.size[0] == step.size[1]:
            return int(step.size[0]), str(step.method)
        if isinstance(step, RandomResizedCrop) and step.size[0] == step.size[1]:
            extra = math.ceil(step.size[0] * step.val_xtra / 8) * 8
            return int(step.size[0]) + extra, "squish"
    return None, "squish"


def logits_of(learn: Learner, images: Sequence[Image.Image], facts: dict, *, tta: int = 0) -> np.ndarray:
    """Logits (n, K) of upright RGB `images`; with `tta` > 0 the log of fastai's averaged probabilities."""
    kind = learn.dls.valid_ds.tls[0].types[-1]
    kind = kind[0] if isinstance(kind, (list, tuple)) else kind
    dl = learn.dls.test_dl([kind(i.copy()) for i in images], bs=len(images), num_workers=0)
    heads = getattr(learn, "winnow_heads", None) or []
    parts = Parts(learn.model.eval(), next(iter(dl))[0]).eval() if heads else None
    batches = [batch[0] for batch in dl]
    with torch.inference_mode():
        main = (
            _tta(learn, dl, tta)
            if tta
            else np.concatenate([learn.model.eval()(x).float().numpy() for x in batches])
        )
        vectors = [parts.vectors(parts.maps(x)).float().numpy() for x in batches] if heads else []
    return np.concatenate([main, *(np.concatenate(vectors) @ w.T + b for w, b in heads)], 1)


def _tta(learn: Learner, dl, passes: int) -> np.ndarray:
    with learn.no_bar(), learn.no_logging():
        return np.log(learn.tta(dl=dl, n=passes)[0].numpy().clip(1e-12))
