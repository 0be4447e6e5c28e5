"""Frozen features of a pretrained backbone, computed once for each image and kept by its hash.

On a CPU the backbone runs in ONNX Runtime, without torch; on a GPU it runs in torch, in half precision.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from winnow.images import sha256_of
from winnow.learn.backbones import BACKBONES, make_backbone, onnx_backbone, weights_mark
from winnow.learn.pixels import pixel_batches
from winnow.learn.store import Lease, RowStore

if TYPE_CHECKING:
    from winnow.catalog import Catalog, Photo

__all__ = ["BACKBONES", "extract_features", "features_of_pixels"]

Batches = Iterator[tuple[list[str], np.ndarray]]  # (hashes, rows (n, d))
BATCH = 16  # fits the processor's cache; larger batches are slower on a CPU


def extract_features(
    source: Catalog | Sequence[Path | str],
    *,
    photos: Sequence[Photo] | None = None,  # a catalog's photos, where not all are wanted
    backbone: str = "tf_efficientnet_lite0",
    size: int = 192,
    method: str = "squish",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,  # called with (done, total) after each batch
    ray_address: str
    | None = None,  # "local", "auto" or "host:port": Ray's workers compute; None: this process
) -> np.ndarray:
    """Features (n, d) float32 of a catalog's photos, or of image files, in their order.

    Each image is computed once for each `backbone`, `size` (pixels) and `method` ("squish", "crop", "pad") and kept
    by its SHA-256 under `cache` (a catalog's own cache folder, unless given). Several processes may do this at once;
    what a killed one had finished is kept. With Ray every machine must see the files under the same paths.
    Raises `BadImage` for a file that can't be read, and `NoRay` or `NoCluster`.
    """
    files, hashes = _files_and_hashes(source, photos)
    folder = cache or getattr(source, "cache", None)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    store = (
        RowStore(Path(folder) / f"features/{backbone}-{size}-{method}-{weights_mark(backbone)}")
        if folder
        else None
    )
    if ray_address:
        from winnow.learn.fleet import features_on_ray

        compute = partial(features_on_ray, backbone=backbone, size=size, method=method, address=ray_address)
    else:
        compute = partial(_here, Encoder(backbone, size), size=size, method=method, cache=folder)
    return _fill(files, hashes, store, compute, progress)


def features_of_pixels(pixels: np.ndarray, *, backbone: str = "tf_efficientnet_lite0") -> np.ndarray:
    """Features (n, d) float32 of resized images (n, size, size, 3) uint8; nothing is cached."""
    encode = Encoder(backbone, pixels.shape[1])
    parts = [encode(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)


def _files_and_hashes(source, photos: Sequence[Photo] | None) -> tuple[list[Path], list[str]]:
    if hasattr(source, "photos"):
        photos = source.photos() if photos is None else photos
        return [source.file(photo.path) for photo in photos], [photo.sha256 for photo in photos]
    files = [Path(file) for file in source]
    return files, [sha256_of(file) for file in files]


def _here(encode: Encoder, files: dict[str, Path], **reading) -> Batches:
    for batch, pixels in pixel_batches(files, batch_size=BATCH, **reading):
        yield batch, encode(pixels)


def _fill(files, hashes, store, compute, progress) -> np.ndarray:
    """Rows for `hashes`: those that `store` knows are read, the others computed and appended batch by batch."""
    places: dict[str, list[int]] = {}
    for place, sha in enumerate(hashes):
        places.setdefault(sha, []).append(place)
    known = store.read(set(places), copy=False) if store else {}
    table, done, lease = None, 0, Lease()
    for sha, row in known.items():
        table = np.empty((len(hashes), len(row)), np.float32) if table is None else table
        table[places[sha]] = row
        done += len(places[sha])
        lease.looked_at(row)
    missing = {sha: files[at[0]] for sha, at in places.items() if sha not in known}
    for batch, rows in compute(missing) if missing else ():
        table = np.empty((len(hashes), rows.shape[1]), np.float32) if table is None else table
        for sha, row in zip(batch, rows, strict=True):
            table[places[sha]] = row
            done += len(places[sha])
        if store:
            store.append(dict(zip(batch, rows, strict=True)))
        if progress:
            progress(done, len(hashes))
    return np.zeros((0, 0), np.float32) if table is None else table


class Encoder:
    """Pixels (n, size, size, 3) uint8 to features (n, d) float32; the network is loaded at the first call."""

    def __init__(self, backbone: str, size: int, *, threads: int = 0):
        self.backbone, self.size, self.threads, self.run = backbone, size, threads, None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if self.run is None:
            self.run = self._on_gpu() if _has_gpu() else self._on_cpu()
        return self.run(np.ascontiguousarray(pixels))

    def _on_cpu(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads
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
