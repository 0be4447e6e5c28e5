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
    """Count `model`'s training cost a photo (3, size, size) and measure the machine. Takes about two seconds.

    What is frozen costs its forward pass only. The backward pass is counted layer by layer: torch's own counter takes
    a depthwise convolution's for a full one, ten times too much for an EfficientNet.
    """
    device = next(model.parameters()).device
    seen = _Seen()
    hooks = [m.register_forward_hook(seen) for m in model.modules() if _is_leaf(m)]
    try:
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    elsewhere = max(counter.get_total_flops() - seen.forward, 0)  # attention's products: two of them go back
    return Floor(seen.forward + seen.backward + 3 * elsewhere, seen.bytes, *_machine(device))


class _Seen:
    """A forward hook that adds up what each layer costs: FLOPs forward and backward, bytes of activations."""

    forward = backward = bytes = 0

    def __call__(self, layer: torch.nn.Module, inputs: tuple, out) -> None:
        if not isinstance(out, torch.Tensor):
            return
        # each activation is written and read once forward; backward reads it, and writes and reads its gradient
        self.bytes += (5 if out.requires_grad else 2) * out.nbytes
        if isinstance(layer, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)):
            flops = 2 * out.numel() * layer.weight[0].numel()
            self.forward += flops
            self.backward += flops * (layer.weight.requires_grad + inputs[0].requires_grad)


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
