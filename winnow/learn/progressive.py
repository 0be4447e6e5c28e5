"""Progressive resizing: small pictures first, where steps are cheap, then larger ones; one learner throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from winnow.learn.backbones import UnfitBackbone
from winnow.learn.callbacks import Accumulate
from winnow.learn.loaders import make_loaders
from winnow.learn.several import count_processes
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


class UnfitSchedule(ValueError):
    """A schedule asks for what can't be done."""


def train_progressively(
    learn: Learner,
    schedule: Sequence[Step | tuple[int, int]],  # (size, epochs) is enough
    *,
    lr: float = 4e-4,
    one_cycle: bool = False,  # one rise and fall of the learning rate over all steps, instead of one in each
    cbs: Sequence[Callback] | None = None,
    **options,  # fine_tune's
) -> list[Outcome]:
    """Fine-tune `learn` at each size of `schedule` in turn; sampling weights, seed and split stay as they were.

    Each step is kept only if it wins at its own size (as in `fine_tune`); in one cycle there is one outcome, at the
    last size. Afterwards the learner's loaders and recipe are those of the last step. Raises `UnfitBackbone` before
    any training where the network can't read a size, `UnfitSchedule` for a rate of a step's own in one cycle.
    """
    steps = [step if isinstance(step, Step) else Step(*step) for step in schedule]
    for step in steps:
        _check_size(learn, step.size)
    fit = _in_one_cycle if one_cycle else _one_by_one
    outcomes = fit(learn, steps, lr=lr, cbs=list(cbs or ()), **options)
    learn.recipe["schedule"] = [[step.size, step.epochs] for step in steps]
    return outcomes


def _one_by_one(
    learn: Learner, steps: list[Step], *, lr: float, cbs: list[Callback], **options
) -> list[Outcome]:
    outcomes = []
    for number, step in enumerate(steps):
        set_size(learn, step.size, method=step.method, batch_size=step.batch_size)
        own = [Accumulate(step.accumulate)] if step.accumulate > 1 else []
        rate = step.lr or lr / 2**number
        outcomes.append(fine_tune(learn, step.epochs, lr=rate, cbs=[*own, *cbs], **options))
    return outcomes


def _in_one_cycle(
    learn: Learner, steps: list[Step], *, lr: float, cbs: list[Callback], **options
) -> list[Outcome]:
    if any(step.lr for step in steps):
        raise UnfitSchedule(
            "In one cycle all steps share the learning rate: leave the steps' own lr out and give lr, "
            "or leave one_cycle out."
        )
    if count_processes() > 1:
        raise UnfitSchedule("Several processes can't change the size within a cycle: leave one_cycle out.")
    plan = []
    for step in steps:
        set_size(learn, step.size, method=step.method, batch_size=step.batch_size)
        plan += [(learn.dls, step.accumulate)] * step.epochs
    accumulate, last = Accumulate(1), learn.dls
    own = [Resized(plan, accumulate), accumulate]
    try:
        return [fine_tune(learn, len(plan), lr=lr, cbs=[*own, *cbs], **options)]
    finally:
        learn.dls = last  # wherever the fit was stopped


class Resized(Callback):
    """Each epoch has loaders and an accumulation of its own."""

    order = -20  # before fastai asks for the epoch's loader

    def __init__(self, plan: Sequence[tuple[DataLoaders, int]], accumulate: Accumulate):  # one for each epoch
        self.plan, self.accumulate = plan, accumulate

    def before_epoch(self):
        """Take up the epoch's loaders."""
        self.learn.dls, self.accumulate.batches = self.plan[self.epoch]


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
