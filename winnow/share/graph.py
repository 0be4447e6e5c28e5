"""The learner's network as an ONNX graph that takes plain pixels (its inputs and outputs: models.py)."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from fastai.data.transforms import Normalize
from torch import nn

from winnow.share.likeness import Likeness
from winnow.share.models import KEY, ExportError
from winnow.share.parts import Parts


class Unexportable(ExportError):
    """The learner's model or preprocessing is not of the kind that the light path can repeat."""


class Served(nn.Module):
    """From uint8 pixels (n, size, size, 3) to the outputs named in `names`."""

    def __init__(
        self, learn, size: int, heads: list = (), likeness: Likeness | None = None, *, vectors: bool = False
    ):
        super().__init__()
        mean, std = _normalisation(learn.dls)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.sample = torch.randint(0, 255, (2, size, size, 3), dtype=torch.uint8)
        self.parts = Parts(_plain_copy(learn.model), self._input(self.sample)).eval()
        self.heads = nn.ModuleList(_linear(w, b) for w, b in heads)
        self.likeness = likeness and _Likeness(likeness)
        self.has_vectors = self.parts.kind != "whole"
        self.has_cells = self.parts.kind in ("timm", "fastai")
        wanted = {"cells": self.has_cells, "likeness": likeness, "vectors": vectors and self.has_vectors}
        self.names = ["logits", *(name for name, want in wanted.items() if want)]

    def _input(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    @torch.inference_mode()
    def grid(self) -> list[int] | None:
        """Rows and columns of the last feature map, or None."""
        return list(self.parts.maps(self._input(self.sample)).shape[2:]) if self.has_cells else None

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, in the order of `names`."""
        x = self._input(pixels)
        if not self.has_vectors:
            return (self.parts.model(x),)
        maps = self.parts.maps(x)
        vectors = self.parts.vectors(maps)
        made = {
            "logits": lambda: torch.cat(
                [self.parts.logits(maps), *(head(vectors) for head in self.heads)], 1
            ),
            "cells": lambda: self.parts.cells(maps),
            "likeness": lambda: self.likeness(vectors),
            "vectors": lambda: vectors,
        }
        return tuple(made[name]() for name in self.names)


class _Likeness(nn.Module):
    """`likeness.Likeness` as a part of the graph."""

    def __init__(self, likeness: Likeness):
        super().__init__()
        for name in ("mean", "scale", "anchors", "owner"):
            self.register_buffer(name, torch.from_numpy(getattr(likeness, name)).float())
        self.nearest = likeness.nearest

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, k) from (n, d): the same as `Likeness.of`."""
        z = nn.functional.normalize((vectors - self.mean) / self.scale, dim=1)
        near = z @ self.anchors.T  # (n, anchors), cosines
        apart = near.unsqueeze(1) - 3 * (1 - self.owner.T.unsqueeze(0))  # other classes' anchors come last
        return apart.topk(self.nearest, dim=2).values.mean(2)


def write_graph(served: Served, path: Path) -> None:
    """Write `served` as ONNX, any number of photos a run; raises `Unexportable`."""
    served.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch would rather use its newer exporter, which takes ten times as long
            torch.onnx.export(
                served, (served.sample,), str(path), dynamo=False, opset_version=17, input_names=["pixels"],
                output_names=served.names, dynamic_axes={n: {0: "photos"} for n in ["pixels", *served.names]},
            )  # fmt: skip
    except Exception as e:  # torch's exporter raises many unrelated classes
        reason = (str(e).splitlines() or [""])[0]
        raise Unexportable(
            f"This model can't be written as ONNX ({type(e).__name__}: {reason}); learn.export() still can."
        ) from e
    settle_padding(path, served.sample.numpy())


def settle_padding(path: Path, pixels: np.ndarray) -> None:
    """Put numbers where the graph works out its padding from the size of the photos, which is always the same.

    TensorFlow's "same" padding, which EfficientNet's weights want, is written as a dozen nodes a convolution;
    ONNX Runtime can't join these with their neighbours, and the network takes twice the processor time.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    fixed = {one.name for one in graph.initializer}
    fixed |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    padding = [node for node in graph.node if node.op_type == "Pad" and node.input[1] not in fixed]
    for node, value in zip(padding, _values(model, [node.input[1] for node in padding], pixels), strict=True):
        node.input[1] = f"{node.name}_settled"
        graph.initializer.append(onnx.numpy_helper.from_array(value, node.input[1]))
    _drop_unused(graph)
    onnx.save(model, path)


def _values(model, names: list[str], pixels: np.ndarray) -> list[np.ndarray]:
    """What these inner results are for `pixels`."""
    import onnx
    import onnxruntime as ort

    if not names:
        return []
    open_model = copy.deepcopy(model)
    open_model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(open_model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {"pixels": pixels})


def _drop_unused(graph) -> None:
    """Take out nodes whose results nobody reads, then those that only they read."""
    wanted = {one.name for one in graph.output}
    while True:
        read = wanted | _read_in(graph)
        unused = [node for node in graph.node if not read.intersection(node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def _read_in(graph) -> set[str]:
    """The results that nodes take in, those inside of branches and loops too."""
    read = {name for node in graph.node for name in node.input}
    for inner in (part.g for node in graph.node for part in node.attribute if part.HasField("g")):
        read |= _read_in(inner) | {one.name for one in inner.output}
    return read


def write_facts(onnx_path: Path, facts: dict) -> None:
    """Put `facts` into the metadata of the ONNX file."""
    import onnx

    model = onnx.load(onnx_path)
    onnx.helper.set_model_props(model, {KEY: json.dumps(facts, ensure_ascii=False)})
    onnx.save(model, onnx_path)


def _plain_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).cpu().float().eval()


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
    return layer


def _normalisation(dls) -> tuple[torch.Tensor, torch.Tensor]:
    for step in dls.valid.after_batch.fs:
        if isinstance(step, Normalize):
            return step.mean.reshape(1, 3, 1, 1).cpu().float(), step.std.reshape(1, 3, 1, 1).cpu().float()
    return torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
