"""Frozen features of a pretrained backbone, computed once for each image and kept by its hash.

On a CPU the backbone runs in ONNX Runtime, without torch; on a GPU it runs in torch, in half precision.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from winnow.images import sha256_of
from winnow.learn.backbones import BACKBONES, make_backbone, onnx_backbone, weights_mark
from winnow.learn.pixels import pixel_batches
from winnow.learn.store import RowStore

if TYPE_CHECKING:
    from winnow.catalog import Catalog

__all__ = ["BACKBONES", "extract_features", "features_of_pixels"]

BATCH = 16  # fits the processor's cache; larger batches are slower on a CPU


def extract_features(
    source: Catalog | Sequence[Path | str],
    *,
    backbone: str = "tf_efficientnet_lite0",
    size: int = 192,
    method: str = "squish",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,  # called with (done, total) after each batch
) -> np.ndarray:
    """Features (n, d) float32 of a catalog's photos, or of image files, in their order.

    Each image is computed once for each `backbone`, `size` (pixels) and `method` ("squish", "crop", "pad") and kept
    by its SHA-256 under `cache` (a catalog's own cache folder, unless given). Several processes may do this at once;
    what a killed one had finished is kept. Raises `BadImage` for a file that can't be read.
    """
    files, hashes = _files_and_hashes(source)
    folder = cache or getattr(source, "cache", None)
    store = (
        RowStore(Path(folder) / f"features/{backbone}-{size}-{method}-{weights_mark(backbone)}")
        if folder
        else None
    )
    reading = {"size": size, "method": method, "cache": folder}
    return _fill(files, hashes, store, _Encoder(backbone, size), progress, **reading)


def features_of_pixels(pixels: np.ndarray, *, backbone: str = "tf_efficientnet_lite0") -> np.ndarray:
    """Features (n, d) float32 of resized images (n, size, size, 3) uint8; nothing is cached."""
    encode = _Encoder(backbone, pixels.shape[1])
    parts = [encode(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)


def _files_and_hashes(source) -> tuple[list[Path], list[str]]:
    if hasattr(source, "photos"):
        photos = source.photos()
        return [source.file(photo.path) for photo in photos], [photo.sha256 for photo in photos]
    files = [Path(file) for file in source]
    return files, [sha256_of(file) for file in files]


def _fill(files, hashes, store, encode, progress, **reading) -> np.ndarray:
    """Rows for `hashes`: those that `store` knows are read, the others computed and appended batch by batch."""
    known = store.read(set(hashes)) if store else {}
    missing = {sha: file for sha, file in zip(hashes, files, strict=True) if sha not in known}
    done, total = len(hashes) - len(missing), len(hashes)
    for batch, pixels in pixel_batches(missing, batch_size=BATCH, **reading):
        fresh = dict(zip(batch, encode(pixels), strict=True))
        known.update(fresh)
        if store:
            store.append(fresh)
        done += len(batch)
        if progress:
            progress(min(done, total), total)
    return np.stack([known[sha] for sha in hashes]) if hashes else np.zeros((0, 0), np.float32)


class _Encoder:
    """Pixels (n, size, size, 3) uint8 to features (n, d) float32; the network is loaded at the first call."""

    def __init__(self, backbone: str, size: int):
        self.backbone, self.size, self.run = backbone, size, None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if self.run is None:
            self.run = self._on_gpu() if _has_gpu() else self._on_cpu()
        return self.run(np.ascontiguousarray(pixels))

    def _on_cpu(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # waiting threads must not burn the cores that decode the next batch
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(onnx_backbone(self.backbone, size=self.size))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"pixels": pixels})[0]

    def _on_gpu(self):
        import torch

        from winnow.learn.backbones import input_scale

        model = make_backbone(self.backbone, size=self.size).cuda().to(memory_format=torch.channels_last)
        mean, std = (
            torch.tensor(values, device="cuda").view(1, 3, 1, 1) * 255 for values in input_scale(model)
        )

        @torch.inference_mode()
        def run(pixels):
            images = torch.from_numpy(pixels).cuda(non_blocking=True).permute(0, 3, 1, 2)
            with torch.autocast("cuda", torch.float16):
                return model((images - mean) / std).float().cpu().numpy()

        return run


def _has_gpu() -> bool:
    """Whether torch sees a CUDA device; torch is only imported on a machine that has the driver's tool."""
    if not shutil.which("nvidia-smi"):
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
