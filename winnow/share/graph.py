"""The learner's network as an ONNX graph that takes plain pixels (its inputs and outputs: prediction.py)."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import torch
from fastai.data.transforms import Normalize
from torch import nn

from winnow.share.prediction import KEY, ExportError


class Unexportable(ExportError):
    """The learner's model or preprocessing is not of the kind that the light path can repeat."""


def write_facts(onnx_path: Path, facts: dict) -> None:
    """Put `facts` into the metadata of the ONNX file."""
    import onnx

    model = onnx.load(onnx_path)
    onnx.helper.set_model_props(model, {KEY: json.dumps(facts, ensure_ascii=False)})
    onnx.save(model, onnx_path)


def write_graph(learn, size: int, path: Path) -> list[int] | None:
    """Write the model as ONNX; the grid (rows, cols) of its last feature map, or None."""
    model = Served(copy.deepcopy(learn.model), *_normalisation(learn.dls)).cpu().eval()
    sample = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        grid = model.grid(sample)
    names = ["logits", *(["cells"] if grid else [])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch would rather use its newer exporter, which takes ten times as long
            torch.onnx.export(
                model, (sample,), str(path), dynamo=False, opset_version=17, input_names=["pixels"],
                output_names=names, dynamic_axes={n: {0: "photos"} for n in ["pixels", *names]},
            )  # fmt: skip
    except Exception as e:  # torch's exporter raises many unrelated classes
        raise Unexportable(
            f"This model can't be written as ONNX ({type(e).__name__}: {e}); learn.export() still can."
        ) from e
    return grid


def _normalisation(dls) -> tuple[torch.Tensor, torch.Tensor]:
    for step in dls.valid.after_batch.fs:
        if isinstance(step, Normalize):
            return step.mean.reshape(1, 3, 1, 1).cpu(), step.std.reshape(1, 3, 1, 1).cpu()
    return torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


class Served(nn.Module):
    """The model from uint8 pixels (n, size, size, 3) to logits and, with a pooled head, each cell's own logits."""

    def __init__(self, model: nn.Module, mean: torch.Tensor, std: torch.Tensor):
        super().__init__()
        self.model, self.parted = model, isinstance(model, nn.Sequential) and len(model) == 2
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def _input(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def grid(self, pixels: torch.Tensor) -> list[int] | None:
        """The rows and columns of the last feature map where the head can judge each place alone."""
        if not self.parted:
            return None
        maps = self.model[0](self._input(pixels))
        self.parted = maps.ndim == 4 and maps.shape[2] * maps.shape[3] > 1 and self._judges_cells(maps)
        return list(maps.shape[2:]) if self.parted else None

    def _judges_cells(self, maps: torch.Tensor) -> bool:
        try:
            return self._cells(maps).shape[-1] == self.model[1](maps).shape[-1]
        except RuntimeError:  # a head without pooling wants the whole map
            return False

    def _cells(self, maps: torch.Tensor) -> torch.Tensor:
        """The head on each place of `maps` (n, c, h, w) as if it were the photo: (n, h*w, k).

        For a linear head this is its class activation map (Zhou et al. 2016, arXiv 1512.04150), bias included.
        """
        n, c, h, w = maps.shape
        return self.model[1](maps.permute(0, 2, 3, 1).reshape(-1, c, 1, 1)).reshape(n, h * w, -1)

    def forward(self, pixels: torch.Tensor):
        """Logits (n, k), and cells (n, h*w, k) where `grid` found them."""
        x = self._input(pixels)
        if not self.parted:
            return self.model(x)
        maps = self.model[0](x)
        return self.model[1](maps), self._cells(maps)
