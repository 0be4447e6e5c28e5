"""The exported model made small for the way to a browser: half-precision weights, full-precision arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

MIN_WEIGHTS = 1024  # smaller tensors (biases, scales) stay as they are
WEIGHTS = ("float16", "float32")


def pack_model(path: Path, *, weights: str = "float16") -> bytes:
    """The ONNX file at `path` without metadata, constants folded, its weights stored as `weights`.

    A cast beside each float16 tensor turns it back when the session is made, so it runs as fast as float32
    does and only the weights are rounded. Needs `onnx` and ONNX Runtime.
    """
    import onnx

    if weights not in WEIGHTS:
        raise ValueError(f"Unknown weights {weights!r}: use {' or '.join(WEIGHTS)}.")
    model = onnx.load_from_string(_folded(path))
    del model.metadata_props[:]
    if weights == "float16":
        _halve_weights(model.graph)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _folded(path: Path) -> bytes:
    """The graph after ONNX Runtime's portable optimisations: what is constant is computed here, once."""
    from tempfile import TemporaryDirectory

    import onnxruntime as ort

    with TemporaryDirectory() as work:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(work) / "folded.onnx")
        ort.InferenceSession(_fixed(path), options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def _fixed(path: Path) -> bytes:
    """The model for one photo at a time: with the batch known, all shapes are, and padding becomes constant."""
    import onnx

    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_value = 1
    return model.SerializeToString()


def _halve_weights(graph) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < MIN_WEIGHTS:
            continue
        name, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(_rounded(values), half))
        casts.append(helper.make_node("Cast", [half], [name], f"widen_{name}", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To float16; what lies beyond its range becomes the largest number it has."""
    limit = np.finfo(np.float16).max
    return np.clip(values, -limit, limit).astype(np.float16)
