"""What a training run itself says about labels: how far the model believed each one while it learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.learner import Learner
from fastcore.basics import patch

from winnow.images import sha256_of


@patch(as_prop=True)
def label_margins(self: Learner) -> dict[str, float] | None:
    """Mean margin of each training photo's label, by SHA-256, if `MarginWatch` watched; an export carries none."""
    return self.dls.__dict__.get("label_margins")


class MarginWatch(Callback):
    """Keeps the mean margin of each training photo's label (its logit less the best other one) over the epochs.

    A wrong label is learned late or never, so its margin stays low (area under the margin: Pleiss et al., arXiv
    2001.10528). `learn.label_margins` has the result after each epoch, and `find_suspects(catalog, learn=learn)`
    takes it as one more view. Fits add up: `fine_tune`'s two count as one run. Models with several targets are left
    alone.
    """

    run_after = TrainEvalCallback

    def __init__(self):
        self.sums, self.seen = np.zeros(0), np.zeros(0)

    def before_fit(self):
        """Room for each training photo; what an earlier fit on the same photos saw is kept."""
        count = len(self.dls.train_ds) if hasattr(self.dls, "train_ds") else 0
        if count != len(self.sums):
            self.sums, self.seen = np.zeros(count), np.zeros(count)

    def before_train(self):
        """The loader's order of this epoch is read batch by batch."""
        self.at = 0

    @torch.no_grad()
    def after_pred(self):
        """Add the margins of one training batch."""
        order = getattr(self.dl, "_DataLoader__idxs", None)
        if not self.training or order is None or not _is_single(self.pred, self.yb):
            return
        labels = self.yb[0].long()
        rows = np.asarray(order[self.at : self.at + len(labels)])
        self.at += len(labels)
        np.add.at(self.sums, rows, _margins(self.pred.float(), labels).cpu().numpy())
        np.add.at(self.seen, rows, 1)

    def after_epoch(self):
        """Hand out the means so far."""
        if not self.seen.any():
            return
        hashes = self.dls.__dict__.get("_train_hashes") or _hashes(self.dls)
        self.dls.__dict__["_train_hashes"] = hashes
        known = np.flatnonzero(self.seen)
        self.dls.__dict__["label_margins"] = {
            hashes[row]: float(self.sums[row] / self.seen[row]) for row in known
        }


def _is_single(pred, targets) -> bool:
    return isinstance(pred, torch.Tensor) and pred.ndim == 2 and len(targets) == 1 and targets[0].ndim == 1


def _margins(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return own[:, 0] - others.max(dim=1).values


def _hashes(dls) -> list[str]:
    """SHA-256 of each training item, from the catalog where there is one."""
    files = [Path(item) for item in dls.train_ds.items]
    catalog = dls.__dict__.get("catalog")
    known = {catalog.file(photo.path): photo.sha256 for photo in catalog.photos()} if catalog else {}
    return [known.get(file) or sha256_of(file) for file in files]
