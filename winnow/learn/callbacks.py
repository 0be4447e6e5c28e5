"""fastai callbacks that turn silent failures into errors, and keep batch norm as it was pretrained."""

from __future__ import annotations

import torch
from fastai.callback.core import Callback, CancelFitException, TrainEvalCallback

NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


class LossNotANumber(ArithmeticError):
    """The loss became infinite or not a number, so the weights are worthless."""


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
        self.fault = None

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
