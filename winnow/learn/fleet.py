"""Frozen features on many workers: Ray Data spreads the files, this process writes the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from winnow.cluster import map_on_ray
from winnow.images import BadImage
from winnow.learn.features import BATCH, Encoder
from winnow.learn.pixels import read_pixels


def features_on_ray(
    files: Mapping[str, Path],  # by SHA-256; every machine must see them under these paths
    *,
    backbone: str,
    size: int,
    method: str,
    address: str = "local",
    workers: int | None = None,  # one a core of the cluster, unless given
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batches of (hashes, features (n, d)), the same numbers as on one machine; raises `BadImage`."""
    rows = ({"sha": sha, "file": str(Path(file).absolute())} for sha, file in files.items())
    arguments = (backbone, size, method)
    batch: dict[str, np.ndarray] = {}
    for row in map_on_ray(rows, _Worker, arguments, address=address, workers=workers, batch_size=BATCH):
        if row["error"]:
            raise BadImage(row["error"])
        batch[row["sha"]] = np.frombuffer(row["features"], np.float32)
        if len(batch) == BATCH:
            yield list(batch), np.stack(list(batch.values()))
            batch = {}
    if batch:
        yield list(batch), np.stack(list(batch.values()))


class _Worker:
    """One network in one process, held to one thread: the cluster's parallelism is Ray's."""

    def __init__(self, backbone: str, size: int, method: str):
        self.encode, self.size, self.method = Encoder(backbone, size, threads=1), size, method

    def __call__(self, batch: dict) -> dict:
        pixels, errors = zip(*(self._read(file) for file in batch["file"]), strict=True)
        good = [picture for picture in pixels if picture is not None]
        rows = iter(self.encode(np.stack(good)) if good else ())
        features = [b"" if error else next(rows).tobytes() for error in errors]
        return {"sha": batch["sha"], "features": features, "error": list(errors)}

    def _read(self, file: str) -> tuple[np.ndarray | None, str]:
        try:
            return read_pixels(file, self.size, self.method), ""
        except BadImage as error:
            return None, str(error)
