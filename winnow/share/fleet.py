"""One predictor on many workers: Ray Data spreads the photos over a machine's cores or a cluster.

Answers come as they are ready, in no order; a worker that is killed is started again and its photos answered again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from winnow.cluster import connect_ray
from winnow.share.prediction import Prediction, TargetAnswer, load_predictor


def predict_on_ray(
    export: Path | str,  # every machine must see it under this path, and the photos too
    files: Iterable[Path | str],
    *,
    address: str = "local",  # "local", "auto" or "host:port"
    workers: int | None = None,  # one a core of the cluster, unless given
    batch_size: int = 32,  # photos
) -> Iterator[tuple[Path, Prediction]]:
    """Each photo with its `Prediction`, the same as `Predictor.predict` gives; no heat maps.

    Raises `NoRay` or `NoCluster` from `winnow.cluster`, and what `load_predictor` raises, before any work begins.
    """
    export = Path(export).resolve()
    load_predictor(export, threads=1)
    rows = [{"path": str(Path(file).resolve())} for file in files]
    if not rows:
        return
    ray = connect_ray(address)
    ray.data.DataContext.get_current().enable_progress_bars = False
    pool = ray.data.ActorPoolStrategy(size=workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
    blocks = max(1, -(-len(rows) // batch_size))
    answers = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _Worker, fn_constructor_args=(str(export),), batch_size=batch_size, compute=pool, num_cpus=1
    )
    for row in answers.iter_rows():
        yield Path(row["path"]), _prediction(row)


class _Worker:
    """One predictor in one process, held to one thread: the cluster's parallelism is Ray's."""

    def __init__(self, export: str):
        self.predictor = load_predictor(export, threads=1)

    def __call__(self, batch: dict) -> dict:
        paths = [str(path) for path in batch["path"]]
        answers = self.predictor.predict([Path(path) for path in paths], batch_size=len(paths))
        return {"path": paths, "answer": [json.dumps(_plain(answer)) for answer in answers]}


def _plain(answer: Prediction) -> dict:
    targets = {name: [a.label, a.probabilities] for name, a in answer.targets.items()}
    return {
        "label": answer.label,
        "probabilities": answer.probabilities,
        "error": answer.error,
        "targets": targets,
        "unlike": answer.unlike,
        "nearest": answer.nearest,
    }


def _prediction(row: dict) -> Prediction:
    plain = json.loads(row["answer"])
    targets = {name: TargetAnswer(*answer) for name, answer in plain["targets"].items()}
    return Prediction(**{**plain, "targets": targets, "nearest": tuple(plain["nearest"])})
