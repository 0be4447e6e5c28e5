"""One training on several GPUs, machines or processes: what `accelerate launch` starts, fastai's `distrib_ctx` joins.

    accelerate launch --num_processes 2 -m winnow.cli train FOLDER

Started that way every process runs the same program; without it nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from fastai.distributed import DistributedDL  # also patches Learner.distrib_ctx
from fastai.learner import Learner


class NoAccelerate(ImportError):
    """Several processes were started and accelerate, which joins them, is not installed: it is in the extra `scale`."""


def count_processes() -> int:
    """How many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that prints, records and exports."""
    return int(os.environ.get("RANK", "0")) == 0


def main_first():
    """A context that the main process goes through first, so that the others find its caches and its split."""
    if count_processes() < 2:
        return nullcontext()
    return _joined().main_process_first()


@contextmanager
def spread(learn: Learner) -> Iterator[Learner]:
    """Fits inside train together with the other processes: each step averages the gradients of all.

    The effective batch is `batch_size` times the number of processes. Batch norm is not synchronised: its
    statistics are frozen. fastai hands the photos' order round through CUDA; on a CPU it goes round as it is.
    """
    if count_processes() < 2:
        yield learn
        return
    _joined()
    on_cpu = torch.device(learn.dls.device).type == "cpu"
    with _plain_broadcast() if on_cpu else nullcontext(), learn.distrib_ctx(sync_bn=False, cpu=on_cpu):
        yield learn


def _joined():
    """accelerate's view of the processes, which connects them at the first call and gives each its GPU."""
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise NoAccelerate(
            "Several processes were started, and accelerate is not installed: pip install 'winnow-images[scale]'."
        ) from error
    return PartialState(cpu=not torch.cuda.is_available())


@contextmanager
def _plain_broadcast() -> Iterator[None]:
    """fastai's `DistributedDL` sends indices by `.cuda()`, which a machine without a GPU refuses."""

    def broadcast(self, indices, rank: int) -> list[int]:
        sent = torch.tensor(list(indices))
        torch.distributed.broadcast(sent, rank)
        return sent.tolist()

    before = DistributedDL._broadcast
    DistributedDL._broadcast = broadcast
    try:
        yield
    finally:
        DistributedDL._broadcast = before
