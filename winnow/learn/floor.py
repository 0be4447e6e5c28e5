"""The least time that training could take on this machine, counted before anything is tuned: FLOPs and bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Floor:
    """What one photo costs in training, and what this machine can do at best (both measured, not from a data sheet)."""

    flops: float  # of forward and backward, a photo
    bytes: float  # of activations written and read, forward and backward, a photo
    flops_a_second: float  # of a large matrix product
    bytes_a_second: float  # of a large copy, read and written

    @property
    def seconds(self) -> float:
        """A photo can't be faster than the slower of computing and moving."""
        return max(self.flops / self.flops_a_second, self.bytes / self.bytes_a_second)

    @property
    def bound(self) -> str:
        """Which of the two it is."""
        return "compute" if self.flops / self.flops_a_second > self.bytes / self.bytes_a_second else "memory"

    def tell(self, measured: float) -> str:
        """One sentence: the floor, what was measured (seconds a photo), and the share of the limit reached."""
        return (
            f"{self.flops / 1e9:.2f} GFLOP and {self.bytes / 1e6:.0f} MB a photo: {1 / self.seconds:.0f} photos a "
            f"second at most ({self.bound}); measured {1 / measured:.0f}, {self.seconds / measured:.0%} of it"
        )


def count_floor(model: torch.nn.Module, size: int) -> Floor:
    """Count `model`'s training cost a photo (3, size, size) and measure the machine. Takes about two seconds."""
    device = next(model.parameters()).device
    photo = torch.zeros(1, 3, size, size, device=device)
    written = []
    hooks = [
        m.register_forward_hook(lambda *a: written.append(_size(a[2])))
        for m in model.modules()
        if _is_leaf(m)
    ]
    try:
        with FlopCounterMode(display=False) as counter:
            out = model(photo)
            (out.sum() if isinstance(out, torch.Tensor) else sum(o.sum() for o in out)).backward()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
    # each activation is written and read once forward; backward reads it, and writes and reads its gradient
    return Floor(counter.get_total_flops(), 5 * sum(written), *_machine(device))


def _machine(device: torch.device) -> tuple[float, float]:
    n = 4096 if device.type == "cuda" else 1024
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn(n, n, device=device, dtype=kind)
    source, target = (torch.empty(32 << 20, dtype=torch.float32, device=device) for _ in range(2))
    return 2 * n**3 / _best(lambda: a @ a, device), 2 * source.nbytes / _best(
        lambda: target.copy_(source), device
    )


def _best(work, device: torch.device, repeats: int = 8) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def _is_leaf(module: torch.nn.Module) -> bool:
    return not any(True for _ in module.children())


def _size(out) -> int:
    return out.nbytes if isinstance(out, torch.Tensor) else 0
