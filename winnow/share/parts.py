"""A learner's network taken apart where the app needs it: feature maps, the vector of a photo, logits."""

from __future__ import annotations

import torch
from torch import nn


class Parts(nn.Module):
    """A `Sequential(body, head)` seen as three steps: pixels to feature maps, maps to a vector, vector to logits.

    Reads timm bodies (`forward_features`, `forward_head`) and fastai's (maps out, pooling in the head). A body that
    gives vectors at once has no maps, and another kind of model has logits alone.
    """

    def __init__(self, model: nn.Module, sample: torch.Tensor):
        super().__init__()
        self.model, self.kind = model, "whole"
        if isinstance(model, nn.Sequential) and len(model) == 2:
            self.kind = self._kind_of(sample)

    @torch.inference_mode()
    def _kind_of(self, x: torch.Tensor) -> str:
        body, expected = self.model[0], self.model(x)
        for kind in ("timm", "fastai"):
            self.kind = kind
            try:
                maps = self.maps(x)
                fits = maps.ndim == 4 and maps.shape[2] * maps.shape[3] > 1
                if (
                    fits
                    and torch.allclose(self.logits(maps), expected, atol=1e-4)
                    and self.cells(maps) is not None
                ):
                    return kind
            except (AttributeError, RuntimeError, TypeError):
                continue
        return "vector" if body(x).ndim == 2 else "whole"

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps (n, c, h, w), or vectors (n, d) of a body that has none."""
        return self.model[0].forward_features(x) if self.kind == "timm" else self.model[0](x)

    def vectors(self, maps: torch.Tensor) -> torch.Tensor:
        """One vector (n, d) a photo."""
        if self.kind == "timm":
            return self.model[0].forward_head(maps, pre_logits=True)
        return maps.mean((2, 3)) if self.kind == "fastai" else maps

    def logits(self, maps: torch.Tensor) -> torch.Tensor:
        """Logits (n, k)."""
        return self.model[1](maps if self.kind == "fastai" else self.vectors(maps))

    def cells(self, maps: torch.Tensor) -> torch.Tensor:
        """Each place of the maps judged as if it were the photo: (n, h*w, k).

        For a linear head this is its class activation map (Zhou et al. 2016, arXiv 1512.04150), bias included.
        """
        n, c, h, w = maps.shape
        return self.logits(maps.permute(0, 2, 3, 1).reshape(-1, c, 1, 1)).reshape(n, h * w, -1)
