"""fastai callbacks that turn silent failures into errors, and keep batch norm as it was pretrained."""

from __future__ import annotations

import torch
from fastai.callback.core import Callback, CancelBatchException, CancelFitException, TrainEvalCallback
from fastai.callback.fp16 import MixedPrecision

NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


class LossNotANumber(ArithmeticError):
    """The loss became infinite or not a number, so the weights are worthless."""


class NothingLearned(RuntimeError):
    """A fit ended without one step of the optimizer, so the weights are what they were."""


class FrozenNorm(Callback):
    """Batch norm uses its pretrained statistics in training: a small dataset's own ones cost more than they give."""

    run_after = TrainEvalCallback

    def before_train(self):
        """Put each batch norm into eval mode; the rest of the model is training."""
        for layer in self.learn.model.modules():
            if isinstance(layer, NORMS):
                layer.eval()


class LossWatch(Callback):
    """Stop at a loss that is no number, before the optimizer steps; `check()` then raises."""

    order = -5

    def before_fit(self):
        """A new fit starts without a fault."""
        self.fault, self.steps = None, 0

    def after_step(self):
        """Count."""
        self.steps += 1

    def after_loss(self):
        """Look at the training loss."""
        if self.training and not torch.isfinite(self.learn.loss_grad).all():
            self.fault = LossNotANumber(
                f"The loss is {float(self.learn.loss_grad):.3g} at step {self.train_iter + 1}: the weights are as they "
                "were before; train again with a smaller lr, or look for labels or photos that can't be right."
            )
            print(self.fault)
            raise CancelFitException

    def check(self) -> None:
        """Raise the fault of the last fit, if there was one."""
        if getattr(self, "fault", None):
            raise self.fault
        if not getattr(self, "steps", 0):
            raise NothingLearned(
                "Training ended without one optimizer step: with GradientAccumulation, lower its count below the "
                "number of training photos, or use winnow.learn.callbacks.Accumulate."
            )


class Accumulate(Callback):
    """Step once for every `batches` batches: the effect of a larger batch in the memory of a small one.

    Unlike fastai's `GradientAccumulation`, which counts samples, drops what is left at the end of a fit, and takes
    no step at all in a fit shorter than its count, each epoch's leftovers are stepped with their own mean.
    """

    order, run_valid = MixedPrecision.order - 4, False

    def __init__(self, batches: int):
        self.batches = batches

    def before_epoch(self):
        """Start counting."""
        self.waiting = 0

    def after_loss(self):
        """Each batch counts for its part of the step."""
        self.learn.loss_grad /= self.batches

    def before_step(self):
        """Go on to the next batch, unless the step is full or the epoch ends here."""
        self.waiting += 1
        if self.waiting < self.batches and self.iter < self.n_iter - 1:
            raise CancelBatchException
        for parameter in self.learn.model.parameters():
            if parameter.grad is not None:
                parameter.grad *= self.batches / self.waiting
        self.waiting = 0


class BestWeights(Callback):
    """Keep the weights of the epoch with the highest macro-F1 (or another metric), in memory.

    Unlike fastai's `SaveModelCallback` it can't load the stale file of an earlier run. Off by default: with few
    photos to check with, the best of many epochs is mostly the luckiest.
    """

    order, run_valid = 60, True

    def __init__(self, monitor: str = "f1_score"):
        self.monitor = monitor

    def before_fit(self):
        """Forget the last fit."""
        self.best, self.weights = -float("inf"), None

    def after_epoch(self):
        """Take a copy where the metric has risen."""
        names, values = self.recorder.metric_names[1:], self.recorder.log[1:]
        value = dict(zip(names, values, strict=False)).get(self.monitor)
        if value is not None and value > self.best:
            self.best, self.epoch_kept = value, self.epoch
            self.weights = {name: tensor.clone() for name, tensor in self.learn.model.state_dict().items()}

    def after_fit(self):
        """Put the best weights back; an exported callback carries none."""
        if self.weights is not None:
            self.learn.model.load_state_dict(self.weights)
            self.weights = None
