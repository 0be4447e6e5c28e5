"""Progressive resizing: small pictures first, where steps are cheap, then larger ones; one learner throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fastai.learner import Learner

from winnow.learn.backbones import UnfitBackbone
from winnow.learn.callbacks import Accumulate
from winnow.learn.loaders import make_loaders
from winnow.learn.training import Outcome, fine_tune


@dataclass(frozen=True)
class Step:
    """One step of a schedule; what is None is as in the step before, but the learning rate, which is halved."""

    size: int
    epochs: int = 1
    method: str | None = None  # "squish", "crop", "pad", "random"
    lr: float | None = None
    batch_size: int | None = None
    accumulate: int = 1  # batches for each optimizer step, where the memory holds only small batches


def train_progressively(
    learn: Learner,
    schedule: Sequence[Step | tuple[int, int]],  # (size, epochs) is enough
    *,
    lr: float = 4e-4,
    **options,  # fine_tune's
) -> list[Outcome]:
    """Fine-tune `learn` at each size of `schedule` in turn; sampling weights, seed and split stay as they were.

    Each step is kept only if it wins at its own size (as in `fine_tune`). Afterwards the learner's loaders and recipe
    are those of the last step. Raises `UnfitBackbone` before any training where the network can't read a size.
    """
    steps = [step if isinstance(step, Step) else Step(*step) for step in schedule]
    for step in steps:
        _check_size(learn, step.size)
    outcomes = []
    for number, step in enumerate(steps):
        set_size(learn, step.size, method=step.method, batch_size=step.batch_size)
        rate = step.lr or lr / 2**number
        cbs = [Accumulate(step.accumulate)] if step.accumulate > 1 else None
        outcomes.append(fine_tune(learn, step.epochs, lr=rate, cbs=cbs, **options))
    learn.recipe["schedule"] = [[step.size, step.epochs] for step in steps]
    return outcomes


def set_size(
    learn: Learner, size: int, *, method: str | None = None, batch_size: int | None = None, **changes
) -> Learner:
    """Give `learn` loaders of another size; its other choices stay, sampling weights included."""
    given = {"method": method, "batch_size": batch_size}
    changes |= {name: value for name, value in given.items() if value is not None}
    learn.dls = make_loaders(learn.dls.catalog, **{**learn.dls.loading, "size": size, **changes})
    learn.recipe |= learn.dls.recipe
    return learn


def _check_size(learn: Learner, size: int) -> None:
    device = next(learn.model.parameters()).device
    learn.model.eval()
    try:
        with torch.inference_mode():
            learn.model(torch.zeros(1, 3, size, size, device=device))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it refused"
        raise UnfitBackbone(
            f"{learn.recipe['backbone']} can't read {size}×{size} images ({reason}): leave this size out."
        ) from error
